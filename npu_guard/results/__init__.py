"""What the engine says, as values: findings, verdicts, fingerprints, counts. Nothing here imports onnx."""
