"""npu-guard: will this ONNX model compile for that NPU, and if not, what has to change.

This package is the engine. Rules, sample models and reports are packs that live beside it in a checkout
(`rules/`, `models/`, `reports/`) and inside it in a wheel; both are imported as `npu_guard.rules...`.

Python programs call `npu_guard.check`, `fix`, `verify`, `partition`, `quantize` and `export` (docs/api.md).
"""

from typing import TYPE_CHECKING, Any

from npu_guard.base.installation import ROOTS, VERSION

if TYPE_CHECKING:
    from npu_guard.api.calls import check as check
    from npu_guard.api.calls import export as export
    from npu_guard.api.calls import fix as fix
    from npu_guard.api.calls import partition as partition
    from npu_guard.api.calls import quantize as quantize
    from npu_guard.api.calls import verify as verify

__version__ = VERSION

# Also an editable install imports from a checkout.
__path__ += [str(root) for root in ROOTS[1:]]

_CALLS = ("check", "export", "fix", "partition", "quantize", "verify")


def __getattr__(name: str) -> Any:
    """The functions of the API, imported when the first of them is used: `import npu_guard` costs nothing."""
    if name in _CALLS:
        from npu_guard.api import calls

        return getattr(calls, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_CALLS])
