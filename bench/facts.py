"""Compare the device files with a list of known facts: `python bench/facts.py FACTS.json`.

The list has one entry for each fact: target, op, param, value, note, source, flag. For each profile that names a sheet in its
`[coverage]`, every fact must either be left out there, with the reason, or have a limit or a list of operators on one of
its operators with a metric of its kind. Exit code 1 if one has neither, or if the profile counts another number of facts.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

from npu_guard.checking import registry
from npu_guard.device import Profile

METRICS = {
    "kernel_range": "kernel", "kernel_in": "kernel", "kernel_area_max": "kernel", "kernel_volume_max": "kernel",
    "weight_depth_max": "kernel", "dilated_kernel_max": "dilated_kernel", "dilated_area_max": "dilated_kernel",
    "dilation_range": "dilation", "dilation_in": "dilation kernel", "dilation_channel_max": "dilation", "stride_range": "stride",
    "stride_in": "stride", "equal_axes": "stride kernel", "pad_range": "pads", "pad_lt_kernel": "pads",
    "group_range": "group grouped", "channels_range": "channels group_channels", "channels_in_range": "channels_in",
    "channels_out_range": "channels_out", "rank_max": "rank nonsingleton_rank output_rank", "rank_in": "rank",
    "dim_range": "extent reduce_size channels_out output_spatial", "spatial_range": "spatial kernel",
    "spatial_area_max": "spatial kernel", "spatial_multiple_of": "spatial", "elements_max": "elements",
    "batch_max": "batch extent", "reduce_size_max": "reduce_size", "reduce_elems_max": "reduce_size", "reduce_axes_in": "axes",
    "axis_allowed": "axes", "scale_axes": "axes", "scale_set": "scale", "perm_in": "perm", "const_inputs": "constant",
    "value_range": "value",
    "attr_in": "attr value inputs outputs batch elements channels_in extent rank axes constant", "dtype_in": "dtype attr",
    "relation": "elements rank parts pads channels_out constant", "deny_combo": "stride dilation",
}  # fmt: skip
"""Metrics that can state each kind of fact."""
KEYS = {
    "dtype_in": "tensor.dtypes", "rank_max": "tensor.rank_max", "rank_in": "conv.rank", "dynamic_shapes": "tensor.static_shape",
    "batch_max": "tensor.static_shape", "elements_max": "tensor.bytes_max",
}  # fmt: skip


def operators(text: str) -> set[str]:
    """Operators of a fact: `Conv(depthwise)` is Conv, `*` and families such as `Reduce*` stand for whatever fits."""
    return {name.split("(")[0].strip() for name in text.split(",")}


def stated(fact: dict[str, str], profile: Profile) -> bool:
    """Whether the profile says something of the fact's kind about its operators."""
    ops, kind = operators(fact["op"]), fact["param"]
    if kind in ("ops_allowed", "ops_denied"):
        return bool(profile.operators)
    if KEYS.get(kind) in profile.limits:
        return True
    wanted = METRICS.get(kind, "").split()
    for requirement in profile.requirements:
        bases = {term.name.split(".")[0] for term in requirement.clause.metric.terms}
        bases |= {term.name.split(".")[0] for a in requirement.alternatives for clause in a for term in clause.metric.terms}
        if bases & set(wanted) and any(_same(op, name) for op in requirement.ops for name in ops):
            return True
    return False


def _same(op: str, name: str) -> bool:
    return op in ("*", name) or name in ("*", "...") or (name.endswith("*") and op.startswith(name[:-1])) or name.startswith("*")


def main() -> int:
    """Print what is missing."""
    facts = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    wrong = 0
    for name in registry.profile_files():
        profile = registry.device_file(name)
        if profile.coverage is None:
            continue
        sheet = [fact for fact in facts if fact["target"] == profile.coverage.sheet]
        left = Counter(fact for entry in profile.coverage.left_out for fact in entry.facts)
        lines = []
        if len(sheet) != profile.coverage.known:
            lines.append(f"counts {profile.coverage.known} facts of {len(sheet)}")
        for fact in sheet:
            key = f"{fact['op']} {fact['param']}"
            if left[key]:
                left[key] -= 1
            elif not stated(fact, profile):
                lines.append(f"does not state {key}: {fact['value']}")
        lines += [f"leaves out {key!r}, which is no fact" for key, count in left.items() if count]
        print(f"{name}: {profile.coverage.taken} of {len(sheet)} facts" + "".join(f"\n  {line}" for line in lines))
        wrong += len(lines)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
