"""Cutting a model into pieces for NPU and host."""
