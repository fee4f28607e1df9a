"""What is exported as one file: a module, what goes in, what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

__all__ = ["CHECKS", "Axis", "ExportPlan", "Part", "Port", "integers", "normal", "uniform"]

# On how many sets of inputs each exported file is compared with the original; they differ in every free axis.
CHECKS = 2

Make = Callable[[Sequence[int], torch.Generator], torch.Tensor]


def normal(shape: Sequence[int], generator: torch.Generator) -> torch.Tensor:
    """Return numbers of mean 0 and standard deviation 1."""
    return torch.randn(list(shape), generator=generator)


def uniform(shape: Sequence[int], generator: torch.Generator) -> torch.Tensor:
    """Return numbers from 0 to 1."""
    return torch.rand(list(shape), generator=generator)


def integers(*limits: int) -> Make:
    """Return a maker of int64 numbers from 0 to below each of the limits, which are along the last axis."""

    def make(shape: Sequence[int], generator: torch.Generator) -> torch.Tensor:
        columns = [torch.randint(limit, list(shape[:-1]), generator=generator) for limit in limits]
        return torch.stack(columns, dim=-1)

    return make


@dataclass(frozen=True)
class Axis:
    """An axis whose length is free.

    Args:
        name: what it is called in ONNX files and descriptions.
        examples: a length for each of the ``CHECKS`` comparisons. The first one is exported with, and is not 1, which
            would be taken for fixed.
        multiple: what lengths have to be multiples of.
    """

    name: str
    examples: tuple[int, int] = (2, 1)
    multiple: int = 1

    @classmethod
    def around(cls, name: str, length: int, multiple: int = 1) -> Axis:
        """Return an axis that is exported with about this length, and compared with a greater one too."""
        first = max(length, 2 * multiple)
        return cls(name, (first, first + multiple), multiple)


@dataclass(frozen=True)
class Port:
    """A tensor that goes in or comes out.

    Args:
        name: of the input or output in the ONNX file.
        shape: a length for each axis, or an :class:`Axis` where it is free.
        meaning: what its numbers are.
        make: makes such a tensor, for inputs.
    """

    name: str
    shape: tuple[int | Axis, ...]
    meaning: str
    make: Make = normal

    def example(self, check: int, generator: torch.Generator) -> torch.Tensor:
        """Return an input for one of the ``CHECKS`` comparisons."""
        return self.make([axis.examples[check] if isinstance(axis, Axis) else axis for axis in self.shape], generator)

    def described(self) -> dict[str, Any]:
        """Return name, shape and meaning as JSON has them."""
        shape = [axis.name if isinstance(axis, Axis) else axis for axis in self.shape]
        multiples = {axis.name: axis.multiple for axis in self.shape if isinstance(axis, Axis) and axis.multiple > 1}
        described: dict[str, Any] = {"name": self.name, "shape": shape}
        if multiples:
            described["multiples_of"] = multiples
        dtype = self.example(0, torch.Generator()).dtype
        return described | {"dtype": str(dtype).removeprefix("torch."), "meaning": self.meaning}


@dataclass(frozen=True)
class Part:
    """What becomes one file in each format.

    Args:
        name: the part's name.
        about: what it does, in a sentence.
        module: in evaluation mode; takes the inputs one by one, gives the outputs as a tensor or a tuple.
        inputs: what goes in.
        outputs: what comes out; float32.
        original: what the network itself computes of the same inputs, without the thin module around it.
        scripted: what TorchScript compiles in the place of ``module``: it can take control flow, and methods.
    """

    name: str
    about: str
    module: nn.Module
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    original: Callable[..., torch.Tensor | tuple[torch.Tensor, ...]]
    scripted: nn.Module | None = None

    def examples(self, check: int) -> tuple[torch.Tensor, ...]:
        """Return inputs for one of the ``CHECKS`` comparisons, always the same ones."""
        generator = torch.Generator().manual_seed(check)
        return tuple(port.example(check, generator) for port in self.inputs)

    def described(self) -> dict[str, Any]:
        """Return the part as JSON has it."""
        inputs, outputs = ([port.described() for port in ports] for ports in (self.inputs, self.outputs))
        for output in outputs:
            output["dtype"] = "float32"
        return {"name": self.name, "about": self.about, "inputs": inputs, "outputs": outputs}


@dataclass(frozen=True)
class ExportPlan:
    """What is exported of a network, and what else a program needs to know.

    Args:
        parts: of the network.
        preprocessing: from a file or camera to the input, step by step.
        use: how to run the parts, and what to keep between the calls, step by step.
        constants: numbers that the steps speak of.
    """

    parts: tuple[Part, ...]
    preprocessing: Sequence[str]
    use: Sequence[str]
    constants: Mapping[str, Any] = field(default_factory=dict)
