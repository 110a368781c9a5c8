"""What to do next with a model: each step with its command, or with the call where the model is an object of a program."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from npu_guard.base.address import is_url
from npu_guard.base.text import printable
from npu_guard.results.findings import Finding, ModelReport
from npu_guard.results.summary import count, plural


def next_steps(model: ModelReport, shown: str) -> list[tuple[str, str]]:
    """What mends errors and what leaves those at an end of the network to the host, each with its command.

    `shown` is the path of the model as the reader is told of it.
    """
    counts = count(model.findings)
    rest = counts.error - counts.mended
    fixed, file = _fixed_name(shown), _local(shown)
    steps: list[tuple[str, str]] = []
    matters = counts.error or counts.undecided or any(f.rule == _DYNAMIC for f in model.findings)
    if matters and (open_inputs := _open_inputs(model)):
        steps.append(("sizes of inputs are open; fill in those that it runs at", _sized(model, shown, open_inputs)))
    if model.modes and model.findings and not model.command.in_program:
        decision, options = _modes(model)
        steps.append(("; ".join(decision), _check_command(model, shown, options)))
    if model.open_inputs:  # `fix` has nothing to verify with, and what it would leave is not known
        return steps
    if (step := fixing_step(model, shown)) is not None:
        steps.append(step)
    if rest and not model.prospect.untried and (where := _ENDS.get(model.prospect.ends)):
        others = "the other one" if rest == 1 else f"the other {rest:,}"
        told = f"{others if counts.mended else plural(rest, 'error')} at the {where} of the network, which the host can run"
        steps.append((told, partition_command(model, fixed if counts.mended else file, mended=bool(counts.mended))))
    return steps


def fixing_step(model: ModelReport, shown: str) -> tuple[str, str] | None:
    """How many errors `fix` mends, with its command; None where that is none, or where it has open inputs to verify with."""
    counts, untried = count(model.findings), model.prospect.untried
    if model.open_inputs or not (counts.mended or untried):
        return None
    once = ", once it is downloaded," if is_url(shown) else ""
    some = " (check tried some of the forms)" if untried else ""
    part = _part(counts.mended, counts.error - counts.mended, untried)
    told = f"{plural(counts.error, 'error')}, {part}fixed exactly{some}{_price(model)}{once} by"
    return told, _fix_command(model, _local(shown), _fixed_name(shown))


def _local(shown: str) -> str:
    """The name that a file has once it is downloaded; of others the path."""
    return shown.rpartition("/")[2] if is_url(shown) else shown


_ENDS = {"head": "start", "tail": "end", "head and tail": "start and the end"}


def _part(mended: int, rest: int, untried: int) -> str:
    """How many of the errors `fix` mends: of those that a check has not tried nobody knows."""
    if not untried:
        return f"at least {mended:,} " if rest else "all " if mended > 1 else ""
    least = f"at least {mended:,} and " if mended else ""
    return f"{least}perhaps {mended + untried:,} " if mended + rest > 1 else "perhaps "


def _price(model: ModelReport) -> str:
    """What the forms cost that `fix` would take, in words; empty where that is not known."""
    more, now = model.prospect, model.totals
    if more.macs is None or more.bytes is None or now.uncounted:
        return ""
    costs = (more.macs, now.macs, "MACs"), (more.bytes, now.activation_bytes, "activation bytes")
    told = [f"{rise / before:+.0%} {what}".replace("%", " %") for rise, before, what in costs if abs(rise) > _SLIGHT * before > 0]
    return f" ({', '.join(told)})" if told else ""


_SLIGHT = 0.01
"""Share by which a cost has to change before it is told: what a check foresees is that exact."""


def _modes(model: ModelReport) -> tuple[tuple[str, str], list[str]]:
    """What to say of inputs that decide which branches run, and the options that give them."""
    names = " and ".join(repr(printable(name)) for name, _ in model.modes)
    decide, value = ("decides", "the value") if len(model.modes) == 1 else ("decide", "the values")
    told = f"{names} {decide} which branches run", f"give {value} that the device runs with"
    return told, [word for name, number in model.modes for word in ("--input-value", f"{name}={number}")]


def fix_with_modes(model: ModelReport, fixed: str) -> tuple[str, str] | None:
    """The command that mends a model as it is in one mode, for one whose inputs decide which branches run."""
    if not model.modes or model.command.in_program:
        return None
    (decides, give), options = _modes(model)
    return f"{give}, as {decides}", _fix_command(model, model.path, fixed, options)


def _open_inputs(model: ModelReport) -> list[tuple[str, str]]:
    """Inputs of which an extent is not known, and their shapes with a word for each that is to be filled in."""
    found = []
    for input_name, shape in model.open_inputs:
        names = _MAP if shape is None or len(shape) == len(_MAP) else tuple(f"D{axis}" for axis in range(len(shape)))
        extents = (n if shape is None or not isinstance(shape[axis], int) else str(shape[axis]) for axis, n in enumerate(names))
        found.append((input_name, ",".join(extents)))
    return found


_DYNAMIC = "NPU403"
"""The rule that says so of a device that takes no open sizes."""
_MAP = ("N", "C", "H", "W")


def _sized(model: ModelReport, shown: str, inputs: list[tuple[str, str]]) -> str:
    if model.command.in_program:
        shapes = ", ".join(f"{name!r}: [{shape}]" for name, shape in inputs)
        return f"npu_guard.check(model, {_python(model)}, input_shapes={{{shapes}}})"
    return _check_command(model, shown, [word for name, shape in inputs for word in ("--input-shape", f"{name}:{shape}")])


def _check_command(model: ModelReport, shown: str, options: Sequence[str]) -> str:
    return _words("check", shown, *_device(model), *model.command.inputs, *options, *model.command.settings)


def _fix_command(model: ModelReport, shown: str, fixed: str, options: Sequence[str] = ()) -> str:
    if model.command.in_program:
        return f"npu_guard.fix(model, {fixed!r}, {_python(model)})"
    simplify = ["--simplify"] if model.simplified is not None else []
    told = *_device(model), *model.command.inputs, *options, *model.command.settings, *simplify
    return _words("fix", shown, "-o", fixed, *told)


def fix_command(model: ModelReport, path: str, options: Sequence[str]) -> str:
    """The command that mends a file that was made of a model."""
    return _fix_command(model, path, _fixed_name(path), options)


def partition_command(model: ModelReport, path: str, *, mended: bool = False) -> str:
    """The command that cuts a model, or the file that `fix` made of it, into pieces."""
    if model.command.in_program:
        return f"npu_guard.partition({repr(path) if mended else 'model'}, {_python(model, inputs=not mended)})"
    return _words("partition", path, *_device(model), *model.command.inputs, *model.command.settings)


def verify_command(model: ModelReport, path: str) -> str:
    """The command that compares a model with the file that was made of it."""
    return _words("verify", model.path, path, *model.command.inputs)


def is_of_operator(finding: Finding) -> bool:
    """Whether what is advised is about the operator, and not about all that the rule finds."""
    return finding.remedy is not None and finding.remedy.advice.startswith(f"{finding.location.op_type}: ")


def advised(findings: Iterable[Finding], profile: str, most: int | None = None) -> str:
    """What is advised for findings of one rule: of so many operators, those first that `fix` does not mend; then for all."""
    ways = [(f.remedy, is_of_operator(f)) for f in findings if f.remedy is not None]
    own = dict.fromkeys(r.advice for r, is_own in sorted(ways, key=lambda w: w[0].substitution is not None) if is_own)
    general = dict.fromkeys(r.advice for r, is_own in ways if not is_own)
    told = [*own, *general] if most is None else list(own)[:most] or list(general)
    return filled_in(" ".join(told), profile)


def filled_in(advice: str, profile: str) -> str:
    """What a rule advises, with the device in use in its commands in place of NAME."""
    return advice.replace("`npu-guard profiles NAME`", f"`npu-guard profiles {quoted(profile)}`")


def _words(*words: str) -> str:
    return " ".join(("npu-guard", *map(quoted, words)))


def _device(model: ModelReport) -> tuple[str, str]:
    return "--profile", device_of(model)


def device_of(model: ModelReport) -> str:
    """The device as it was named."""
    return model.command.profile or model.profile


def _python(model: ModelReport, *, inputs: bool = True) -> str:
    arguments = f", {model.command.python}" if inputs and model.command.python else ""
    return f"profile={model.command.profile or model.profile!r}{arguments}"


def _fixed_name(shown: str) -> str:
    """`net.fixed.onnx` beside a file; in the current folder for what is elsewhere: a URL, a revision of git, Python code."""
    before, colon, after = shown.rpartition(":")
    elsewhere = bool(colon) and len(before) > 1  # one letter is a drive
    path = Path(Path(after).name if elsewhere else shown)
    stem = path.name.rpartition(".")[2] if elsewhere and path.suffix != ".onnx" else path.stem
    return str(path.parent / f"{stem or 'model'}.fixed.onnx")


def quoted(word: str) -> str:
    """A word of a command that can be copied into a shell."""
    return shlex.quote(printable(word))
