"""From a frame to its mask, by a bundle's own inference.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser

from common.data.video import Frame
from common.errors import InputError
from common.handlers import load_weights
from common.inferers import FrameStream
from tools.stream.timing import StepTimes

__all__ = ["FramePipeline"]


class FramePipeline:
    """Network, weights, preprocessing and threshold of a bundle, applied to one frame after another.

    Args:
        bundle: the bundle's folder.
        ids: what its ``configs/inference.json`` is to be changed to, by id; for instance ``checkpoint``, ``device``,
            ``precision``.
        use_ifa: see :class:`common.inferers.FrameStream`.
        compile_network: compile the network with ``torch.compile``; the first frames then take long.
        files: further configuration files, laid over inference.json.

    Attributes:
        times: of the steps ``preprocess``, ``network`` and ``postprocess``.
        device: where the network runs.

    Raises:
        InputError: the folder is no bundle for video, or its weights are missing or do not fit.
    """

    def __init__(
        self,
        bundle: str | Path,
        ids: Mapping[str, Any] | None = None,
        use_ifa: bool = True,
        compile_network: bool = False,
        files: tuple[str, ...] = (),
    ) -> None:
        config = Path(bundle) / "configs" / "inference.json"
        if not config.is_file():
            raise InputError(bundle, "is not a bundle (it has no configs/inference.json)", "pass --bundle")
        parser = ConfigParser()
        parser.read_config([str(config), *files])
        parser.read_meta(str(Path(bundle) / "configs" / "metadata.json"))
        parser.config |= {"bundle_root": str(bundle)} | dict(ids or {})
        parser.parse(reset=True)
        parser.get_parsed_content("checked")
        self.device = torch.device(parser.get_parsed_content("device"))
        network = parser.get_parsed_content("network")
        load_weights(network, parser.get_parsed_content("weights").path, self.device)
        self.threshold = float(parser.get_parsed_content("threshold"))
        self.preprocessing = parser.get_parsed_content("preprocessing")
        if compile_network:
            for name in ("encode_frame", "decode") if hasattr(network, "encode_frame") else ("forward",):
                setattr(network, name, torch.compile(getattr(network, name)))
        dtype = parser.get_parsed_content("arithmetic").dtype
        self.stream = FrameStream(network, self.device, use_ifa=use_ifa, dtype=dtype)
        self.times = StepTimes(self.device)

    def reset(self) -> None:
        """Forget the frames so far: the next one does not follow them."""
        self.stream.reset()

    def __call__(self, frame: Frame) -> np.ndarray:
        """Segment the next frame.

        Returns:
            Booleans (H, W) on the frame's own grid.
        """
        with self.times.step("preprocess"):
            image = self.preprocessing({"image": [frame.image]})["image"].as_tensor()[0].to(self.device)
        with self.times.step("network"):
            probability = self.stream.push(image)
        with self.times.step("postprocess"):
            size = frame.image.shape[:2]
            on_frame = torch.nn.functional.interpolate(probability[None], size, mode="bilinear", align_corners=False)
            return (on_frame[0, 0] >= self.threshold).cpu().numpy()
