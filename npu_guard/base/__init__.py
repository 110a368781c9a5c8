"""What a machine gives, without ONNX: errors, limits, files, text made safe, terminal, sandbox, pool of processes."""
