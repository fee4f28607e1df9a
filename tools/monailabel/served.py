"""A bundle's inference as MONAI Label's task."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import SqueezeDimd
from monailabel.interfaces.tasks.infer_v2 import InferType
from monailabel.tasks.infer.bundle import BundleInferTask
from monailabel.transform.writer import Writer
from monailabel.utils.others.generic import file_ext

from common.handlers import load_weights
from tools.monailabel.bundles import WEIGHTS, settings_of

__all__ = ["ServedBundle"]

_NIFTI = (".nii", ".nii.gz")


class _Rename:
    """Move an entry of an item to another name."""

    def __init__(self, old: str, new: str) -> None:
        self.old, self.new = old, new

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        d = dict(data)
        if self.old in d:
            d[self.new] = d.pop(self.old)
        return d


class ServedBundle(BundleInferTask):
    """Segment with a bundle as its ``inference.json`` does.

    Beyond what MONAI Label's own task does, this one takes the settings that lie beside the weights, refuses weights
    that do not fit (MONAI Label goes on with random ones), reads weights and settings anew when their files change,
    and writes label maps that fit their image in every voxel: NIfTI with the image's own matrix, pictures lossless.

    Args:
        folder: the bundle's folder.
        conf: the server's settings.

    Raises:
        InputError: the weights are none of this bundle, or a part of them was never trained.
    """

    def __init__(self, folder: Path, conf: Mapping[str, str]) -> None:
        self.weights = folder / "models" / WEIGHTS
        self._loaded_on: str | None = None
        self._device: str | None = None
        super().__init__(str(folder), dict(conf))
        if not self.valid:
            return
        self._files = self._stamp()
        metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
        described = metadata["network_data_format"]["outputs"][self.key_pred].get("channel_def", {})
        # The base class has the names in small letters.
        self.labels = {name: int(value) for value, name in described.items() if name.lower() != "background"}
        if self.network is not None:
            load_weights(self.network, self.weights, complete=True)

    def __call__(self, request: Mapping[str, Any], callbacks: Mapping[Any, Any] | None = None) -> tuple[Any, dict]:
        self._choose(request.get("model_filename") or WEIGHTS, str(request.get("device")))
        return super().__call__(request, callbacks)

    def pre_transforms(self, data: dict[str, Any] | None = None) -> Sequence[Callable]:
        # MONAI 1.6's Spacingd takes every entry that begins with 'image_' for the image's metadata.
        parked = _Rename("image_path", "source_path"), _Rename("source_path", "image_path")
        return [parked[0], *super().pre_transforms(data), parked[1]]

    def post_transforms(self, data: dict[str, Any] | None = None) -> Sequence[Callable]:
        steps = list(super().post_transforms(data))
        if self.dimension == 2:
            steps.append(_WithoutChannels(self.key_pred))
        return steps

    def writer(self, data: dict[str, Any], extension: str | None = None, dtype: str | None = None) -> tuple[Any, Any]:
        if self.type in (InferType.CLASSIFICATION, InferType.DETECTION):
            return super().writer(data, extension, dtype)
        label = data[self.key_pred]
        data["result_dtype"] = data.get("result_dtype") or dtype or ("uint8" if int(label.max()) < 256 else "uint16")
        if self.dimension == 2:  # a label map must not become a JPEG because its frame is one
            data["result_extension"] = data.get("result_extension") or extension or ".png"
        if self._writes_nifti(data):
            return _write_nifti(label, data[f"{self.key_pred}_meta_dict"]["affine"], data), {}
        data["labels"] = self.labels
        return Writer(label=self.key_pred, json=self.output_json_key)(data)

    def _writes_nifti(self, data: Mapping[str, Any]) -> bool:
        extension = data.get("result_extension") or file_ext(data.get("image_path") or "")
        return (
            extension.lower() in _NIFTI
            and data.get("result_write_to_file", True)
            and data[self.key_pred].ndim == 3
            and data[f"{self.key_pred}_meta_dict"]["affine"] is not None
        )

    def _load_bundle_config(self, path: str, config: str) -> ConfigParser:
        parser = super()._load_bundle_config(path, config)
        for name, value in settings_of(self.weights, parser).items():
            parser[name] = value
        if "checkpoint" in parser.config:
            parser["checkpoint"] = str(self.weights)
        return parser

    def _get_network(self, device: str, data: Mapping[str, Any] | None) -> torch.nn.Module:
        if self.network is None:  # TorchScript
            return super()._get_network(device, data)
        if self._loaded_on != device:
            load_weights(self.network, self.weights, device, complete=True)
            self.network.to(torch.device(device)).eval()
            self._loaded_on = device
        return self.network

    def _choose(self, names: str | Sequence[str], device: str) -> None:
        """Make network and configuration anew where others are asked for, or the files have changed.

        Other weights have other settings, and a configuration's components stay on the device that they are made for.
        """
        name = names if isinstance(names, str) else names[0]
        self.weights = self.weights.with_name(Path(name).name)
        same_device, self._device = self._device in (None, device), device
        if self.network is None or (same_device and self._stamp() == self._files):
            return
        self.bundle_config = self._load_bundle_config(self.bundle_path, self.bundle_config_path)
        self.network = self.bundle_config.get_parsed_content(self.const.key_network_def())
        self._files, self._loaded_on = self._stamp(), None

    def _stamp(self) -> tuple[Any, ...]:
        """What tells that the weights or their settings are others."""
        files = (self.weights, self.weights.with_suffix(".json"))
        return self.weights, *(path.stat().st_mtime_ns if path.is_file() else None for path in files)


def _write_nifti(label: torch.Tensor, affine: Any, data: Mapping[str, Any]) -> str:
    """Write a label map (X, Y, Z) with its image's matrix; return the file, which the server sends and deletes.

    MONAI Label writes through ITK, which takes no sheared axes and rounds the others.
    """
    values = np.asarray(label.as_tensor() if isinstance(label, MetaTensor) else label)
    image = nib.Nifti1Image(values.astype(data["result_dtype"]), np.asarray(affine, dtype=np.float64))
    image.header.set_xyzt_units("mm")
    handle, path = tempfile.mkstemp(suffix=data.get("result_extension") or file_ext(data["image_path"]))
    os.close(handle)
    nib.save(image, path)
    return path


class _WithoutChannels:
    """Take the one channel away from pictures (1, W, H), for the writer."""

    def __init__(self, key: str) -> None:
        self.squeeze, self.key = SqueezeDimd(key, dim=0), key

    def __call__(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.squeeze(data) if data[self.key].ndim == 3 else data
