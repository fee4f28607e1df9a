from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SimpleInferer
from torch import nn

from common.inferers.ensemble import EnsembleInferer
from common.inferers.hybrid import HybridInferer


class Softmax(nn.Conv3d):
    """Probabilities of three classes, other ones for each seed."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        super().__init__(1, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (5 * super().forward(x)).softmax(1)


IMAGE = torch.rand(1, 1, 6, 8, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_is_the_mean_of_the_members(count):
    members = [Softmax(seed) for seed in range(count)]
    found = EnsembleInferer(SimpleInferer(), members)(IMAGE, nn.Identity())
    wanted = torch.stack([member(IMAGE) for member in members]).mean(dim=0)
    assert torch.allclose(found, wanted, atol=1e-6) and not found.requires_grad
    assert torch.allclose(found.sum(1), torch.ones(1, 6, 8, 4), atol=1e-5)
    assert torch.equal(found.argmax(1), wanted.argmax(1))


def test_every_input_is_seen_by_every_member():
    inferer = EnsembleInferer(SimpleInferer(), [Softmax(0), Softmax(1)])
    first = inferer(IMAGE, nn.Identity())
    inferer(2 * IMAGE, nn.Identity())
    assert torch.equal(inferer(IMAGE, nn.Identity()), first)


def test_what_a_member_gives_is_left_as_it_is():
    """Even where its result is the input, or one that it keeps."""
    image = IMAGE.clone()
    found = EnsembleInferer(SimpleInferer(), [nn.Identity(), nn.Identity()])(image, nn.Identity())
    assert torch.equal(found, IMAGE) and torch.equal(image, IMAGE)


def test_works_on_patches_and_keeps_the_geometry():
    affine = torch.diag(torch.tensor([2.0, 3, 4, 1], dtype=torch.float64))
    members = [nn.Conv3d(1, 3, 1) for _ in range(3)]  # logits; the inferer makes them probabilities
    patches = HybridInferer((6, 6, 4), None, (4, 4, 4), (2, 2, 1))
    found = EnsembleInferer(patches, members)(MetaTensor(IMAGE, affine=affine), nn.Identity())
    assert isinstance(found, MetaTensor) and torch.equal(found.affine, affine)
    wanted = torch.stack([member(IMAGE).softmax(1) for member in members]).mean(dim=0)
    assert torch.allclose(found.as_tensor(), wanted, atol=1e-6)


def test_arguments_are_handed_on():
    class Noting(nn.Module):
        def forward(self, x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
            assert (args, kwargs) == ((1,), {"key": 2})
            return x

    EnsembleInferer(SimpleInferer(), [Noting()])(IMAGE, nn.Identity(), 1, key=2)


def test_nobody_is_no_ensemble():
    with pytest.raises(ValueError, match=r"^an ensemble needs at least one network$"):
        EnsembleInferer(SimpleInferer(), [])(IMAGE, nn.Identity())
