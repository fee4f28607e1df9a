from __future__ import annotations

import re
from itertools import product

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from torch import nn
from torch.nn.functional import avg_pool3d, interpolate, pad

from common.errors import InputError
from common.inferers.hybrid import HybridInferer
from common.networks.sshsnet import SSHSNet

CLASSES = 3
# A small likeness of the paper's sizes: windows of several patches, patches of all slices.
SIZES = {"window_size": (16, 32, 4), "patch_size": (8, 8, 4)}
STRIDES = {"window_strides": (6, 10, 2), "patch_strides": (5, 3, 1)}
FAST = {**SIZES, "mode": "fast", "margin": 2}


class Stages(nn.Module):
    """Two stages in small, neither of them local: what a patch gets depends on its window and on its place in it."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1 = nn.Conv3d(1, CLASSES, 3, padding=1)
        self.maps = nn.Conv3d(1, 2, 5, padding=2)
        self.stage2 = nn.Conv3d(1 + CLASSES + 2, CLASSES, 3, padding=1)
        self.windows, self.batches = [], []

    def context(self, window: torch.Tensor, *neighbours: object) -> tuple[torch.Tensor, torch.Tensor]:
        assert neighbours == (None, None, False)  # a window has all slices of the volume
        self.windows.append(tuple(window.shape))
        return self.stage1(avg_pool3d(window, (2, 2, 1))).softmax(1), self.maps(avg_pool3d(window, (8, 8, 1)))

    def segment(self, patch: torch.Tensor, context: tuple[torch.Tensor, ...], boxes: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(patch))
        assert boxes.dtype == torch.int64 and boxes.shape == (len(patch), 4)
        full = torch.cat(
            [interpolate(part, scale_factor=(s, s, 1)) for part, s in zip(context, (2, 8), strict=True)], 1
        )
        cut = torch.cat([full[:, :, a:b, c:d] for a, b, c, d in boxes.tolist()])
        return 5 * self.stage2(torch.cat([patch, cut], dim=1))


class Local(nn.Module):
    """Both stages look at a voxel's own brightness: above 0.5 it is class 1, above 1.5 class 2, as sure as can be."""

    def __init__(self) -> None:
        super().__init__()
        self.windows, self.batches = [], []

    def classify(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([-40 * (x - centre) ** 2 for centre in range(CLASSES)], dim=1)

    def context(self, window: torch.Tensor, *neighbours: object) -> tuple[torch.Tensor, torch.Tensor]:
        self.windows.append(tuple(window.shape))
        return self.classify(window[:, :, ::2, ::2]).softmax(1), window[:, :, ::8, ::8]

    def segment(self, patch: torch.Tensor, context: tuple[torch.Tensor, ...], boxes: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(patch))
        return self.classify(patch)


def starts(size: int, length: int, stride: int) -> list[int]:
    """0, stride, 2 stride ... and the last one that there is room for."""
    return [*range(0, size - length, stride), size - length]


def brute_force(network: Stages, volume: torch.Tensor) -> torch.Tensor:
    """Mean over all patches of all windows, each computed by itself in double precision from the padded volume."""
    before = [max(w - s, 0) // 2 for w, s in zip(SIZES["window_size"], volume.shape[2:], strict=True)]
    after = [max(w - s, 0) - b for w, s, b in zip(SIZES["window_size"], volume.shape[2:], before, strict=True)]
    whole = pad(volume, (before[2], after[2], 0, 0, 0, 0), mode="replicate")
    whole = pad(whole, (0, 0, before[1], after[1], before[0], after[0]))
    sums, counts = torch.zeros(1, CLASSES, *whole.shape[2:], dtype=torch.float64), torch.zeros(whole.shape[2:])
    (wh, ww, wd), (ph, pw, _) = SIZES["window_size"], SIZES["patch_size"]
    outer = map(starts, whole.shape[2:], SIZES["window_size"], STRIDES["window_strides"])
    inner = map(starts, (wh, ww), (ph, pw), STRIDES["patch_strides"])
    for (x, y, z), (i, j) in product(product(*outer), product(*inner)):
        column = whole[:, :, x : x + wh, y : y + ww]
        context = tuple(part[..., z : z + wd] for part in network.context(column, None, None, False))
        patch = column[:, :, i : i + ph, j : j + pw, z : z + wd]
        logits = network.segment(patch, context, torch.tensor([[i, i + ph, j, j + pw]]))
        place = (slice(x + i, x + i + ph), slice(y + j, y + j + pw), slice(z, z + wd))
        sums[:, :, *place] += logits.double().softmax(1)
        counts[place] += 1
    inside = [slice(b, b + s) for b, s in zip(before, volume.shape[2:], strict=True)]
    return (sums / counts)[:, :, *inside]


@pytest.fixture
def network() -> Stages:
    torch.manual_seed(0)
    return Stages().eval()


def noise(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(seed))


def spine(*size: int, bow: float = 2.0) -> torch.Tensor:
    """A bowed column of blocks, classes 1 and 2 by turns, in the middle slices of a volume."""
    volume = torch.zeros(1, 1, *size)
    for y in range(2, size[1] - 2):
        x = size[0] // 2 + round(bow * (2 * y / size[1] - 1) ** 2)
        volume[..., x - 2 : x + 2, y, size[2] // 4 : size[2] - size[2] // 4] = 1 + y // 4 % 2
    return volume


class TestFaithful:
    @pytest.mark.parametrize(
        "size",
        [(16, 32, 4), (29, 45, 7), (16, 40, 9), (35, 32, 4), (11, 32, 6), (16, 21, 4), (9, 13, 1), (30, 25, 3)],
        ids=str,
    )
    def test_is_brute_force(self, network, size):
        volume = noise(*size)
        found = HybridInferer(**SIZES, **STRIDES, batch_size=7)(volume, network)
        with torch.no_grad():
            wanted = brute_force(network, volume)
        assert found.shape == (1, CLASSES, *size) and found.dtype == torch.float32
        assert torch.allclose(found.double(), wanted, atol=1e-6)
        assert torch.allclose(found.sum(1), torch.ones(1, *size), atol=1e-5)

    def test_one_window_is_monais_sliding_window(self, network):
        """With MONAI's inferer over the patches of a window, whose coordinates cut the context."""
        volume = noise(16, 32, 4)
        with torch.no_grad():
            context = network.context(volume, None, None, False)

            def predict(patches: torch.Tensor, places: list[list[slice]]) -> torch.Tensor:
                boxes = torch.tensor([[x.start, x.stop, y.start, y.stop] for _, _, x, y, _ in places])
                return network.segment(patches, context, boxes).softmax(1)

            overlap = (4 / 8, 6 / 8, 0)
            wanted = SlidingWindowInferer((8, 8, 4), 5, overlap, mode="constant", with_coord=True)(volume, predict)
        found = HybridInferer(**SIZES, patch_strides=(4, 2, 1), batch_size=5)(volume, network)
        assert torch.allclose(found, wanted, atol=1e-6)

    def test_places_of_the_authors_program(self):
        """In a volume of 612 x 880 x 15 voxels: two windows in the plane, 60 patches in each of their two depths."""

        class Places:
            windows, places = 0, ()

            def context(self, window: torch.Tensor, *neighbours: object) -> tuple[torch.Tensor, torch.Tensor]:
                assert window.shape == (1, 1, 512, 1024, 15)
                self.windows += 1
                return window.new_zeros(1, 1, 1, 1, 15) + torch.arange(15), window

            def segment(self, patch: torch.Tensor, context: tuple, boxes: torch.Tensor) -> torch.Tensor:
                assert patch.shape[1:] == (1, 192, 192, 12) and context[0].shape[-1] == context[1].shape[-1] == 12
                assert torch.equal(boxes[:, 1::2] - boxes[:, ::2], torch.full_like(boxes[:, ::2], 192))
                self.places += tuple((x, y, int(context[0][..., 0])) for x, _, y, _ in boxes.tolist())
                # Stitched on a device without memory: only the places count here.
                return torch.empty(len(patch), 1, 1, 1, 1).expand(-1, -1, 192, 192, 12)

        network = Places()
        HybridInferer(batch_size=25, device="meta")(torch.zeros(1, 1, 612, 880, 15), network)
        assert network.windows == 2
        plane = list(product((0, 81, 162, 243, 320), (*range(0, 811, 81), 832)))
        assert len(plane) == 60
        assert network.places == 2 * tuple((x, y, z) for z in (0, 3) for x, y in plane)

    def test_first_stage_runs_once_for_each_place_in_the_plane(self, network):
        HybridInferer(**SIZES, **STRIDES, batch_size=7)(noise(28, 42, 8), network)
        # 0, 6, 12 by 0, 10, and all slices at once, however many windows lie behind each other
        assert network.windows == [(1, 1, 16, 32, 8)] * 6
        # 0, 5, 8 by 0, 3, ..., 24 are 27 patches in each of three depths, in batches that share their slices
        assert network.batches == [7, 7, 7, 6] * 3 * 6

    @pytest.mark.parametrize("batch_size", [1, 4, 1000])
    def test_the_size_of_batches_changes_nothing(self, network, batch_size):
        volume = noise(20, 40, 6)
        found, wanted = (
            HybridInferer(**SIZES, **STRIDES, batch_size=size)(volume, network) for size in (batch_size, 7)
        )
        assert torch.allclose(found, wanted, atol=1e-6)

    @pytest.mark.parametrize("size", [(29, 45, 7), (9, 13, 1)], ids=str)
    def test_identity_gives_the_volume_back(self, size):
        """A network whose probability of class 1 is the voxel's own value."""

        class Identity(Local):
            def classify(self, x: torch.Tensor) -> torch.Tensor:
                return torch.cat([(1 - x).log(), x.log()], dim=1)

        volume = noise(*size).sigmoid()
        found = HybridInferer(**SIZES, **STRIDES, padding_value=0.5)(volume, Identity())
        assert torch.allclose(found[:, 1:], volume, atol=1e-6)

    def test_padding(self):
        """In the plane with a value, along the slices with the outermost ones; on both sides alike."""
        seen = []

        class Seen(Local):
            def context(self, window: torch.Tensor, *neighbours: object) -> tuple[torch.Tensor, torch.Tensor]:
                seen.append(window)
                return super().context(window, *neighbours)

        volume = noise(13, 32, 1)
        HybridInferer(**SIZES, padding_value=-7.0)(volume, Seen())
        (window,) = seen
        assert torch.equal(window[:, :, 1:14], volume.expand(-1, -1, -1, -1, 4))
        assert (window[:, :, :1] == -7).all() and (window[:, :, 14:] == -7).all()

    def test_volumes_of_a_batch_are_segmented_each_by_itself(self, network):
        volumes = torch.cat([noise(20, 40, 6, seed=seed) for seed in range(2)])
        inferer = HybridInferer(**SIZES, **STRIDES)
        found = inferer(volumes, network)
        assert torch.equal(found, torch.cat([inferer(one, network) for one in volumes.split(1)]))


class TestFast:
    @pytest.mark.parametrize("size", [(16, 32, 4), (40, 60, 9), (50, 30, 3), (13, 100, 7), (64, 64, 5)], ids=str)
    def test_is_the_faithful_mode_where_the_network_is_local(self, size):
        volume = spine(*size)
        local = {mode: Local() for mode in ("faithful", "fast")}
        strides = {"faithful": STRIDES, "fast": {}}
        found = {mode: HybridInferer(**SIZES, **strides[mode], mode=mode)(volume, one) for mode, one in local.items()}
        assert torch.equal(found["fast"].argmax(1), found["faithful"].argmax(1))
        assert torch.allclose(found["fast"], found["faithful"], atol=1e-5)
        assert (found["fast"].argmax(1) > 0).any()
        assert 0 < sum(local["fast"].batches) < sum(local["faithful"].batches)

    def test_patches_cover_whatever_the_first_stage_takes_for_spine(self):
        """Stage 2 is certain of a class that stage 1 never sees: it has to be at every voxel of the spine."""

        class Certain(Local):
            def segment(self, patch: torch.Tensor, context: tuple, boxes: torch.Tensor) -> torch.Tensor:
                super().segment(patch, context, boxes)
                return torch.tensor([0.0, 0, 100]).reshape(1, 3, 1, 1, 1).expand(len(patch), -1, *patch.shape[2:])

        for seed in range(30):
            generator = torch.Generator().manual_seed(seed)
            volume = torch.zeros(1, 1, 16, 32, 9)
            # Three cuboids anywhere; in the plane on stage 1's grid, so that it sees all of them.
            for _ in range(3):
                low = [int(torch.randint(0, size, (1,), generator=generator)) for size in (6, 14, 6)]
                extent = [int(torch.randint(1, size, (1,), generator=generator)) for size in (4, 9, 5)]
                x, y, z = (slice(a, a + b) for a, b in zip(low, extent, strict=True))
                volume[..., 2 * x.start : 2 * x.stop, 2 * y.start : 2 * y.stop, z] = 1
            strides = {"window_strides": (16, 32, 3), "patch_strides": (5, 8, 1)}
            found = HybridInferer(**FAST, **strides)(volume, Certain()).argmax(1)
            assert (found[volume[:, 0] > 0] == 2).all(), seed
            # The margin of 2 is covered as well.
            near = nn.functional.max_pool3d(volume, (5, 5, 1), 1, (2, 2, 0))[:, 0] > 0
            assert (found[near] == 2).all(), seed

    def test_elsewhere_the_first_stage_counts_and_outside_is_background(self):
        class Blind(Local):
            def segment(self, patch: torch.Tensor, context: tuple, boxes: torch.Tensor) -> torch.Tensor:
                return torch.full((len(patch), CLASSES, *patch.shape[2:]), torch.nan)

        volume = torch.full((1, 1, 16, 64, 4), 0.46)  # 4 percent of class 1: less than what needs a patch
        found = HybridInferer(**FAST)(volume, Blind())
        inside = torch.zeros(64, dtype=torch.bool)
        inside[16:48] = True  # the middle, where nothing is found
        expected = Local().classify(volume).softmax(1)
        assert 0.01 < float(expected[:, 1].max()) < 0.1
        assert torch.allclose(found[..., inside, :], expected[..., inside, :])
        assert torch.equal(found[..., ~inside, :].unique(), torch.tensor([0.0, 1.0]))
        assert (found[:, 0][..., ~inside, :] == 1).all()

    def test_the_window_lies_round_the_spine(self):
        """It is found in windows side by side, in a few slices; then one window gets all of them."""
        volume = torch.zeros(1, 1, 60, 32, 9)
        volume[..., 38:44, 4:28, 2:7] = 1
        network = Local()
        HybridInferer(**FAST, scout_slices=3)(volume, network)
        assert network.windows == [(3, 1, 16, 32, 1)] * 4 + [(1, 1, 16, 32, 9)]
        middle = volume[:, :, 41 - 8 : 41 + 8]
        alone = Local()
        HybridInferer(**FAST)(middle, alone)
        assert alone.windows == [(1, 1, 16, 32, 9)]  # there is no other place for it, nothing to search
        assert network.batches == alone.batches

    @pytest.mark.parametrize(("count", "slices"), [(3, [1, 4, 7]), (1, [4]), (20, [*range(9)])])
    def test_the_search_sees_slices_from_all_over_with_their_neighbours(self, count, slices):
        class Seen(Local):
            def context(self, window: torch.Tensor, *neighbours: object) -> tuple[torch.Tensor, torch.Tensor]:
                if neighbours[0] is not None:
                    before, after, halved = neighbours
                    assert window.shape == before.shape == after.shape and not halved
                    found.append(
                        [[int(part[0].max()) for part in parts] for parts in zip(before, window, after, strict=True)]
                    )
                return super().context(window, *neighbours)

        found = []
        HybridInferer(**FAST, scout_slices=count)(torch.arange(9.0).expand(1, 1, 20, 32, 9), Seen())
        assert found == 2 * [[[max(z - 1, 0), z, min(z + 1, 8)] for z in slices]]

    @pytest.mark.parametrize(("speck", "windows"), [(2, 1), (20, 3)])
    def test_specks_do_not_move_the_window(self, speck, windows):
        """Up to half a percent of the spine's area in a slice; more may be a part of it."""
        volume = torch.zeros(1, 1, 200, 64, 4)
        volume[:, :, 130:170] = 1
        volume[:, :, 4 : 4 + speck, 10 : 10 + speck] = 1
        network = Local()
        sizes = {"window_size": (64, 64, 4), "window_strides": (64, 64, 4), "patch_size": (8, 8, 4)}
        HybridInferer(**sizes, mode="fast", scout_slices=1)(volume, network)
        whole = [shape for shape in network.windows if shape[-1] == 4]
        assert len(whole) == windows

    @pytest.mark.parametrize(("min_spine", "patches"), [(0.1, 6), (0.2, 0)])
    def test_how_sure_the_first_stage_has_to_be(self, min_spine, patches):
        network = Local()
        volume = torch.zeros(1, 1, 16, 32, 4)
        volume[:, :, 4:8, 4:20] = 0.48  # 17 percent of class 1; with the margin 2 to 10 by 2 to 22
        HybridInferer(**FAST, min_spine=min_spine, patch_strides=(8, 8, 1))(volume, network)
        assert sum(network.batches) == patches

    def test_patches_are_few_and_go_together(self):
        """Two rows, each with patches in two depths, which are the batches; one depth where the slices allow it."""
        volume = torch.zeros(1, 1, 16, 32, 9)
        volume[:, :, 6:8, 8:20, 1:8] = 1
        network = Local()
        HybridInferer(**{**FAST, "margin": 0}, patch_strides=(8, 8, 1))(volume, network)
        assert network.batches == [2, 2]
        volume[..., 5:] = 0  # 1 to 5, as deep as a patch
        network = Local()
        HybridInferer(**{**FAST, "margin": 0}, patch_strides=(8, 8, 1))(volume, network)
        assert network.batches == [2]

    def test_a_spine_longer_than_a_window_gets_several(self):
        volume = spine(16, 100, 4)
        network = Local()
        found = HybridInferer(**SIZES, mode="fast", window_strides=(16, 24, 4), scout_slices=2)(volume, network)
        assert torch.equal(found.argmax(1), volume[:, 0].long())
        whole = [shape for shape in network.windows if shape[-1] == 4]
        assert len(whole) == 4  # 2 to 98, in steps of at most 24

    def test_patches_start_where_the_maps_do(self):
        class Aligned(Local):
            def segment(self, patch: torch.Tensor, context: tuple, boxes: torch.Tensor) -> torch.Tensor:
                assert (boxes % 4 == 0).all()
                return super().segment(patch, context, boxes)

        HybridInferer(**FAST)(spine(40, 60, 9, bow=9), Aligned())


class TestWhatItTakes:
    def test_an_ordinary_network_stands_in(self):
        network, volume = Local(), noise(29, 45, 7)
        wanted = HybridInferer(**SIZES, **STRIDES)(volume, network)
        for mode in ("faithful", "fast"):
            inferer = HybridInferer(**SIZES, **STRIDES, mode=mode)
            assert torch.allclose(inferer(volume, network.classify), wanted, atol=1e-6)

    def test_distributed_training_may_have_wrapped_it(self, network):
        volume, inferer = noise(16, 32, 4), HybridInferer(**SIZES)
        wanted = inferer(volume, network)
        assert torch.equal(inferer(volume, nn.DataParallel(network)), wanted)

    def test_geometry_is_kept(self, network):
        affine = torch.diag(torch.tensor([2.0, 3, 4, 1]))
        volume = MetaTensor(noise(20, 40, 6), affine=affine, meta={"filename_or_obj": "a"})
        found = HybridInferer(**SIZES)(volume, network)
        assert isinstance(found, MetaTensor) and torch.equal(found.affine, affine.double())
        assert found.meta["filename_or_obj"] == "a"
        assert torch.equal(found.as_tensor(), HybridInferer(**SIZES)(volume.as_tensor(), network))

    def test_mixed_precision(self, network):
        volume = noise(20, 40, 6)
        found, plain = (
            HybridInferer(**SIZES, dtype=dtype)(volume, network) for dtype in (torch.bfloat16, torch.float32)
        )
        assert found.dtype == torch.float32 and 0 < (found - plain).abs().max() < 0.05
        assert not torch.is_autocast_enabled("cpu")

    def test_further_arguments_go_to_the_second_stage(self):
        class Noting(Local):
            def segment(self, patch, context, boxes, *args, **kwargs) -> torch.Tensor:
                assert (args, kwargs) == ((1,), {"key": 2})
                return self.classify(patch)

        HybridInferer(**SIZES)(noise(16, 32, 4), Noting(), 1, key=2)

    def test_no_graph_is_kept(self, network):
        assert not HybridInferer(**SIZES)(noise(16, 32, 4).requires_grad_(), network).requires_grad

    @pytest.mark.parametrize("shape", [(1, 2, 16, 32, 4), (1, 16, 32, 4)])
    def test_other_inputs_are_refused(self, network, shape):
        with pytest.raises(ValueError, match=r"^expected volumes \(B, 1, H, W, D\), got shape \["):
            HybridInferer(**SIZES)(torch.zeros(shape), network)

    @pytest.mark.parametrize(
        ("wrong", "line"),
        [
            ({"mode": "quick"}, "--mode quick: is not known; choose one of faithful, fast"),
            ({"window_size": [16, 32]}, '--window_size [16,32]: is no list of 3 whole numbers above 0; pass "[512,'),
            ({"patch_size": "[8,8,4"}, "--patch_size [8,8,4: is no list"),
            ({"patch_strides": [0, 3, 1]}, "--patch_strides [0,3,1]: is no list"),
            ({"window_strides": [6, 2.5, 2]}, "--window_strides [6,2.5,2]: is no list"),
            ({"patch_size": [8, 40, 4]}, "--patch_size [8,40,4]: is larger than a window ((16,32,4)), or has other"),
            ({"patch_size": [8, 8, 2]}, "--patch_size [8,8,2]: is larger than a window ((16,32,4)), or has other"),
            ({"window_strides": [6, 33, 2]}, "--window_strides [6,33,2]: leave gaps; pass at most [16,32,4]"),
            ({"patch_strides": [9, 3, 1]}, "--patch_strides [9,3,1]: leave gaps; pass at most [8,8,4]"),
            ({"batch_size": 0}, "--batch_size 0: is too small or no whole number; pass 1 or more"),
            ({"scout_slices": "5"}, "--scout_slices 5: is too small or no whole number; pass 1 or more"),
            ({"margin": -1}, "--margin -1: is too small or no whole number; pass 0 or more"),
        ],
    )
    def test_settings_that_cannot_be(self, wrong: dict, line: str):
        with pytest.raises(InputError, match=f"^{re.escape(line)}"):
            HybridInferer(**{**SIZES, **wrong})


def test_is_the_network_itself_on_a_window_that_is_one_patch():
    torch.manual_seed(0)
    network, volume = SSHSNet().eval(), noise(32, 64, 12)
    with torch.no_grad():
        wanted = network(volume).softmax(1)
    found = HybridInferer((32, 64, 12), None, (32, 64, 12))(volume, network)
    assert torch.allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("window", "patch", "mode", "strides"),
    [
        ((512, 1024, 12), (192, 192, 12), "faithful", ((100, 100, 6), (81, 81, 1))),
        ((512, 1024, 12), (192, 192, 12), "fast", ((384, 768, 10), (144, 144, 1))),
        ((256, 512, 12), (96, 96, 12), "faithful", ((50, 50, 6), (40, 40, 1))),
        ((256, 512, 6), (96, 96, 6), "fast", ((192, 384, 5), (72, 72, 1))),
        ((4, 4, 1), (2, 2, 1), "faithful", ((1, 1, 1), (1, 1, 1))),
    ],
)
def test_strides_are_in_proportion_to_the_sizes(window, patch, mode, strides):
    inferer = HybridInferer(window_size=window, patch_size=patch, mode=mode)
    assert (inferer.window_strides, inferer.patch_strides) == strides
