"""Networks of the bundles in the formats that other programs run: TorchScript, ONNX, torch.export and TensorRT."""
