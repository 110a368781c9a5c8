"""What each operator of ONNX means, in terms of an `Arithmetic`."""
