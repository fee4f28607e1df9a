"""How a program runs exported ONNX files, with numpy and onnxruntime alone; each file can be copied by itself."""
