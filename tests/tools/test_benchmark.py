from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference

from common.data import LabelScheme
from common.networks import DualDeepLab, HybridNet3D, SSHSNet
from tests.helpers import CODES, affine_of, noise, stored, write_nifti
from tools.benchmark import __main__ as benchmark
from tools.benchmark.clock import STEPS
from tools.benchmark.nnunet_inference import FromPlanGridd, MirroredWindowInferer, ToPlanGridd, resample
from tools.benchmark.nnunet_plan import make_plan, plan_network, target_spacing
from tools.benchmark.report import add_ratios, summarize
from tools.benchmark.scores import LabelScores

# ------------------------------------------------------------------------------------------------------------ the plan


# What nnU-Net itself plans for the cardiac MR of ACDC and for the prostate MR of the Medical Segmentation Decathlon.
@pytest.mark.parametrize(
    ("spacing", "shape", "patch", "strides", "thin_kernels"),
    [
        ((5.0, 1.5625, 1.5625), (18, 237, 208), (20, 256, 224), ["111", "122", "222", "222", "122", "122"], 1),
        ((3.6, 0.625, 0.625), (20, 320, 319), (20, 320, 256), ["111", "122", "122", "222", "222", "122", "122"], 2),
        ((1.0, 1.0, 1.0), (300, 300, 300), (128, 128, 128), ["111"] + 5 * ["222"], 0),
    ],
)
def test_plans_that_are_known(spacing, shape, patch, strides, thin_kernels):
    plan = make_plan(spacing, shape, num_classes=3)
    assert plan.patch == patch
    assert ["".join(map(str, stride)) for stride in plan.strides] == strides
    thick = len(strides) - thin_kernels
    assert plan.kernels == thin_kernels * ((1, 3, 3),) + thick * ((3, 3, 3),)
    assert plan.features == (32, 64, 128, 256, 320, 320, 320)[: len(strides)]
    assert all(n % divisor == 0 for n, divisor in zip(plan.patch, plan.divisor, strict=True))


def test_the_spacing_of_thick_slices_is_not_the_median():
    spacings, shapes = [(3.0, 0.5, 0.5), (4.0, 0.6, 0.6), (5.0, 0.7, 0.7)], 3 * [(15, 512, 512)]
    assert target_spacing(spacings, shapes) == pytest.approx((3.2, 0.6, 0.6))
    assert target_spacing([(1.0, 1.0, 1.0), (1.4, 0.8, 0.8), (1.2, 0.9, 0.9)], shapes) == pytest.approx((1.2, 0.9, 0.9))


def test_a_planned_network_takes_its_patch():
    plan = plan_network((4.0, 1.0, 1.0), (8, 40, 32))
    network = ConfigParser(plan.network(1, 5)).get_parsed_content("").eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 1, *plan.patch)).shape == (1, 5, *plan.patch)


# ------------------------------------------------------------------------------------------------------- the inference


class Blur(torch.nn.Module):
    """A network of two channels that mirroring changes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv3d(1, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


@pytest.fixture
def blur() -> Blur:
    torch.manual_seed(0)
    return Blur().eval().requires_grad_(False)


def test_one_window_without_mirroring_is_a_plain_pass(blur):
    x = torch.randn(1, 1, 8, 12, 10)
    torch.testing.assert_close(MirroredWindowInferer((8, 12, 10), mirror_axes=())(x, blur), blur(x))


def test_mirroring_is_the_mean_over_eight_views(blur):
    x = torch.randn(1, 1, 8, 12, 10)
    dims = [(), (2,), (3,), (4,), (2, 3), (2, 4), (3, 4), (2, 3, 4)]
    expected = torch.stack([blur(x.flip(d)).flip(d) for d in dims]).mean(dim=0)
    assert not torch.allclose(expected, blur(x), atol=1e-2)
    torch.testing.assert_close(MirroredWindowInferer((8, 12, 10))(x, blur), expected)


def test_windows_are_weighted_as_in_monai(blur):
    x = torch.randn(1, 1, 8, 20, 10)
    expected = sliding_window_inference(x, (8, 8, 8), 1, blur, overlap=0.5, mode="gaussian")
    torch.testing.assert_close(MirroredWindowInferer((8, 8, 8), mirror_axes=())(x, blur), expected)


def test_slices_are_resampled_by_themselves():
    volume = np.zeros((3, 8, 8), np.float32)
    volume[1] = 1
    values = resample(volume, (6, 12, 12), separate=True, order=3)
    np.testing.assert_allclose(values.mean(axis=(1, 2)), [0, 0, 1, 1, 0, 0], atol=1e-6)
    assert resample(volume, (6, 12, 12), separate=False, order=1)[1].max() not in (0, 1)


@pytest.mark.parametrize("code", CODES)
def test_a_grid_and_back(code):
    label = np.zeros((10, 40, 30), np.float32)
    label[3:7, 12:28, 8:20] = 1
    voxels, affine = stored(label, affine_of((4.0, 0.9, 1.1), (0.2, -0.1, 0.1)), code)
    meta = {"original_affine": affine, "spatial_shape": np.array(voxels.shape), "filename_or_obj": "scan.nii.gz"}
    scan = MetaTensor(np.ascontiguousarray(voxels)[None], affine=torch.from_numpy(affine), meta=meta)
    grid = ToPlanGridd("image", (4.4, 0.7, 0.7))({"image": scan})["image"]
    assert sorted(grid.shape[2:]) == sorted((round(40 * 0.9 / 0.7), round(30 * 1.1 / 0.7))) and grid.shape[1] == 9
    # The block is where it was in the world.
    for before, after in zip(world_box(scan), world_box(grid), strict=True):
        np.testing.assert_allclose(after, before, atol=2.5)  # half a slice
    scores = torch.stack([1 - grid.as_tensor()[0], grid.as_tensor()[0]])
    back = FromPlanGridd("pred", (4.4, 0.7, 0.7))({"image": grid, "pred": scores})["pred"]
    assert back.shape == scan.shape and back.dtype == torch.uint8
    assert back.meta["filename_or_obj"] == "scan.nii.gz"
    np.testing.assert_allclose(back.affine, affine)
    found, truth = back.numpy() > 0, np.asarray(scan) > 0
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.85


def world_box(volume: MetaTensor) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread of the bright voxels, mm."""
    where = np.argwhere(np.asarray(volume)[0] > 0.5)
    points = where @ np.asarray(volume.affine)[:3, :3].T + np.asarray(volume.affine)[:3, 3]
    return points.mean(axis=0), points.std(axis=0)


@pytest.mark.parametrize("code", ["PIR", "LAS"])
def test_the_later_steps_work_on_the_known_labels(code, tmp_path):
    values = np.zeros((6, 16, 12), np.uint8)
    values[2:4, 4:8, 3:9], values[2:4, 9:14, 3:9] = 2, 11
    file = write_nifti(tmp_path / "label.nii.gz", values, affine_of(), code)
    image = MetaTensor(torch.zeros(1, 1, *values.shape), affine=torch.from_numpy(affine_of())[None])
    state = SimpleNamespace(batch={"id": ["scan"]}, output={"image": image, "pred": torch.randn(1, 18, *values.shape)})
    LabelScores({"scan": str(file)}, "mrspineseg17")(SimpleNamespace(state=state))
    expected = LabelScheme.load("mrspineseg17").value_to_channel[values]
    np.testing.assert_array_equal(state.output["pred"].argmax(dim=1)[0], expected)
    assert len(np.unique(expected)) == 3


# -------------------------------------------------------------------------------------------------------- the measuring


class Model:
    """Stands for a process: says how long its runs took."""

    def __init__(self, name: str, seconds: list[float], calls: list[str]) -> None:
        self.model, self.seconds, self.calls = name, iter(seconds), calls

    def __call__(self) -> dict:
        self.calls.append(self.model)
        return {"volumes": [{"total": next(self.seconds)}]}


def measure(repeats: int, max_seconds: float = 600.0, **seconds: list[float]) -> tuple[list[str], list, list]:
    calls: list[str] = []
    models = [Model(name, values, calls) for name, values in seconds.items()]
    runs, warm_ups = benchmark._measure(models, repeats, max_seconds)
    return calls, [[run["volumes"][0]["total"] for run in of] for of in runs], warm_ups


def test_models_take_turns_after_a_warm_up():
    calls, runs, warm_ups = measure(2, a=[9, 1, 2], b=[8, 3, 4])
    assert calls == list("ababab")
    assert runs == [[1, 2], [3, 4]]
    assert [run["volumes"][0]["total"] for run in warm_ups] == [9, 8]


def test_a_long_first_run_counts_and_is_not_repeated_for_ever():
    _, runs, warm_ups = measure(3, max_seconds=150, slow=[100, 100, 100], quick=[1, 1, 1, 1])
    assert runs == [[100, 100], [1, 1, 1]]
    assert warm_ups[0] is None


def run_of(network: float, write: float, **more: float) -> dict:
    steps = dict.fromkeys(STEPS, 0.0) | {"network": network, "write": write}
    volume = steps | {"total": network + write, "cpu": 2 * network}
    return {"volumes": [volume], "passes": 1, "memory": 3 * 2**30}


def test_medians_shares_and_ratios():
    about = {"title": "", "window": [1, 2, 3], "parameters": 10, "memory_before": 2**30}
    rows = [
        summarize("dynunet", about, [run_of(12, 4)], None),
        summarize("safnet", about, [run_of(2, 1), run_of(4, 1), run_of(3, 1)], None),
        summarize("start", {"title": ""}, [{"volumes": [{"total": 8.0}]}], None),
    ]
    add_ratios(rows)
    assert rows[1]["seconds"] == {"median": 4, "min": 3, "max": 5}
    assert rows[1]["shares"]["network"] == 0.75 and rows[1]["shares"]["write"] == 0.25
    assert [row["seconds_ratio"] for row in rows] == [4, 1, 2]
    assert [row.get("network_ratio") for row in rows] == [4, 1, None]
    add_ratios(alone := [summarize("dynunet", about, [run_of(12, 4)], None)])
    assert "seconds_ratio" not in alone[0]


# ----------------------------------------------------------------------------------------------------------- end to end


def small_sshsnet(folder: Path) -> str:
    """Weights of a small SSHSNet for a coarse grid, with their plan: the bundle's own size takes minutes."""
    torch.manual_seed(0)
    stage1 = DualDeepLab(width=0.0625, layers=(1, 1, 1, 1))
    stage2 = HybridNet3D(map_channels=32, width=0.0625, layers=(1, 1, 1, 1))
    network = SSHSNet(stage1, stage2)
    for stage in network.untrained():
        network.mark_trained(stage)
    torch.save(network.state_dict(), folder / "sshsnet.pt")
    plan = {"spacing": [5.0, 5.0, None], "window_size": [64, 64, 4], "patch_size": [32, 32, 4]}
    plan |= {"width": 0.0625, "layers": [1, 1, 1, 1], "learned": list(range(1, 20))}
    (folder / "sshsnet.json").write_text(json.dumps(plan), encoding="utf-8")
    return str(folder / "sshsnet.pt")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[dict, list[dict], str]:
    """All models on a small phantom: JSON, CSV, and the tables."""
    folder = tmp_path_factory.mktemp("benchmark")
    files = [str(folder / f"result.{suffix}") for suffix in ("json", "csv", "md")]
    size = ["--phantom_size", "32,48,10", "--spatial_size", "8,32,16", "--sshsnet_checkpoint", small_sshsnet(folder)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "_LONG", 0.0)  # the first run counts: one run of each is enough here
        assert benchmark.main([*size, "--repeats", "1", "--threads", "1", "--output", *files]) == 0
    with open(files[1], newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    return (
        json.loads((folder / "result.json").read_text(encoding="utf-8")),
        table,
        (folder / "result.md").read_text(encoding="utf-8"),
    )


def test_every_model_has_its_row(finished):
    result, table, text = finished
    assert [row["model"] for row in result["models"]] == [row["model"] for row in table] == list(benchmark._NAMES)
    for row in result["models"]:
        assert sum(line.startswith(f"| {row['title']} |") for line in text.splitlines()) == (
            2 if "shares" in row else 1
        )
    assert result["machine"]["threads"] == 1 and result["load_before"] is not None


def test_what_the_rows_hold(finished):
    rows = {row["model"]: row for row in finished[0]["models"]}
    safnet = rows["safnet"]
    for name, row in rows.items():
        assert row["seconds_ratio"] == pytest.approx(row["seconds"]["median"] / safnet["seconds"]["median"])
        if name in benchmark.COMMANDS:
            continue
        assert set(row["shares"]) == set(STEPS) and sum(row["shares"].values()) == pytest.approx(1)
        assert all(row["shares"][step] > 0 for step in STEPS)
        assert row["memory"] >= row["memory_before"] > 0  # what is read is tested in test_machine.py
        assert row["network_ratio"] == pytest.approx(
            row["network_seconds"]["median"] / safnet["network_seconds"]["median"]
        )
        for run in row["runs"]:
            for volume in run["volumes"]:
                assert volume["total"] == pytest.approx(sum(volume[step] for step in STEPS))
    assert [rows[name]["passes"] for name in ("safnet", "segresnet", "dynunet")] == [1, 1, 1]
    for name in ("segresnet_sliding", "dynunet_sliding"):
        assert rows[name]["passes"] >= 8 and rows[name]["passes"] % 8 == 0
        assert rows[name]["window"] == finished[0]["plan"]["patch"]
    assert rows["safnet"]["window"] == [8, 32, 16]


def test_sshsnets_modes(finished):
    """On that grid the phantom, 57 x 57 x 10 voxels, fills a window of 64 x 64 with 3 x 3 patches of 32 x 32."""
    rows = {row["model"]: row for row in finished[0]["models"]}
    faithful, fast = rows["sshsnet"], rows["sshsnet_fast"]
    assert faithful["window"] == fast["window"] == [32, 32, 4]
    assert faithful["parameters"] == fast["parameters"]
    assert faithful["passes"] % 4 == 0 and 0 < fast["passes"] <= faithful["passes"]
    assert "sshsnet's weights: " in finished[0]["weights"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--models", "safnet,unet"], ["'unet'", "dynunet"]),
        (["--repeats", "0"], ["--repeats", "1 or more"]),
        (["--spatial_size", "18,256"], ["--spatial_size", "three numbers"]),
        (["--precision", "fp8"], ["--precision", "bf16"]),
        (["--precision", "fp16"], ["--precision fp16", "cpu"]),
        (["--device", "tpu"], ["--device tpu", "cuda"]),
        (["--volumes", "nowhere.nii.gz"], ["nowhere.nii.gz", "does not exist"]),
        (["--checkpoint", "nowhere.pt"], ["nowhere.pt", "no weights", "--checkpoint"]),
        (["--sshsnet_checkpoint", "nowhere.pt"], ["nowhere.pt", "no weights", "--sshsnet_checkpoint"]),
        (["--output", "table.xls"], ["table.xls", ".csv"]),
        (["--phantom_size", "4,4,4"], ["--phantom_size 4,4,4", "8 or more"]),
        (["--models", "safnet", "--phantom_size", "32,32,8", "--spatial_size", "8,30,16"], ["safnet", "16"]),
    ],
)
def test_bad_arguments_are_one_line(arguments, words, capfd, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where tracebacks go
    try:
        status = benchmark.main(arguments)
    except SystemExit as ended:
        status = ended.code
    out, err = capfd.readouterr()
    assert status == 1 and out == ""
    assert err.startswith("error: ") and len(err.splitlines()) == 1
    assert all(word in err for word in words)


def test_volumes_of_one_name_are_refused(tmp_path, capsys):
    files = [str(write_nifti(tmp_path / name / "scan.nii.gz", noise((9, 9, 9)))) for name in "ab"]
    assert benchmark.main(["--volumes", *files]) == 1
    assert "same name" in capsys.readouterr().err
