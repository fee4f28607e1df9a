"""The formats: how a part is written, and how what was written is run."""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from monai.data import save_net_with_metadata
from monai.networks.utils import convert_to_trt

from common.errors import InputError
from tools.export.part import Axis, Part

__all__ = ["FORMATS", "Format", "PartExport"]

Runner = Callable[..., Any]
# In which entry of a file its part is described, as in export.json.
_ENTRY = "part.json"


class PartExport:
    """A part on its way into the formats.

    Args:
        part: what is exported.
        device: where it is, and runs.
        opset: version of ONNX's operators; None for the exporter's own choice.
    """

    def __init__(self, part: Part, device: torch.device, opset: int | None = None) -> None:
        self.part, self.device, self.opset = part, device, opset
        self.description = json.dumps(part.described())

    def examples(self, check: int) -> tuple[torch.Tensor, ...]:
        """Return inputs for a comparison, on the device."""
        return tuple(example.to(self.device) for example in self.part.examples(check))

    @cached_property
    def program(self) -> torch.export.ExportedProgram:
        """The graph that ONNX files and ``torch.export``'s own are made of."""
        dims: dict[Axis, Any] = {}
        for port in self.part.inputs:
            for axis in port.shape:
                if isinstance(axis, Axis) and axis not in dims:
                    name = axis.name if axis.multiple == 1 else f"{axis.name}_in_{axis.multiple}"
                    dims[axis] = axis.multiple * torch.export.Dim(name, min=1)
        shapes = [
            {place: dims[axis] for place, axis in enumerate(port.shape) if isinstance(axis, Axis)}
            for port in self.part.inputs
        ]
        return torch.export.export(self.part.module, self.examples(0), dynamic_shapes=shapes)


class Format(ABC):
    """One way to write a part.

    Attributes:
        name: the format's name.
        suffix: of its files.
        packages: what has to be installed.
        tolerance: largest difference from the original, as a share of the largest number that comes out.
    """

    name: str
    suffix: str
    packages: Sequence[str] = ()
    tolerance = 1e-4

    def unavailable(self, device: torch.device) -> str | None:
        """Return why the format cannot be written here; None where it can."""
        missing = [package for package in self.packages if find_spec(package) is None]
        return f"needs the package {missing[0]}" if missing else None

    def refuses(self, part: Part) -> str | None:
        """Return why a part cannot be written in this format; None where it can."""
        return None

    @abstractmethod
    def write(self, export: PartExport, path: Path) -> None:
        """Write the part."""

    @abstractmethod
    def load(self, path: Path, device: torch.device) -> Runner:
        """Read the file again: a function of tensors that gives a tensor or several."""


class TorchScript(Format):
    """Compiled from the source code, with MONAI's metadata beside it, as its ``ckpt_export`` writes it."""

    name, suffix = "torchscript", ".ts"

    def write(self, export: PartExport, path: Path) -> None:
        """See :class:`Format`."""
        scripted = torch.jit.script(export.part.scripted or export.part.module)
        extra = {_ENTRY: export.description.encode()}
        save_net_with_metadata(scripted, str(path), more_extra_files=extra)

    def load(self, path: Path, device: torch.device) -> Runner:
        """See :class:`Format`."""
        return torch.jit.load(str(path), map_location=device).eval()


class TorchExport(Format):
    """``torch.export``'s own file, for ``torch.export.load`` and AOTInductor."""

    name, suffix = "torch_export", ".pt2"

    def write(self, export: PartExport, path: Path) -> None:
        """See :class:`Format`."""
        torch.export.save(export.program, path, extra_files={_ENTRY: export.description})

    def load(self, path: Path, device: torch.device) -> Runner:
        """See :class:`Format`."""
        return torch.export.load(path).module()


class Onnx(Format):
    """An ONNX file with its weights in it; run by onnxruntime on the CPU for the comparison."""

    name, suffix, packages = "onnx", ".onnx", ("onnx", "onnxscript", "onnxruntime")

    def write(self, export: PartExport, path: Path) -> None:
        """See :class:`Format`.

        Raises:
            InputError: the opset cannot be reached.
        """
        # It would say of each operator of an absent torchvision that it is passed over.
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        part = export.part
        program = torch.onnx.export(
            export.program,
            dynamo=True,
            opset_version=export.opset,
            input_names=[port.name for port in part.inputs],
            # The first stage's probabilities go into the second under the same name: no clash, these are two files.
            output_names=[port.name for port in part.outputs],
            verbose=False,
        )
        reached = program.model.opset_imports[""]
        if export.opset not in (None, reached):
            raise InputError(f"--opset {export.opset}", f"cannot be reached, only {reached}", f"pass {reached}")
        program.rename_axes(_axis_names(program, part))
        program.model.metadata_props[_ENTRY] = export.description
        program.save(path, external_data=False)

    def load(self, path: Path, device: torch.device) -> Runner:
        """See :class:`Format`."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [port.name for port in session.get_inputs()]

        def run(*inputs: torch.Tensor) -> list[torch.Tensor]:
            given = {name: tensor.cpu().numpy() for name, tensor in zip(names, inputs, strict=True)}
            return [torch.from_numpy(array) for array in session.run(None, given)]

        return run


def _axis_names(program: torch.onnx.ONNXProgram, part: Part) -> dict[Any, str]:
    """Return the axes' own names for those that the exporter made up; those of multiples keep an expression."""
    names: dict[Any, str] = {}
    for value, port in zip(program.model.graph.inputs, part.inputs, strict=True):
        for found, axis in zip(value.shape, port.shape, strict=True):
            if isinstance(axis, Axis) and axis.multiple == 1:
                names[found] = axis.name
    return names


class TensorRT(Format):
    """A TorchScript file with a TensorRT engine in it, by MONAI's ``convert_to_trt``.

    It is tied to the kind of GPU, and its free axes to the batch.
    """

    name, suffix, packages, tolerance = "tensorrt", ".trt.ts", ("torch_tensorrt",), 1e-2

    def unavailable(self, device: torch.device) -> str | None:
        """See :class:`Format`."""
        return super().unavailable(device) or (None if device.type == "cuda" else "needs --device cuda")

    def refuses(self, part: Part) -> str | None:
        """See :class:`Format`."""
        if len(part.inputs) > 1:
            return "MONAI's converter takes parts of one input only; give the part's ONNX file to TensorRT's trtexec"
        return None

    def write(self, export: PartExport, path: Path) -> None:
        """See :class:`Format`."""
        shape = list(export.examples(0)[0].shape)
        batches = export.part.inputs[0].shape[0].examples
        compiled = convert_to_trt(
            export.part.module,
            "fp32",
            shape,
            dynamic_batchsize=[min(batches), max(batches), 4 * max(batches)],
            device=export.device.index or 0,
        )
        torch.jit.save(compiled, str(path))

    def load(self, path: Path, device: torch.device) -> Runner:
        """See :class:`Format`."""
        return torch.jit.load(str(path), map_location=device).eval()


FORMATS: dict[str, Format] = {one.name: one for one in (TorchScript(), Onnx(), TorchExport(), TensorRT())}
