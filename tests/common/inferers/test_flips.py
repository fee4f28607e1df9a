from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SimpleInferer
from torch import nn

from common.inferers import AutocastInferer, EnsembleInferer, FlipInferer, with_flips
from common.inferers.flips import mean_of

# What makes probabilities of each kind of result.
TO_PROBABILITIES = {"softmax": lambda x: x.softmax(1), "sigmoid": torch.sigmoid, "probabilities": lambda x: x}
VOLUME = torch.rand(2, 1, 5, 6, 7, generator=torch.Generator().manual_seed(0))


def one_sided(kind: str) -> nn.Module:
    """A network that no mirror image suits: its kernels have no symmetry."""
    torch.manual_seed(0)
    layers = [nn.Conv3d(1, 3, 3, padding=1)]
    return nn.Sequential(*layers, nn.Softmax(1)) if kind == "probabilities" else nn.Sequential(*layers)


@pytest.mark.parametrize("axis", [-3, -1])
@pytest.mark.parametrize("kind", TO_PROBABILITIES)
def test_is_the_mean_of_both_probabilities(kind, axis):
    network, probabilities = one_sided(kind), TO_PROBABILITIES[kind]
    before = VOLUME.clone()
    found = FlipInferer(SimpleInferer(), axis, kind)(VOLUME, network)
    with torch.no_grad():
        plain, mirrored = network(VOLUME), network(VOLUME.flip(axis)).flip(axis)
    wanted = (probabilities(plain) + probabilities(mirrored)) / 2
    torch.testing.assert_close(probabilities(found), wanted)
    assert not torch.allclose(probabilities(plain), wanted, atol=1e-3)
    assert torch.equal(VOLUME, before) and not found.requires_grad


@pytest.mark.parametrize(("kind", "shape"), [("softmax", (1, 2, 1)), ("sigmoid", (1, 1, 2))])
def test_logits_beyond_the_range_of_probabilities_stay_finite(kind, shape):
    """Sure of opposite things is a mean of a half; sure of one thing stays as sure."""
    sure = torch.tensor([200.0, -200.0]).reshape(shape)
    torch.testing.assert_close(mean_of(sure, -sure, kind).diff(dim=shape.index(2)).abs().max(), torch.tensor(0.0))
    torch.testing.assert_close(mean_of(sure, sure, "sigmoid"), sure)


def test_geometry_is_the_inputs():
    affine = torch.diag(torch.tensor([2.0, 3, 4, 1], dtype=torch.float64))
    volume = MetaTensor(VOLUME, affine=affine)
    found = FlipInferer(AutocastInferer(), -3, "softmax")(volume, one_sided("softmax"))
    assert isinstance(found, MetaTensor) and torch.equal(found.affine, affine)
    plain = FlipInferer(AutocastInferer(), -3, "softmax")(VOLUME, one_sided("softmax"))
    assert torch.equal(found.as_tensor(), plain)


def test_what_is_on_one_side_stays_there():
    """A network that knows no sides gives the same with and without."""
    volume = torch.zeros(1, 1, 5, 6, 7)
    volume[..., 1, 2, 6] = 3
    assert torch.equal(FlipInferer(SimpleInferer(), -1, "probabilities")(volume, nn.Identity()), volume)


def test_round_an_ensemble_and_with_arguments():
    class Noting(nn.Module):
        def forward(self, x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
            assert (args, kwargs) == ((1,), {"key": 2})
            return x.cumsum(-1)

    members = [Noting(), Noting()]
    found = FlipInferer(EnsembleInferer(SimpleInferer(), members), -1, "probabilities")(VOLUME, nn.Identity(), 1, key=2)
    torch.testing.assert_close(found, (VOLUME.cumsum(-1) + VOLUME.flip(-1).cumsum(-1).flip(-1)) / 2)


def test_switched_off_it_is_the_inferer_itself():
    inferer = SimpleInferer()
    assert with_flips(inferer, False, -1, "softmax") is inferer
    flipping = with_flips(inferer, True, -1, "softmax")
    assert (flipping.inferer, flipping.axis, flipping.kind) == (inferer, -1, "softmax")


@pytest.mark.parametrize(
    ("axis", "kind", "says"),
    [
        (2, "softmax", "an axis is counted from the end, such as -1, got 2"),
        (-1, "logits", "a result is one of .*'logits'"),
    ],
)
def test_mistakes(axis, kind, says):
    with pytest.raises(ValueError, match=says):
        FlipInferer(SimpleInferer(), axis, kind)
