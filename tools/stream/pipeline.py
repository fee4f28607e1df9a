"""From a frame to its mask, by a bundle's own inference.json."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser

from common.data.video import Frame
from common.engines.id_values import check_value
from common.errors import InputError
from common.handlers import load_weights
from common.inferers import FrameStream
from tools.stream.timing import StepTimes

__all__ = ["FramePipeline"]

_NEEDED = ("checked", "device", "network", "weights", "preprocessing", "threshold", "arithmetic")


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
        InputError: the folder is no bundle for video, a configuration file or an id is not as it should be, or the
            weights are missing or do not fit.
    """

    def __init__(
        self,
        bundle: str | Path,
        ids: Mapping[str, Any] | None = None,
        use_ifa: bool = True,
        compile_network: bool = False,
        files: Sequence[str] = (),
    ) -> None:
        parser = _parser(Path(bundle), files)
        for name, value in (ids or {}).items():
            _check_id(parser, name, value)
            parser[name] = value
        parser.parse(reset=True)
        with _refusals():
            parser.get_parsed_content("checked")
            arithmetic, weights = (parser.get_parsed_content(name) for name in ("arithmetic", "weights"))
            self.device = torch.device(parser.get_parsed_content("device"))
            network = parser.get_parsed_content("network")
        load_weights(network, weights.path, self.device)
        self.threshold = float(parser.get_parsed_content("threshold"))
        self.preprocessing = parser.get_parsed_content("preprocessing")
        if compile_network:
            for name in ("encode_frame", "decode") if hasattr(network, "encode_frame") else ("forward",):
                setattr(network, name, torch.compile(getattr(network, name)))
        self.stream = FrameStream(network, self.device, use_ifa=use_ifa, dtype=arithmetic.dtype)
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
            logits = self.stream.push(image, logits=True)
        with self.times.step("postprocess"):
            size = frame.image.shape[:2]
            on_frame = torch.nn.functional.interpolate(logits[None], size, mode="bilinear", align_corners=False)
            return (on_frame[0, 0].sigmoid() >= self.threshold).cpu().numpy()


def _parser(bundle: Path, files: Sequence[str]) -> ConfigParser:
    """Read a bundle's inference.json and what is laid over it."""
    folder, parser = bundle / "configs", ConfigParser()
    for name in ("inference.json", "metadata.json"):
        if not (folder / name).is_file():
            raise InputError(bundle, f"is not a bundle (it has no configs/{name})", "pass --bundle")
    for file in (folder / "inference.json", *map(Path, files)):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(file, f"cannot be read ({error})", "pass a configuration in JSON") from error
        if not isinstance(content, dict):
            raise InputError(file, "is no configuration", "pass ids and values, {...}, in JSON")
    parser.read_config([str(folder / "inference.json"), *map(str, files)])
    parser.read_meta(str(folder / "metadata.json"))
    parser["bundle_root"] = str(bundle)
    missing = [name for name in _NEEDED if name not in parser.config]
    if missing:
        raise InputError(bundle, f"is no bundle for video (its inference.json has no '{missing[0]}')", "pass --bundle")
    return parser


def _check_id(parser: ConfigParser, name: str, value: Any) -> None:
    """Refuse an id that inference.json does not have, and what it cannot be set to."""
    top = name.replace("#", "::").split("::")[0]
    if top not in parser.config:
        near = difflib.get_close_matches(top, parser.config, n=1)
        hint = f"did you mean {near[0]}?" if near else "the ids are at the top of the bundle's inference.json"
        raise InputError(f"--set {name}", "is not an id of this configuration", hint)
    check_value(name, value if isinstance(value, str) else json.dumps(value), parser.config.get(name))


@contextmanager
def _refusals() -> Iterator[None]:
    """Give the refusal itself of a component, which MONAI wraps in errors of its own."""
    try:
        yield
    except Exception as error:
        link: BaseException | None = error
        while link is not None and not isinstance(link, InputError):
            link = link.__cause__ or link.__context__
        if link is None or link is error:
            raise
        raise link from error
