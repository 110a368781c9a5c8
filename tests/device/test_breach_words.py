"""What is said of a node that a device refuses names what was compared, in the unit of the limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from npu_guard.analysis.analyze import Analysis
from npu_guard.checking import registry
from npu_guard.checking.engine import check
from npu_guard.device import Profile, requirements
from npu_guard.project.config import Config

RESIZE = 'g (float[1,8,4,4] x) => (y) <float[4] s = {1,1,2,2}> { y = Resize<mode = "MODE", ATTR>(x, , s) }'
HALF, CORNERS = 'coordinate_transformation_mode = "half_pixel"', 'coordinate_transformation_mode = "align_corners"'
FORMS = [
    {"attr": {"mode": "linear", "coordinate_transformation_mode": ["half_pixel", "asymmetric"]}},
    {"attr": {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"}},
]
BY_FORM = {"ops": ["Resize"], "metric": "attr.coordinate_transformation_mode", "any_of": FORMS}
BY_MODE = {"ops": ["Resize"], "metric": "attr.mode", "in": ["nearest", "linear"]}
SOFTMAX = "g (float[1,8,4] x) => (y) { y = Softmax<axis = 2>(x) }"
CONV = "g (float[1,8,9,9] x) => (y) <float[8,8,KERNEL] w> { y = Conv(x, w) }"


def resize(mode: str, attribute: str) -> str:
    return RESIZE.replace("MODE", mode).replace("ATTR", attribute)


def kernel(*forms: Any) -> dict[str, Any]:
    return {"ops": ["Conv"], "metric": "kernel", "any_of": list(forms)}


ODD = kernel({"kernel": 3}, {"kernel": 5})


@pytest.mark.parametrize(
    ("graph", "limits", "messages"),
    [
        # The mode fits no form, whatever the coordinates are; a limit on the mode alone says no more.
        (resize("cubic", HALF), [BY_FORM], ["mode cubic is not linear or nearest"]),
        (resize("cubic", HALF), [BY_FORM, BY_MODE], ["mode cubic is not linear or nearest"]),
        (resize("cubic", HALF), [BY_MODE, BY_FORM], ["mode cubic is not nearest or linear"]),
        (resize("linear", CORNERS), [BY_FORM], ["coordinate_transformation_mode align_corners is not half_pixel or asymmetric"]),
        # The mode fits a form, and the coordinates do not fit that one.
        (
            resize("nearest", HALF),
            [{**BY_FORM, "any_of": FORMS[::-1]}],
            ["coordinate_transformation_mode half_pixel is not asymmetric, where attr.mode = nearest"],
        ),
        (resize("cubic", HALF), [{"ops": ["Resize"], "metric": "attr.mode", "not_in": ["cubic"]}], ["mode cubic is not allowed"]),
        # Axes of the tensor and of the limit are counted alike.
        (SOFTMAX, [{"ops": ["Softmax"], "metric": "axes", "in": [-2]}], ["axis 2 is not 1"]),
        (SOFTMAX, [{"ops": ["Softmax"], "metric": "axes", "is": -2}], ["axis 2 is not 1"]),
        (SOFTMAX, [{"ops": ["Softmax"], "metric": "axes", "not_in": [2]}], ["axis 2 is not allowed"]),
        # Several numbers have to fit one form together.
        (CONV.replace("KERNEL", "3,5"), [ODD], ["kernel 3x5 fits none of: kernel = 3; or kernel = 5"]),
        (CONV.replace("KERNEL", "7,7"), [ODD], ["kernel 7x7 is not 3 or 5"]),
        (
            CONV.replace("KERNEL", "7,7"),
            [kernel({"kernel": {"max": 3}}, {"kernel": {"max": 3}, "stride": 2})],
            ["kernel 7x7 is more than 3"],
        ),
    ],
)  # fmt: skip
def test_what_failed_is_named(
    graph: str, limits: list[dict[str, Any]], messages: list[str], analysis: Callable[..., Analysis]
) -> None:
    asked = [r for limit in limits for r in requirements("test", limit, "test")]
    checked = check(analysis(graph), Profile("test", "Test", "test", (), {}, {}, {}, tuple(asked)), registry.rules(), Config())
    assert not checked.crashes
    assert [f.message for f in checked.findings if f.rule != "NPU101"] == [f"{m}; it does not compile" for m in messages]
