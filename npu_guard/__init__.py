"""npu-guard: will this ONNX model compile for that NPU, and if not, what has to change.

This package is the engine. Rules, sample models and reports are packs that live beside it in a checkout
(`rules/`, `models/`, `reports/`) and inside it in a wheel; both are imported as `npu_guard.rules...`.
"""

import os
from pathlib import Path

__version__ = "0.1.0"

# In a checkout (also an editable install) the packs lie beside this package, in a wheel inside it.
_checkout = Path(__file__).parent.parent
if os.path.isfile(_checkout / "pyproject.toml") and os.path.isdir(_checkout / "rules"):
    __path__.append(str(_checkout))
