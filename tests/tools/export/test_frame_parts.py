from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from common.inferers import FrameStream
from common.networks import FUnet
from tests.tools.export.exports import check_description, export, needs_onnx, network_of, run_example, words
from tools.export.formats import FORMATS

BESS = {"classifier_width": 0.125, "classifier_size": [24, 32], "segmenter_size": [32, 48], "features": [4, 8]}
FUNET = {"spatial_size": [32, 48], "frames": 3, "unet_features": [8, 16]}


# ------------------------------------------------------------------------------------------------------------- streams


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """FUnet's parts in ONNX, of weights that bring their settings with them."""
    needs_onnx()
    folder = tmp_path_factory.mktemp("stream")
    made = network_of("funet", FUNET)
    torch.save(made.network.state_dict(), folder / "model.pt")
    plan = {name: value for name, value in made.settings.items() if name not in ("threshold", "frame_weights")}
    (folder / "model.json").write_text(json.dumps(plan), encoding="utf-8")
    given = ["funet", "--checkpoint", folder / "model.pt", "--output", folder / "out", "--formats", "onnx"]
    assert export(*given, "--parts", "frame_encoder,frame_decoder") == 0
    return made.network, folder / "out", folder / "model.pt"


def test_a_stream_without_torch_is_the_bundles_own(stream):
    network, folder, _ = stream
    frames = torch.randn(6, 3, 32, 48, generator=torch.Generator().manual_seed(3))
    found, _ = run_example("stream", folder, frames)
    own = FrameStream(network)
    expected = torch.stack([own.push(frame)[0] for frame in frames]).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # The probabilities depend on the frames before: one by one they are others.
    own.reset()
    alone = own.push(frames[5])[0].numpy()
    assert np.abs(found[5] - alone).max() > 1e-4


def test_what_a_stream_has_to_carry(stream):
    _, folder, checkpoint = stream
    (folder / "given.npy").unlink(missing_ok=True)
    (folder / "found.npy").unlink(missing_ok=True)
    content = check_description(folder, {"onnx"})
    encoder, decoder = (
        next(p for p in content["parts"] if p["name"] == f"frame_{name}") for name in ("encoder", "decoder")
    )
    assert encoder["inputs"][0]["shape"] == ["batch", 3, 32, 48] and encoder["inputs"][0]["name"] == "frames"
    memory = encoder["outputs"][0]["shape"]
    assert decoder["inputs"][0]["shape"] == ["batch", 3, *memory[1:]] and memory[1:] == [24, 4, 6]
    assert "ring buffer of the memories of the last 3 frames, each [24, 4, 6]" in content["use"][0]
    assert content["constants"] == {"frames": 3, "threshold": 0.5} and content["settings"]["unet_features"] == [8, 16]
    assert content["weights"]["file"] == str(checkpoint) and not content["random_weights"]
    assert "subtract [0.485, 0.456, 0.406] and divide by [0.229, 0.224, 0.225]" in content["preprocessing"][2]


def test_an_onnx_file_describes_itself(stream):
    import onnx

    model = onnx.load(stream[1] / "funet_frame_decoder.onnx")
    entries = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(entries["part.json"])["name"] == "frame_decoder"
    dims = [[dim.dim_param or dim.dim_value for dim in port.type.tensor_type.shape.dim] for port in model.graph.input]
    assert dims == [["batch", 3, 24, 4, 6], ["batch", 1, 4, 6]]
    assert [port.name for port in model.graph.output] == ["logits"]


def test_clips_with_and_without_frame_weights():
    for weights in (True, False):
        made = network_of("funet", FUNET | {"frame_weights": weights})
        clip, encoder, decoder = made.plan().parts
        assert isinstance(made.network, FUnet)
        clips, frames = clip.examples(0)[0], made.network.frames
        with torch.no_grad():
            expected = made.network(clips, weights)
            memory, current = encoder.module(clips.flatten(0, 1))
            memories = memory.unflatten(0, [2, frames])
            last = decoder.module(memories, current.unflatten(0, [2, frames])[:, -1])
            assert torch.equal(clip.module(clips), expected)
            torch.testing.assert_close(last, expected[:, -1])
            assert torch.equal(expected, made.network(clips, True)) is weights


# ---------------------------------------------------------------------------------------------------------- two stages


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """BESS with a gate that some frames pass; both stages in ONNX, the pipeline in the formats of torch."""
    needs_onnx()
    folder = tmp_path_factory.mktemp("stages")
    frames = torch.rand(5, 3, 40, 56, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        probabilities = network_of("bess", BESS).network.gate(frames).sort().values
    ids = BESS | {"gate_threshold": float(probabilities[2:4].mean())}
    given = ["bess", "--random_weights", *words(ids)]
    status = [
        export(*given, "--output", folder / "onnx", "--formats", "onnx", "--parts", "classifier,segmenter"),
        export(*given, "--output", folder / "torch", "--formats", "torchscript,torch_export"),
    ]
    assert status == [0, 0]
    return network_of("bess", ids).network, folder, frames


def test_two_stages_without_torch_are_the_bundles_own(stages):
    network, folder, frames = stages
    found, printed = run_example("two_stages", folder / "onnx", frames)
    with torch.no_grad():
        expected, probabilities = network(frames), network.gate(frames)
    assert [float(line) for line in printed.split()] == pytest.approx(probabilities.tolist(), abs=2e-6)
    np.testing.assert_allclose(found, expected[:, 0].numpy(), atol=1e-4)
    closed = [bool((mask == -20).all()) for mask in found]
    assert closed.count(True) == 3 and closed.count(False) == 2


def test_the_pipeline_as_one(stages):
    network, folder, frames = stages
    content = check_description(folder / "torch", {"torchscript", "torch_export"})
    assert content["random_weights"] and "random" in content["weights"] and not content["skipped"]
    assert content["constants"]["gate_threshold"] == network.threshold
    with torch.no_grad():
        expected = network(frames)
        for form, suffix in (("torchscript", ".ts"), ("torch_export", ".pt2")):
            run = FORMATS[form].load(folder / "torch" / f"bess_pipeline{suffix}", torch.device("cpu"))
            torch.testing.assert_close(run(frames), expected, rtol=1e-4, atol=1e-5)
    scripted = torch.jit.load(folder / "torch" / "bess_pipeline.ts")
    torch.testing.assert_close(scripted.gate(frames), network.gate(frames))
