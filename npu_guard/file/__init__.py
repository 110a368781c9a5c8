"""An .onnx file from a stranger, read safely and written: sources, wire format, tensors, external data, document, save."""
