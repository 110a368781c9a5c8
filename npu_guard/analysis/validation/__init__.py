"""What a file from a stranger must be: tensors, attributes, and operands that go together."""
