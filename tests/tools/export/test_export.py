from __future__ import annotations

import json
import math
import shutil

import pytest
import torch

from tests.bundles.runs import ROOT
from tests.tools.export.exports import export, network_of, words
from tests.tools.export.test_frame_parts import BESS, FUNET
from tools.export import formats
from tools.export.comparison import compare
from tools.export.formats import FORMATS, PartExport
from tools.export.part import Axis, Part, Port, normal
from tools.export.report import Row

ONE = ["--parts", "classifier", "--formats", "torchscript"]
CPU = torch.device("cpu")


# ---------------------------------------------------------------------------------------------------------- comparison


@pytest.fixture(scope="module")
def classifier():
    return PartExport(network_of("bess", BESS).plan().parts[0], CPU)


@torch.no_grad()
def test_what_is_no_rounding_is_found(classifier):
    original, calls = classifier.part.original, []

    def exact(x: torch.Tensor) -> torch.Tensor:
        calls.append(tuple(x.shape))
        return original(x)

    assert compare(classifier, exact, 1e-4).ok and compare(classifier, exact, 1e-4).difference == 0
    assert calls[:2] == [(2, 3, 40, 72), (1, 3, 32, 48)]
    wrong = compare(classifier, lambda x: original(x) * 1.001, 1e-4)
    assert not wrong.ok and wrong.difference == pytest.approx(0.001 * wrong.largest, rel=1e-3)
    assert wrong.tolerance == pytest.approx(1e-4 * wrong.largest)
    assert not compare(classifier, lambda x: original(x) if len(x) == 2 else original(x) + 0.1, 1e-4).ok
    shapes = compare(classifier, lambda x: original(x)[:, None], 1e-4)
    assert not shapes.ok and shapes.problem == "shapes [[2, 1]] instead of [[2]]" and math.isinf(shapes.difference)
    assert compare(classifier, lambda x: original(x) / 0, 1e-4).problem == "numbers that are not finite"


@torch.no_grad()
def test_the_furthest_output_counts():
    encoder = PartExport(network_of("funet", FUNET).plan().parts[1], CPU)
    for place in (0, 1):

        def run(x: torch.Tensor, place: int = place) -> list[torch.Tensor]:
            outputs = list(encoder.part.original(x))
            outputs[place] = outputs[place] * 1.01
            return outputs

        result = compare(encoder, run, 1e-4)
        assert not result.ok and result.difference == pytest.approx(0.01 * result.largest, rel=1e-3)


class Cancelling(torch.nn.Module):
    """Multiplies by a weight, and loses digits on the way: all but seven in float32."""

    def __init__(self, large: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([0.3]))
        self.large = large

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.weight + self.large) - self.large


@torch.no_grad()
def test_a_network_that_rounds_by_more_than_the_tolerance_is_given_its_own_rounding():
    ports = [Port(name, (Axis("batch"), 1000), "", normal) for name in ("x", "y")]
    rounding, hopeless = (Cancelling(large) for large in (1e4, 1e7))
    exports = [PartExport(Part("p", "", one, ports[:1], ports[1:], one), CPU) for one in (rounding, hopeless)]
    weight = rounding.weight.clone()
    result = compare(exports[0], lambda x: x * weight, 1e-4)
    assert result.ok and 1e-4 * result.largest < result.difference == pytest.approx(result.rounding, rel=1e-3)
    assert result.tolerance == 4 * result.rounding and rounding.weight.dtype == torch.float32
    assert torch.equal(rounding.weight, weight)
    row = Row("p", "onnx", "f.onnx", 1, 1.0, result)
    assert str(row).endswith(f"  ok: the original's own rounding is {result.rounding:.2e}")
    wrong = compare(exports[0], lambda x: x * weight * 1.01, 1e-4)
    assert not wrong.ok and wrong.tolerance == result.tolerance
    lost = compare(exports[1], lambda x: x * weight, 1e-4)
    assert not lost.ok and lost.tolerance == 1e-2 * lost.largest


@torch.no_grad()
def test_a_closed_gate_is_said():
    """Nothing passes: whatever the segmenter does, the numbers are the same."""
    said = {}
    for threshold in (0.0, 1.0):
        pipeline = PartExport(network_of("bess", BESS | {"gate_threshold": threshold}).plan().parts[2], CPU)
        result = compare(pipeline, pipeline.part.module, 1e-4)
        said[threshold] = (result.constant, str(Row("pipeline", "onnx", "f.onnx", 1, 1.0, result)).split("  ")[-1])
    closed = "ok, but the original gave one number everywhere: the gate was closed"
    assert said == {0.0: (False, "ok"), 1.0: (True, closed)}


# ------------------------------------------------------------------------------------------------------------- command

MISTAKES = {
    "no bundle": (["besss"], "besss: is not a model; did you mean bess?"),
    "no weights": (["TMP/bare"], "bare/models/model.pt: there are no weights; train first, pass --checkpoint"),
    "no such weights": (["bess", "--checkpoint", "TMP/nothing.pt"], "nothing.pt: there are no weights"),
    "weights and none": (["bess", "--random_weights", "--checkpoint", "TMP/a.pt"], "contradicts --checkpoint"),
    "weights of another network": (["bess", "--checkpoint", "TMP/another.pt"], "does not fit this network"),
    "other settings than the weights'": (
        ["bess", "--checkpoint", "TMP/planned.pt", "--set", "normalize=imagenet"],
        'was trained with normalize "none", not "imagenet"',
    ),
    "no format": (["bess", "--formats", "onxn"], "'onxn' is none of torchscript, onnx, torch_export, tensorrt"),
    "no part": (["bess", "--random_weights", "--parts", "gate"], "choose of classifier, segmenter, pipeline"),
    "no id": (["bess", "--random_weights", "--set", "clasifier=resnet34"], "did you mean classifier?"),
    "no value": (["bess", "--random_weights", "--set", "classifier"], "is not of the form ID=VALUE"),
    "an unfit value": (["bess", "--random_weights", "--set", "classifier=vgg"], "resnet18, resnet34, mobilenetv3"),
    "no device": (["bess", "--random_weights", "--device", "tpu"], "--device tpu: is not known"),
    "no opset": (["bess", "--random_weights", "--opset", "0"], "expected 1 or more, got '0'"),
    "not writable": (
        ["bess", "--random_weights", "--output", "TMP/another.pt/out"],
        "another.pt/out: cannot be written",
    ),
    "no configuration": (["bess", "--random_weights", "--config_file", "TMP/no.json"], "no.json: cannot be read"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line(mistake, tmp_path, capsys):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "another.pt")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "planned.pt")
    (tmp_path / "planned.json").write_text(json.dumps({"normalize": "none"}), encoding="utf-8")
    bare = shutil.copytree(ROOT / "bundles" / "funet" / "configs", tmp_path / "bare" / "configs").parent
    (bare / "common").symlink_to(ROOT / "common")
    given, problem = MISTAKES[mistake]
    before = set(tmp_path.rglob("*"))
    try:
        status = export(*(word.replace("TMP", str(tmp_path)) for word in given))
    except SystemExit as ended:
        status = ended.code
    assert status == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and problem in line, line
    assert set(tmp_path.rglob("*")) == before


def test_a_missing_package(tmp_path, capsys, monkeypatch):
    found = formats.find_spec
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "onnxruntime" else found(name))
    given = ["bess", "--random_weights", "--output", tmp_path / "out", *words(BESS)]
    assert export(*given, "--formats", "onnx") == 1
    assert capsys.readouterr().err == (
        "error: --formats onnx: needs the package onnxruntime; pip install -r tools/requirements-extra.txt\n"
    )
    assert export(*given, "--formats", "tensorrt") == 1
    assert "needs the package torch_tensorrt; leave it out of --formats" in capsys.readouterr().err
    assert export(*given, "--parts", "classifier") == 0
    printed = capsys.readouterr().out
    assert "onnx was left out: it needs the package onnxruntime" in printed and "weights are random" in printed
    content = json.loads((tmp_path / "out" / "export.json").read_text(encoding="utf-8"))
    assert content["skipped"]["onnx"] == "needs the package onnxruntime"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "bess_classifier.ts", "bess_classifier.pt2", "export.json",
    }  # fmt: skip


def test_one_format_that_fails(tmp_path, capsys, monkeypatch):
    """The others are written all the same."""

    def fail(*_: object) -> None:
        raise RuntimeError("no such\noperator")

    monkeypatch.setattr(formats.TorchExport, "write", fail)
    given = ["bess", "--random_weights", "--output", tmp_path / "out", *words(BESS), "--parts", "segmenter"]
    assert export(*given, "--formats", "torch_export,torchscript") == 1
    said = capsys.readouterr()
    assert "FAILED: RuntimeError: no such operator" in said.out
    assert said.err == "error: an export failed, see the table; --debug shows where\n"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"bess_segmenter.ts", "export.json"}
    files = json.loads((tmp_path / "out" / "export.json").read_text(encoding="utf-8"))["parts"][1]["files"]
    assert files[0] == {"format": "torch_export", "file": None, "problem": "FAILED: RuntimeError: no such operator"}
    assert files[1]["ok"]


def test_numbers_that_differ(tmp_path, capsys, monkeypatch):
    load = formats.TorchScript.load
    monkeypatch.setattr(formats.TorchScript, "load", lambda *given: lambda x: load(*given)(x) + 1)
    assert export("bess", "--random_weights", "--output", tmp_path, *words(BESS), *ONE) == 1
    assert capsys.readouterr().out.splitlines()[1].endswith("FAILED")
    assert not json.loads((tmp_path / "export.json").read_text(encoding="utf-8"))["parts"][0]["files"][0]["ok"]


def test_an_interrupted_export_leaves_what_was_there(tmp_path, capsys, monkeypatch):
    given = ["bess", "--random_weights", "--output", tmp_path, *words(BESS), *ONE]
    assert export(*given) == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(formats.TorchScript, "load", interrupt)
    assert export(*given) == 130
    assert capsys.readouterr().err == "interrupted; nothing was written\n"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_weights_choose_the_configuration(tmp_path):
    """Weights of another network of the bundle, without a word on the command line."""
    made = network_of("funet", FUNET)
    plan = {name: value for name, value in made.settings.items() if name not in ("threshold", "frame_weights")}
    (tmp_path / "model.json").write_text(json.dumps(plan | {"model": "clip_unet"}), encoding="utf-8")
    with torch.no_grad():
        from common.networks import ClipUNet

        network = ClipUNet(3, spatial_size=(32, 48), features=(8, 16))
    torch.save(network.state_dict(), tmp_path / "model.pt")
    given = ["funet", "--checkpoint", tmp_path / "model.pt", "--output", tmp_path / "out"]
    assert export(*given, "--formats", "torchscript", "--parts", "clip") == 0
    content = json.loads((tmp_path / "out" / "export.json").read_text(encoding="utf-8"))
    assert content["network"] == "ClipUNet" and content["settings"]["model"] == "clip_unet"


# ------------------------------------------------------------------------------------------------------------ TensorRT


def test_tensorrt_is_monais(classifier, tmp_path, monkeypatch):
    """Not run here: what MONAI's converter is asked for, and what becomes of its answer."""
    asked = {}

    def convert(model, precision, input_shape, **settings):
        asked.update(settings, precision=precision, input_shape=input_shape)
        return torch.jit.script(model)

    monkeypatch.setattr(formats, "convert_to_trt", convert)
    form = FORMATS["tensorrt"]
    form.write(classifier, tmp_path / "part.trt.ts")
    assert asked == {"precision": "fp32", "input_shape": [2, 3, 40, 72], "dynamic_batchsize": [1, 2, 8], "device": 0}
    assert form.load(tmp_path / "part.trt.ts", CPU)(classifier.examples(1)[0]).shape == (1,)


def test_what_tensorrt_cannot_take(monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: True)
    form = FORMATS["tensorrt"]
    assert form.unavailable(CPU) == "needs --device cuda" and form.unavailable(torch.device("cuda")) is None
    refused = {part.name: form.refuses(part) is not None for part in network_of("funet", FUNET).plan().parts}
    assert refused == {"clip": False, "frame_encoder": False, "frame_decoder": True}
