"""The fix in the training code: land it as PyTorch source with weights, put it into a network, take checkpoints along.

See docs/training.md. `import npu_guard.torch` imports no torch; the functions do.
"""

from npu_guard.api.torch import apply, convert, exported, fine_tune, heal, land, remove

__all__ = ["apply", "convert", "exported", "fine_tune", "heal", "land", "remove"]
