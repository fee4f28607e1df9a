from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from common.networks import TwoStage
from tools.benchmark import frames
from tools.benchmark.flops import count_flops, count_parameters
from tools.benchmark.frame_models import MODELS
from tools.benchmark.frame_pipeline import NewestFrames, TimedPipeline, is_open, measure_gating, measure_stream
from tools.benchmark.frame_settings import PreparedNetwork, Setting
from tools.benchmark.turns import take_turns

CPU = torch.device("cpu")
TINY = [
    *("--features", "4", "8", "--classifier_size", "32", "32", "--segmenter_size", "16", "16"),
    *("--frame_size", "32", "48", "--frames", "4", "--warm_up", "1", "--threads", "1", "--open_share", "0.5"),
]

# ------------------------------------------------------------------------------------------------------------- counts

# Trainable parameters, these with the statistics, 1e9 operations of convolutions and linear layers, and the same as
# table 5 counts them.
COUNTS = {
    "resnet18": (11_177_921, 11_187_521, 3.627, 3.627),
    "resnet34": (21_286_081, 21_303_105, 7.326, 7.326),
    "mobilenetv3": (4_203_313, 4_227_713, 0.431, 0.431),
    "unet": (3_306_449, 3_310_865, 46.571, 46.624),
    "resunet": (3_652_113, 3_656_529, 50.623, 50.691),
    "r2unet": (6_348_641, 6_357_537, 59.005, 59.112),
    "aunet": (2_015_204, 2_018_724, 22.416, 22.460),
    "aresunet": (2_446_884, 2_450_404, 28.078, 28.137),
    "ar2unet": (2_644_268, 2_650_284, 45.602, 45.701),
    "segformer_b0": (3_714_401, 3_714_913, 2.650, 2.650),
    "segformer_b1": (13_677_505, 13_678_017, 5.195, 5.195),
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_those_of_table_5(name):
    if name.startswith("segformer"):
        pytest.importorskip("transformers", reason="SegFormer needs the package transformers")
    model = MODELS[name]
    network = model.build(countable=True)
    trainable, with_statistics, gflops, as_in_table_5 = COUNTS[name]
    assert count_parameters(network) == (trainable, with_statistics)
    assert count_flops(network, model.counted_size) / 1e9 == pytest.approx(gflops, abs=5.1e-4)
    counted = count_flops(network, model.counted_size, model.elementwise) / 1e9
    assert counted == pytest.approx(as_in_table_5, abs=5.1e-4)
    # As the paper prints it; SegFormer-B0 has 2.6497 and is printed as 2.7.
    assert f"{with_statistics / 1e6:.1f}" == f"{model.million:.1f}"
    assert counted == pytest.approx(model.gflops, abs=0.0504)


def test_operations_of_one_layer():
    layers = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(5, 2, 1, bias=False))
    pixels = 4 * 6
    products = pixels * (5 * 3 * 9 + 2 * 5)
    assert count_flops(layers, (4, 6)) == 2 * products
    assert count_flops(layers, (4, 6), elementwise=True) == 2 * products + pixels * 5 + pixels * 5


# ----------------------------------------------------------------------------------------------- a source that runs on


class FakeClock:
    def __init__(self):
        self.time = 100.0

    def now(self):
        return self.time

    def sleep(self, seconds):
        self.time += seconds


@pytest.mark.parametrize(
    ("milliseconds", "taken", "came", "dropped"),
    [
        (20, [0, 1, 2, 3, 4], 5, 0),  # waits for each
        (100, [0, 1, 2, 3, 4], 5, 0),  # just in time
        (150, [0, 1, 3, 4, 6], 7, 2),
        (250, [0, 2, 5, 7, 10], 11, 6),
        (1000, [0, 10, 20, 30, 40], 41, 36),
    ],
)
def test_only_the_newest_frame_is_taken(milliseconds, taken, came, dropped):
    clock = FakeClock()
    source = NewestFrames(10, clock)
    found = []
    for _ in taken:
        number, moment = source.take()
        assert moment == pytest.approx(100 + number / 10) and moment <= clock.time + 1e-9
        found.append(number)
        clock.time += milliseconds / 1000 + 1e-6
    assert found == taken
    assert (source.came, source.dropped) == (came, dropped)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.375, 0.5, 0.7, 0.75, 1.0])
def test_open_frames_are_spread_evenly(share):
    pattern = [is_open(number, share) for number in range(40)]
    assert sum(pattern) == round(40 * share)
    assert all(abs(sum(pattern[:count]) - count * share) < 1 for count in range(1, 41))


# --------------------------------------------------------------------------------------------------------- two stages


class Classifier(nn.Module):
    """Says no to everything and counts its calls."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return torch.full([len(x), 1], -9.0)


class Segmenter(nn.Module):
    """Finds what is bright; takes as long as ``clock`` is told."""

    calls = 0

    def __init__(self, clock=None):
        super().__init__()
        self.clock = clock

    def forward(self, x):
        self.calls += 1
        if self.clock is not None:
            self.clock.time += 0.25
        return 10 * (x.mean(dim=1, keepdim=True) - 0.5)


def two_stages(clock=None):
    return TimedPipeline(TwoStage(Classifier(), Segmenter(clock), 0.5, (8, 8), (16, 16)).eval(), CPU)


def picture():
    frame = np.zeros((16, 16, 3), np.uint8)
    frame[4:8, 6:12] = 255
    return frame


def test_steps_of_a_frame():
    pipeline = two_stages()
    mask, times = pipeline(picture(), True)
    np.testing.assert_array_equal(mask, picture()[..., 0] // 255)
    assert mask.dtype == np.uint8
    assert list(times) == ["preprocess", "classifier", "segmenter", "postprocess", "whole"]
    assert times.pop("whole") == pytest.approx(sum(times.values()))
    mask, times = pipeline(picture(), False)
    assert not mask.any()
    assert list(times) == ["preprocess", "classifier", "postprocess", "whole"]
    assert times.pop("whole") == pytest.approx(sum(times.values()))
    assert (pipeline.network.classifier.calls, pipeline.network.segmenter.calls) == (2, 1)


@pytest.mark.parametrize(("share", "came", "opened"), [(1.0, 18, 8), (0.0, 8, 0), (0.5, 11, 4)])
def test_a_slow_segmenter_drops_frames(share, came, opened):
    clock = FakeClock()
    pipeline = two_stages(clock)
    row = measure_stream(pipeline, [picture()], share, 8, 1, lambda: NewestFrames(10, clock))
    assert (row["frames"], row["came"], row["dropped"]) == (8, came, came - 8)
    assert row["open_share"] == opened / 8
    assert pipeline.network.segmenter.calls == opened + (share > 0)  # one warms up
    assert pipeline.network.classifier.calls == 9
    assert ("segmenter" in row["steps"]) == (opened > 0)
    steps = {step: spread for step, spread in row["steps"].items() if step not in ("whole", "age")}
    assert sum(spread["share"] for spread in steps.values()) == pytest.approx(1)
    assert row["bound_by"] == max(steps, key=lambda step: steps[step]["share"])
    assert row["steps"]["whole"]["count"] == 8


def test_what_the_gate_saves(monkeypatch):
    times = {True: {"segmenter": 80.0, "whole": 100.0}, False: {"whole": 22.0}}
    pipeline = two_stages()
    monkeypatch.setattr(TimedPipeline, "__call__", lambda self, frame, passes: (None, dict(times[passes])))
    rows = measure_gating(pipeline, [picture()], [0.25, 0.5], 8, 2)
    assert [row["share"] for row in rows] == [0.25, 0.5]
    assert [row["ms_share"] for row in rows] == [0.25 * 100 + 0.75 * 22, 0.5 * 100 + 0.5 * 22]
    for row in rows:
        assert (row["ms_open"], row["ms_closed"], row["ms_segmenter"]) == (100, 22, 80)
        assert row["saved"] == pytest.approx((1 - row["share"]) * 0.78)
        assert row["promised"] == pytest.approx((1 - row["share"]) * 0.8)
        assert row["ratio"] == pytest.approx(0.975) == row["ratio_of_means"]


def test_ways_take_turns():
    calls = []
    ways = [lambda number, way=way: calls.append((number, way)) for way in "abc"]
    times = take_turns(ways, 3, 1, CPU)
    assert calls == [(0, "a"), (0, "b"), (0, "c"), (1, "b"), (1, "c"), (1, "a"), (2, "c"), (2, "a"), (2, "b")]
    assert [len(taken) for taken in times] == [2, 2, 2]


@pytest.mark.parametrize("setting", [Setting(), Setting(channels_last=True), Setting("bf16")])
def test_a_setting_changes_no_result(setting):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1)).eval()
    frame = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        expected = network(frame)
    found = PreparedNetwork(network, setting, CPU)(frame)
    assert found.dtype == torch.float32 and not found.requires_grad
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02 if setting.precision == "bf16" else 1e-6)
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last) == setting.channels_last


def test_a_setting_with_a_graph_plays_a_recording_back(monkeypatch):
    recorded = []

    def capture(compute, device):
        output = compute()
        recorded.append(output)
        return output, lambda: output.copy_(compute())

    monkeypatch.setattr("tools.stream.cuda_graph.capture_graph", capture)
    prepared = PreparedNetwork(Segmenter().eval(), Setting(cuda_graph=True), CPU)
    for value in (0.25, 0.75):
        assert prepared(torch.full([1, 3, 4, 4], value)).unique().tolist() == [10 * (value - 0.5)]
    assert len(recorded) == 1


# -------------------------------------------------------------------------------------------------------- the command


def test_a_tiny_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)  # as if it were not installed
    files = [tmp_path / "out.json", tmp_path / "out.md"]
    chosen = ["--models", "mobilenetv3,unet,segformer_b0", "--channels_last", "no,yes", "--gating_shares", "0.25,0.5"]
    assert frames.main([*TINY, *chosen, "--output", *map(str, files)]) == 0
    printed, progress = capsys.readouterr()
    assert files[1].read_text(encoding="utf-8") == printed
    content = json.loads(files[0].read_text(encoding="utf-8"))
    settings = ["fp32", "fp32, channels last"]

    models = content["results"]["models"]
    assert [(row["model"], row["size"]) for row in models] == [("mobilenetv3", [32, 32]), ("unet", [16, 16])]
    for row in models:
        assert list(row["times"]) == settings
        assert all(0 < spread["ms_p50"] <= spread["ms_p95"] for spread in row["times"].values())
    assert "| MobileNetV3-Large | 32x32 | 4.203 | 4.228 | 4.2 | " in printed
    missing = "SegFormer-B0 is left out: SegFormer needs the package transformers"
    assert f"\n- {missing}" in printed and missing in progress

    streams = content["results"]["pipeline"]
    gates = ["open", "closed", "measured share"]
    assert [(row["setting"], row["gate"]) for row in streams] == [(name, gate) for name in settings for gate in gates]
    assert [row["open_share"] for row in streams[:3]] == [1, 0, 0.5]
    assert all(row["frames"] == 4 and row["came"] == 4 + row["dropped"] for row in streams)
    assert all(row["steps"]["whole"]["count"] == 4 for row in streams)

    gating = content["results"]["gating"]
    assert [(row["setting"], row["share"]) for row in gating] == [(name, s) for name in settings for s in (0.25, 0.5)]
    assert printed.count("\n## ") == 3
    for table in (part for part in printed.split("\n\n") if part.startswith("|")):
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_one_part_only(capsys):
    assert frames.main([*TINY, "--parts", "gating", "--gating_shares", "0.5"]) == 0
    printed = capsys.readouterr().out
    assert "## What the gate saves" in printed and printed.count("\n## ") == 1
    assert "ResNet-18 at 32x32 and U-Net at 16x16 on frames of 32x48" in printed


def test_share_of_the_phantoms_of_training(monkeypatch):
    def make(seed, length, size):
        return SimpleNamespace(present=np.arange(length) < 2 * seed)

    monkeypatch.setattr(frames, "make_video_phantom", make)
    frames.phantom_share.cache_clear()
    assert frames.phantom_share() == pytest.approx(sum(range(0, 40, 2)) / 800)
    frames.phantom_share.cache_clear()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--models", "vgg"], "argument --models: 'vgg' is none of resnet18, "),
        (["--parts", "all"], "argument --parts: 'all' is none of models, pipeline, gating; see --help"),
        (["--open_share", "1"], "argument --open_share: expected a number between 0 and 1, got '1'"),
        (["--gating_shares", "0.5,0"], "argument --gating_shares: expected a number between 0 and 1, got '0'"),
        (["--frames", "0"], "argument --frames: expected 1 or more, got '0'"),
        (["--frame_rate", "0"], "argument --frame_rate: expected a number above 0, got '0'"),
        (["--precision", "fp16"], "--precision fp16: does not run on cpu; choose bf16 or fp32"),
        (["--cuda_graphs", "no,yes"], "--cuda_graphs yes: does not run on cpu; choose no, or pass --device cuda"),
        (["--device", "gpu"], "--device gpu: is not known; choose cpu or cuda"),
        (["--output", "a.txt"], "a.txt: is no known format; let the name end in .json or .md"),
        (["--features", "6", "8"], "U-Net: cannot be built (UNetFamily expects two or more `features`, multiples of 4"),
        (["--segmenter_size", "15", "16"], "U-Net: cannot be built ("),
    ],
)
def test_mistakes(words, problem, capsys):
    try:
        status = frames.main([*TINY, "--models", "unet", *words])
    except SystemExit as end:
        status = end.code
    assert status == 1
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith(f"error: {problem}") and not captured.out


def test_a_pipeline_without_its_package(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert frames.main([*TINY, "--parts", "pipeline", "--segmenter", "segformer_b0"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --segmenter: SegFormer needs the package transformers; pip install -r ")
