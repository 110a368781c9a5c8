"""`python -m npu_guard` is `npu-guard`."""

from npu_guard.cli import main

main()
