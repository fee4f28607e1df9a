"""A bundle's training as MONAI Label's task."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monailabel.interfaces.datastore import Datastore
from monailabel.tasks.train.bundle import BundleTrainTask
from monailabel.utils.others.generic import device_list

from common.errors import InputError
from tools.monailabel.bundles import WEIGHTS, settings_of

__all__ = ["TrainedBundle"]

_PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff")


class TrainedBundle(BundleTrainTask):
    """Train a bundle as its ``train.json`` does, on the final labels of the studies, from the weights that are there.

    The best weights become the bundle's ``models/model.pt``; all else that a training writes goes to a folder outside.

    Args:
        folder: the bundle's folder.
        conf: the server's settings.
        output: each training makes a folder of its own in it.
        dimension: what the images have to be: 2 for pictures, 3 for volumes.
    """

    def __init__(self, folder: Path, conf: Mapping[str, str], output: Path, dimension: int) -> None:
        self.folder, self.output, self.dimension = folder, output, dimension
        super().__init__(str(folder), dict(conf), load_strict=True)

    def config(self) -> dict[str, Any]:
        weights = sorted((path.name for path in (self.folder / "models").glob("*.pt")), key=len)
        return {
            "device": device_list(),
            "pretrained": True,
            "max_epochs": 50,
            "val_split": 0.2,
            "model_filename": weights or [WEIGHTS],
        }

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        names = request.get("model_filename") or WEIGHTS
        weights = self.folder / "models" / Path(names if isinstance(names, str) else names[0]).name
        # Several GPUs would need files in the bundle's folder.
        given = {**request, "model_filename": weights.name, "multi_gpu": False, "force_multi_gpu": False}
        self.bundle_config = self._load_bundle_config(self.bundle_path, self.bundle_config_path)
        self._settings = settings_of(weights, self.bundle_config)
        for name, value in self._settings.items():
            self.bundle_config[name] = value
        if not weights.is_file() or not given.get("pretrained", True):
            self._check_stages()
        return super().__call__(given, datastore)

    def _check_stages(self) -> None:
        """Refuse to train the last stage of a pipeline from nothing, in which the others would stay as they begin."""
        network = self.bundle_config.get_parsed_content(self.const.key_network_def())
        stages = getattr(network, "untrained", list)()
        if len(stages) > 1:
            raise InputError(
                self.folder / "models" / WEIGHTS,
                f"there are no weights of the {stages[0]}, and MONAI Label trains the {stages[-1]} alone",
                "train both with 'python -m monai.bundle run' and copy model.pt and model.json there",
            )

    def _load_checkpoint(self, model_pytorch: str, pretrained: bool, train_handlers: list[Any]) -> None:
        if pretrained:  # the base class trips over False
            super()._load_checkpoint(model_pytorch, pretrained, train_handlers)

    def _fetch_datalist(self, request: Mapping[str, Any], datastore: Datastore) -> list[dict[str, Any]]:
        """Return what of the studies is for this bundle: its pictures, or its volumes."""
        items = super()._fetch_datalist(request, datastore)
        wanted = self.dimension == 2
        fitting = [item for item in items if str(item["image"]).lower().endswith(_PICTURES) == wanted]
        if not fitting:
            what = "picture" if wanted else "volume"
            raise InputError("studies", f"no {what} has a final label", "label some and submit them, then train")
        return fitting

    def _update_overrides(self, overrides: dict[str, Any]) -> dict[str, Any]:
        overrides |= self._settings
        if "output_dir" in self.bundle_config.config:
            overrides["output_dir"] = str(self.output / time.strftime("%Y-%m-%d_%H-%M-%S"))
        return overrides

    def _load_bundle_config(self, path: str, config: str) -> ConfigParser:
        parser = super()._load_bundle_config(path, config)
        parser["device"] = "cpu"  # of what is made here; the training has the request's
        return parser
