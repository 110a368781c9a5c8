"""What Python programs and notebooks call. `npu_guard` itself offers these names; docs/api.md shows how to use them."""
