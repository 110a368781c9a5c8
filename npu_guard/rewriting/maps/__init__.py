"""The lowering of whatever rearranges, multiplies or reduces static tensors to operators that maps [B, C, H, W] have."""
