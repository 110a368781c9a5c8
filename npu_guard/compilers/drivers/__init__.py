"""Scripts that run in a compiler's own environment: the standard library, onnx, numpy and that compiler, nothing of ours."""
