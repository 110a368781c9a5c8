"""Tensors of rank 5 as maps: the depth folded into the channels."""
