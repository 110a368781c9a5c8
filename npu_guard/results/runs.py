"""Whether a model runs on its device, in words: an operator that the documents leave to the host does not keep it off."""

from __future__ import annotations

from npu_guard.results.findings import ModelReport, Verdict
from npu_guard.results.operators import fate
from npu_guard.results.summary import is_error, plural

_HEADLINES = {
    Verdict.PASS: "Nothing in this model is known to keep it off {device}",
    Verdict.FAIL: "This model does not run on {device} as it is",
    Verdict.UNDECIDED: "Nobody can tell from the model alone whether it runs on {device}",
    Verdict.UNREADABLE: "This model could not be checked",
}
_RUNS = {
    Verdict.PASS: "runs on {device}",
    Verdict.FAIL: "does not run on {device}",
    Verdict.UNDECIDED: "may run on {device}",
    Verdict.UNREADABLE: "cannot be read for {device}",
}


def on_host(model: ModelReport) -> int:
    """How many operators go to the host, where that is what the documents say of every error; 0 where another one is left.

    Where the model was cut into pieces, these are all operators in those of the host.
    """
    errors = [f for f in model.findings if is_error(f)]
    if model.verdict is not Verdict.FAIL or not errors or any(fate(f) != "host" for f in errors):
        return 0
    there = {i for i, piece in enumerate(model.pieces.pieces) if piece.side == "host"} if model.pieces is not None else set()
    cut = sum(layer.piece in there and layer.verdict != "folded" for layer in model.layers)
    return cut or len({(f.location.graph, f.location.output) for f in errors})


def headline(model: ModelReport, device: str) -> str:
    """A sentence about the model: `This model runs on Arm Ethos-U85 with 3 operators on the host`."""
    if number := on_host(model):
        return f"This model runs on {device} with {plural(number, 'operator')} on the host"
    return _HEADLINES[model.verdict].format(device=device)


def runs(model: ModelReport, device: str) -> str:
    """The same as a part of a sentence: `runs on Arm Ethos-U85 with 3 operators on the host`, `does not run on ...`."""
    where = f" with {plural(number, 'operator')} on the host" if (number := on_host(model)) else ""
    return _RUNS[Verdict.PASS if where else model.verdict].format(device=device) + where
