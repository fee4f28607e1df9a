"""What a bundle's inference.json is run with: which files, and what its ids are set to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.data.dicom_seg import SEG_FORMAT
from common.data.label_scheme import LabelScheme
from common.data.plan import plan_file, read_plan
from common.engines.launch import check_given
from common.errors import InputError
from tools.bundle_files import in_words
from tools.bundle_process import as_word
from tools.configuration import read_configuration

__all__ = ["OPTIONS", "BundleSettings"]

# The ids that have a name of their own here.
OPTIONS = {
    "bundle_root": "MODEL",
    "input": "INPUT",
    "output_dir": "--output",
    "checkpoint": "--weights",
    "output_format": "--format",
    "mask_format": "--format",
}
_REMEDY = "take it from the bundle's release"
# What --format may be, by the id that it sets.
_FORMATS = {
    "output_format": {"nifti": "nii.gz", "mha": "mha", "nrrd": "nrrd", "dicom-seg": SEG_FORMAT},
    "mask_format": {"video": "video", "png": "png"},
}


class BundleSettings:
    """Configuration files and ids for one run of a bundle.

    Settings that belong to the weights (``model.json`` beside them) are applied. Where the weights are those of
    another network of the bundle (FUnet's ``model``), so is the configuration file of that name.

    Args:
        root: the bundle's folder.
        weights: a file of weights; None: the bundle's own.
        fast: apply the bundle's ``fast.json``.
        ids: ids of inference.json and what they are set to, which goes before all other settings.

    Attributes:
        files: the configuration files, in the order in which they are laid over one another.
        ids: what their ids are set to.

    Raises:
        InputError: a configuration cannot be read, an id is not known or cannot be set to its value, the bundle has no
            faster mode, or the settings beside the weights cannot be used.
    """

    def __init__(
        self,
        root: Path,
        weights: str | os.PathLike | None = None,
        fast: bool = False,
        ids: Mapping[str, Any] | None = None,
    ) -> None:
        self.root, self.weights = root, _absolute(weights or root / "models" / "model.pt")
        self.files = [root / "configs" / "inference.json"]
        self._defaults = read_configuration(self.files[0], _REMEDY)
        given = dict(ids or {})
        if named := sorted(given.keys() & OPTIONS.keys()):
            raise InputError(named[0], f"is {OPTIONS[named[0]]} here", f"pass it as {OPTIONS[named[0]]}")
        plan = read_plan(self.weights)
        self._lay_over(plan.get("model"))
        if fast:
            self._make_fast()
        self._check(given)
        compared = self._defaults.get("plan", {})  # what a run has to have in common with its weights' training
        own = {name: value for name, value in plan.items() if name in compared and name in self}
        scheme = own.get("label_scheme")
        if scheme is not None and "num_classes" in self:
            own["num_classes"] = self._channels(scheme)
        self.ids = {"bundle_root": str(root), "checkpoint": self.weights} | own | given
        self._check(self.ids)

    def __contains__(self, name: str) -> bool:
        """Whether the bundle has such an id."""
        return name in self._defaults

    def set(self, **ids: Any) -> None:
        """Set further ids, where they were not set yet.

        Raises:
            InputError: an id cannot be set to its value.
        """
        self._check(ids)
        self.ids = ids | self.ids

    def set_format(self, word: str | None) -> None:
        """Choose the format of the results.

        Args:
            word: for scans ``nifti``, ``mha``, ``nrrd`` or ``dicom-seg``, for video ``video`` or ``png``; None: what
                suits the input.

        Raises:
            InputError: the bundle does not write it.
        """
        if word is None:
            return
        name = next(name for name in _FORMATS if name in self)
        if word not in _FORMATS[name]:
            problem, choice = f"is nothing that {self.root.name} writes", in_words(list(_FORMATS[name]))
            raise InputError(f"--format {word}", problem, f"choose {choice}")
        self.set(**{name: _FORMATS[name][word]})

    def _lay_over(self, model: Any) -> None:
        if "model" not in self or not isinstance(model, str) or model == self._defaults["model"]:
            return
        file = self.root / "configs" / f"{Path(model).name}.json"
        if not file.is_file():
            where = plan_file(self.weights)
            raise InputError(where, f"is of the model {model}, which this bundle does not have", "pass other --weights")
        self._add(file)

    def _make_fast(self) -> None:
        file = self.root / "configs" / "fast.json"
        if not file.is_file():
            raise InputError(
                "--fast", f"{self.root.name} has no faster mode (on CUDA it uses half precision anyway)", "leave it out"
            )
        self._add(file)

    def _add(self, file: Path) -> None:
        self.files.append(file)
        self._defaults |= read_configuration(file, _REMEDY)

    def _channels(self, scheme: Any) -> int:
        try:
            return LabelScheme.load(str(scheme)).num_channels
        except ValueError as error:
            raise InputError(
                plan_file(self.weights), str(error), "pass the weights with their own model.json"
            ) from error

    def _check(self, ids: Mapping[str, Any]) -> None:
        check_given({name: as_word(value) for name, value in ids.items()}, self._defaults)


def _absolute(path: str | os.PathLike) -> str:
    return os.path.abspath(os.path.expanduser(path))
