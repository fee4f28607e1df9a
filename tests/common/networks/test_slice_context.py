from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from common.networks.slice_context import crop_maps, crop_probabilities, halve_in_plane, slice_triples

STARTS = [(0, 0), (8, 16), (4, 0), (3, 17), (31, 30), (32, 48)]


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


class TestHalveInPlane:
    def test_is_a_gaussian_and_linear_interpolation(self) -> None:
        x = noise(2, 1, 12, 20, 3)
        smooth = gaussian_filter(x.double().numpy(), (0, 0, 0.5, 0.5, 0), mode="mirror", truncate=4)
        expected = F.interpolate(torch.from_numpy(smooth), size=(6, 10, 3), mode="trilinear")
        torch.testing.assert_close(halve_in_plane(x), expected.float())

    def test_is_not_computed_in_low_precision(self) -> None:
        x = 1000 + noise(1, 1, 8, 8, 2)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(halve_in_plane(x), halve_in_plane(x.double()).float())

    def test_windows_differ_from_the_volume_at_their_borders_only(self) -> None:
        x = noise(1, 1, 32, 32, 2)
        volume, window = halve_in_plane(x)[:, :, 4:12, 4:12], halve_in_plane(x[:, :, 8:24, 8:24])
        torch.testing.assert_close(window[:, :, 1:-1, 1:-1], volume[:, :, 1:-1, 1:-1])
        assert not torch.allclose(window[:, :, 0], volume[:, :, 0])

    @pytest.mark.parametrize("shape", [(1, 8, 8, 2), (1, 1, 7, 8, 2), (1, 1, 8, 9, 2), (1, 1, 2, 8, 2)])
    def test_wrong_input(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"H and W even and at least 4, got shape \[1, "):
            halve_in_plane(torch.zeros(shape))


class TestSliceTriples:
    def slices(self, *numbers: float) -> torch.Tensor:
        return torch.tensor(numbers).float().expand(2, 1, 4, 5, -1)

    @pytest.mark.parametrize(
        ("before", "after", "expected"),
        [
            (None, None, [[1, 1, 2], [1, 2, 3], [2, 3, 3]]),
            (0.0, None, [[0, 1, 2], [1, 2, 3], [2, 3, 3]]),
            (0.0, 4.0, [[0, 1, 2], [1, 2, 3], [2, 3, 4]]),
        ],
    )
    def test_neighbours(self, before: float | None, after: float | None, expected: list) -> None:
        ends = [None if end is None else self.slices(end) for end in (before, after)]
        triples = slice_triples(self.slices(1, 2, 3), *ends)
        torch.testing.assert_close(triples, torch.tensor(expected).float()[:, :, None, None].expand(2, -1, -1, 4, 5))

    def test_positions_stay(self) -> None:
        x = noise(2, 1, 4, 5, 3)
        torch.testing.assert_close(slice_triples(x)[:, 1], x[:, 0].permute(0, 3, 1, 2), rtol=0, atol=0)

    def test_one_slice_is_its_own_neighbour(self) -> None:
        assert slice_triples(self.slices(1)).shape == (2, 1, 3, 4, 5)


@pytest.mark.parametrize("starts", STARTS)
class TestCrops:
    """Of a window of 64 x 80 voxels, patches of 32 x 32."""

    def cut(self, whole: torch.Tensor, starts: list[int], size: int) -> torch.Tensor:
        return whole[:, :, starts[0] : starts[0] + size, starts[1] : starts[1] + size]

    @pytest.mark.parametrize("mode", ["nearest", "linear"])
    def test_probabilities_are_cut_out_of_the_enlarged_window(self, starts: tuple[int, int], mode: str) -> None:
        x = noise(2, 3, 32, 40, 2)
        whole = F.interpolate(x, size=(64, 80, 2), mode={"nearest": "nearest", "linear": "trilinear"}[mode])
        torch.testing.assert_close(crop_probabilities(x, list(starts), [32, 32], mode), self.cut(whole, starts, 32))

    def test_maps_are_cut_out_of_the_enlarged_window(self, starts: tuple[int, int]) -> None:
        x = noise(2, 3, 8, 10, 2)
        whole = F.interpolate(x, size=(16, 20, 2), mode="trilinear", align_corners=True)
        expected = self.cut(whole, [start // 4 for start in starts], 8)
        torch.testing.assert_close(crop_maps(x, list(starts), [32, 32], floor=True), expected)
        exact = crop_maps(x, list(starts), [32, 32])
        assert torch.allclose(exact, expected, atol=1e-5) == (starts[0] % 4 == 0 and starts[1] % 4 == 0)

    def test_maps_lie_where_their_patch_lies(self, starts: tuple[int, int]) -> None:
        """Maps that say where they are, between the centres of the window's first and last map voxel."""
        rows, columns = torch.meshgrid(torch.linspace(0, 1, 8), torch.linspace(0, 1, 10), indexing="ij")
        x = torch.stack([rows, columns])[None, ..., None]
        found = crop_maps(x, list(starts), [32, 32])[0, ..., 0].numpy()
        for axis, length in enumerate((16, 20)):
            expected = (starts[axis] / 4 + np.arange(8)) / (length - 1)
            line = found[0][:, 0] if axis == 0 else found[1][0]
            np.testing.assert_allclose(line, expected.clip(0, 1), atol=1e-6)
