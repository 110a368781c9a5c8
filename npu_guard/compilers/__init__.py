"""Vendors' compilers as a second opinion: run one on a model, read what it says of each node, compare that with the rules.

A compiler is a command in an environment of its own. None is a dependency of npu-guard, and nothing of one is imported here.
"""
