"""What every network of the collection has to pass; a network's own test class inherits from it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

Shape = tuple[int, ...]

_CONVOLUTIONS = (nn.modules.conv._ConvNd, nn.Linear)
_NORMALIZATIONS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)


def tensors(output: object) -> list[torch.Tensor]:
    """The tensors of a network's output, which may be a tensor or tuples, lists and dicts of them."""
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor)]


def biases_before_normalization(network: nn.Module, x: torch.Tensor) -> set[str]:
    """Names of the biases whose convolution's output goes unchanged into a batch or instance normalization.

    Their gradient is zero but for rounding. Found by watching one forward pass, so it is the wiring that counts and
    not the names.
    """
    names = {module: name for name, module in network.named_modules()}
    produced: dict[int, tuple[nn.Module, torch.Tensor, int]] = {}
    found: set[str] = set()

    def remember(module: nn.Module, _: object, output: torch.Tensor) -> None:
        # The tensor is kept, so that its id stays its own, with its version: a ReLU in place returns the same object.
        produced[id(output)] = (module, output, output._version)

    def look_up(_: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        module, _, version = produced.get(id(args[0]), (None, None, None))
        if module is not None and module.bias is not None and version == args[0]._version:
            found.add(f"{names[module]}.bias")

    handles = []
    for module in network.modules():
        if isinstance(module, _CONVOLUTIONS):
            handles.append(module.register_forward_hook(remember))
        elif isinstance(module, _NORMALIZATIONS):
            handles.append(module.register_forward_pre_hook(look_up))
    with torch.no_grad():
        network(x)
    for handle in handles:
        handle.remove()
    return found


class NetworkTests:
    """Inherit as ``class TestMyNet(NetworkTests)``, set what is below and add the network's own tests.

    Shapes here are those of one example, without the batch axis.
    """

    # The shapes to run, small enough for a fraction of a second each on one core. All tests run on the first; the
    # output's shape is tested for each.
    input_shapes: Sequence[Shape]
    # Exact number of parameters of make_network().
    parameter_count: int
    # A function that makes a tensor (with its batch axis) that the network must refuse, and what the message must
    # match.
    wrong_inputs: Sequence[tuple[Callable[[], torch.Tensor], str]]

    # Last part of the names of parameters that start at zero and switch a residual path off; set to 0.1 in the tests.
    residual_scales: Sequence[str] = ("scale", "gamma")
    # Regular expressions (whole name) for further parameters whose gradient may be zero. Say why beside each.
    zero_gradients: Sequence[str] = ()
    # The batch with which gradients are tested, in training mode.
    training_batch: int = 2
    rtol: float = 1e-4
    atol: float = 1e-5

    def make_network(self, **kwargs: object) -> nn.Module:
        raise NotImplementedError

    def expected_output_shape(self, input_shape: Shape) -> Shape | list[Shape]:
        """Shape of the output for one example; a list where the network returns several tensors."""
        raise NotImplementedError

    def make_input(self, shape: Shape, batch: int = 1, seed: int = 0) -> torch.Tensor:
        return torch.randn((batch, *shape), generator=torch.Generator().manual_seed(seed))

    def prepared_network(self, **kwargs: object) -> nn.Module:
        """A network in training mode with reproducible weights and its residual paths switched on."""
        torch.manual_seed(0)
        network = self.make_network(**kwargs)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if name.split(".")[-1] in self.residual_scales and not parameter.any():
                    parameter.fill_(0.1)
        return network.train()

    def evaluation_network(self, **kwargs: object) -> nn.Module:
        """The same in evaluation mode, with running statistics that are not those of a new network."""
        network = self.prepared_network(**kwargs)
        with torch.no_grad():
            network(self.make_input(self.input_shapes[0], self.training_batch, seed=1))
        return network.eval()

    def assert_same(self, output: object, expected: object) -> None:
        torch.testing.assert_close(tensors(output), tensors(expected), rtol=self.rtol, atol=self.atol)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "input_shape" in metafunc.fixturenames:
            shapes = metafunc.cls.input_shapes
            metafunc.parametrize("input_shape", shapes, ids=["x".join(map(str, shape)) for shape in shapes])
        if "wrong_input" in metafunc.fixturenames:
            metafunc.parametrize(("wrong_input", "message"), metafunc.cls.wrong_inputs)

    def test_output_shape(self, input_shape: Shape) -> None:
        expected = self.expected_output_shape(input_shape)
        expected = expected if isinstance(expected, list) else [expected]
        with torch.no_grad():
            output = self.evaluation_network()(self.make_input(input_shape, batch=2))
        shapes, expected = [tuple(t.shape) for t in tensors(output)], [(2, *shape) for shape in expected]
        assert shapes == expected, f"shapes {shapes}, expected {expected}"
        assert all(t.isfinite().all() for t in tensors(output)), "the output is not finite"

    def test_parameter_count(self) -> None:
        count = sum(parameter.numel() for parameter in self.make_network().parameters())
        assert count == self.parameter_count, f"{count} parameters, expected {self.parameter_count}"

    def test_gradients(self) -> None:
        network = self.prepared_network()
        x = self.make_input(self.input_shapes[0], self.training_batch)
        may_be_zero = biases_before_normalization(network, x)
        outputs = tensors(network(x))
        generator = torch.Generator().manual_seed(2)
        torch.stack([(t * torch.randn(t.shape, generator=generator)).sum() for t in outputs]).sum().backward()

        missing, not_finite, zero = [], [], []
        for name, parameter in network.named_parameters():
            if parameter.grad is None:
                missing.append(name)
            elif not parameter.grad.isfinite().all():
                not_finite.append(name)
            elif not parameter.grad.any() and name not in may_be_zero:
                if not any(re.fullmatch(pattern, name) for pattern in self.zero_gradients):
                    zero.append(name)
        assert not missing, f"no gradient: {missing}"
        assert not not_finite, f"gradient not finite: {not_finite}"
        assert not zero, f"gradient zero: {zero}"

    def test_state_dict_round_trip(self, tmp_path) -> None:
        network = self.evaluation_network()
        torch.save(network.state_dict(), tmp_path / "model.pt")
        torch.manual_seed(1)
        other = self.make_network().eval()
        other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
        x = self.make_input(self.input_shapes[0])
        with torch.no_grad():
            torch.testing.assert_close(tensors(other(x)), tensors(network(x)), rtol=0, atol=0)

    def test_torchscript(self) -> None:
        network = self.evaluation_network()
        file = io.BytesIO()
        torch.jit.save(torch.jit.script(network), file)
        file.seek(0)
        scripted = torch.jit.load(file)
        with torch.no_grad():
            for batch in (1, 2):
                x = self.make_input(self.input_shapes[0], batch)
                self.assert_same(scripted(x), network(x))
            for wrong_input, message in self.wrong_inputs:
                with pytest.raises(torch.jit.Error, match=message):
                    scripted(wrong_input())

    def test_export_with_dynamic_batch(self) -> None:
        network = self.evaluation_network()
        # An axis that is exported at size 1 would be taken for constant.
        example = self.make_input(self.input_shapes[0], batch=2)
        batch_axis = torch.export.Dim("batch", min=1, max=64)
        with torch.no_grad():
            exported = torch.export.export(network, (example,), dynamic_shapes=({0: batch_axis},)).module()
            for batch in (1, 2, 3):
                x = self.make_input(self.input_shapes[0], batch, seed=batch)
                self.assert_same(exported(x), network(x))

    def test_wrong_input(self, wrong_input: Callable[[], torch.Tensor], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            self.make_network().eval()(wrong_input())

    def test_evaluation_is_deterministic(self) -> None:
        network = self.evaluation_network()
        x = self.make_input(self.input_shapes[0])
        before = {name: value.clone() for name, value in network.state_dict().items()}
        with torch.no_grad():
            torch.testing.assert_close(tensors(network(x)), tensors(network(x)), rtol=0, atol=0)
        torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)

    def test_batch_entries_are_independent(self) -> None:
        network = self.evaluation_network()
        x = self.make_input(self.input_shapes[0], batch=3)
        with torch.no_grad():
            together = tensors(network(x))
            for i in range(len(x)):
                self.assert_same([t[i : i + 1] for t in together], network(x[i : i + 1]))
