from __future__ import annotations

import monai.bundle
import torch

from tests.bundles.runs import ROOT, undone
from tests.tools.export.exports import needs_onnx, network_of
from tests.tools.export.test_frame_parts import BESS


def test_monais_own_command(tmp_path):
    """It writes one file, whose axes are fixed; two stages need `always_segment`, which has no control flow."""
    needs_onnx()
    import onnxruntime

    network, root, file = network_of("bess", BESS).network, ROOT / "bundles" / "bess", tmp_path / "model.onnx"
    torch.save(network.state_dict(), tmp_path / "model.pt")
    with undone():
        monai.bundle.onnx_export(
            "network_def",
            str(file),
            str(tmp_path / "model.pt"),
            config_file=str(root / "configs" / "inference.json"),
            input_shape=[2, 3, 40, 56],
            bundle_root=str(root),
            device="cpu",
            **BESS,
            **{"network_def#always_segment": True, "network_def#threshold": 0.0},
        )
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [2, 3, 40, 56]
    frames = torch.rand(2, 3, 40, 56)
    (found,) = session.run(None, {session.get_inputs()[0].name: frames.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), network.segment(frames), rtol=1e-4, atol=1e-5)
