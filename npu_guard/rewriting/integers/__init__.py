"""A quantized network as one in real numbers, for forms that know nothing of integers, and back."""
