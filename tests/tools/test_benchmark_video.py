from __future__ import annotations

import json

import pytest
import torch

from tools.benchmark import video

TINY = ["--spatial_size", "64", "64", "--unet_features", "8", "16", "--frames", "7", "--warm_up", "2", "--threads", "1"]


def test_a_tiny_run(tmp_path, capsys):
    files = [tmp_path / "out.json", tmp_path / "out.md"]
    assert (
        video.main([*TINY, "--networks", "funet,pnsnet", "--precision", "fp32,bf16", "--output", *map(str, files)]) == 0
    )
    printed = capsys.readouterr().out
    assert files[1].read_text(encoding="utf-8") == printed
    content = json.loads(files[0].read_text(encoding="utf-8"))
    rows = {(row["network"], row["way"], row["precision"]): row for row in content["rows"]}
    ways = [
        ("funet", "clip"),
        ("funet", "stream"),
        ("funet", "stream, no IFA"),
        ("pnsnet", "clip"),
        ("pnsnet", "stream"),
    ]
    assert list(rows) == [(*way, precision) for precision in ("fp32", "bf16") for way in ways]
    for row in rows.values():
        assert row["frames"] == 5 and 0 < row["ms_p50"] <= row["ms_p95"]
        assert row["frames_per_second"] == pytest.approx(1000 / row["ms_p50"])
        own = rows[row["network"], "clip", row["precision"]]
        assert row["times_own_clip"] == pytest.approx(own["ms_p50"] / row["ms_p50"])
        assert row["times_funet_clip"] == pytest.approx(
            rows["funet", "clip", row["precision"]]["ms_p50"] / row["ms_p50"]
        )
    assert rows["funet", "stream", "fp32"]["difference"] < 1e-6 > rows["pnsnet", "stream", "fp32"]["difference"]
    assert rows["funet", "stream, no IFA", "fp32"]["difference"] > 1e-3  # the frame weights do count in probabilities
    assert rows["funet", "clip", "fp32"]["difference"] is None
    assert printed.count("| FUnet | stream |") == 2


def test_a_network_without_memory_has_a_stream_only():
    network = video.build("unet", {"spatial_size": [32, 32]}, torch.device("cpu"))
    assert [way.way for way in video.ways_of("unet", network, torch.device("cpu"), torch.float32)] == ["stream"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--frames", "9", "--warm_up", "9"], "--frames 9: leaves nothing after the warm-up; pass more frames"),
        (["--frames", "5", "--warm_up", "1"], "--frames 5: is no more than a clip has; pass more frames"),
        (["--output", "a.txt"], "a.txt: is no known format; let the name end in .json or .md"),
        (["--device", "cuda"], "--device cuda: is not there"),
    ],
)
def test_mistakes(words, problem, capsys):
    if words == ["--device", "cuda"] and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    assert video.main(words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {problem}")
