"""Running models: inputs, ONNX Runtime, interfaces, comparison slice by slice, flips, bisection, int8."""
