"""The compiler's verdict beside that of the rules, node by node."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from npu_guard.compilers.answers import REFUSED, TAKEN, Answer, NodeAnswer
from npu_guard.results.findings import INPUT, LayerRow, Location, ModelReport, Outcome, Severity

OUTCOMES = ("agreement", "missed", "false-alarm", "undecided", "unknown")
"""Both say the same; the compiler refuses what fits by the rules; the rules refuse what it takes; the rules cannot tell;
the compiler did not tell."""


@dataclass(frozen=True, slots=True)
class Row:
    """One operator in both opinions."""

    location: Location
    rules: str
    """`fits`, `refused` or `undecided`."""
    codes: tuple[str, ...]
    """Rules that refuse it."""
    compiler: str
    """A word of `NodeAnswer`."""
    message: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """One model, one profile, one compiler."""

    model: str
    profile: str
    answer: Answer
    rows: tuple[Row, ...]
    elsewhere: tuple[NodeAnswer, ...]
    """What the compiler says of nodes that the model does not have by that name."""

    def counts(self) -> Mapping[str, int]:
        """Operators by outcome, all of OUTCOMES."""
        found = collections.Counter(row.outcome for row in self.rows)
        return {outcome: found[outcome] for outcome in OUTCOMES}

    def exit_code(self, fail_on: str) -> int:
        """1 where the compiler refuses (`refused`) or the two differ (`disagreement`), and wherever it could not say all."""
        counts = self.counts()
        told = self.answer.status in ("accepted", "refused")
        if fail_on == "never":
            return 0 if told or self.answer.status == "not_run" else 1
        if fail_on == "disagreement":
            unnamed = self.answer.status == "refused" and not any(row.compiler in REFUSED for row in self.rows)
            return int(not told or unnamed or counts["missed"] + counts["false-alarm"] > 0)
        return int(self.answer.status != "accepted")


def outcome(rules: str, word: str) -> str:
    """One of OUTCOMES, from what the rules say (`fits`, `refused`, `undecided`) and the compiler's word."""
    if word not in (*TAKEN, *REFUSED):
        return "unknown"
    if rules == "undecided":
        return rules
    refused = word in REFUSED
    if refused == (rules == "refused"):
        return "agreement"
    return "missed" if refused else "false-alarm"


def compare_answers(report: ModelReport, answer: Answer) -> Comparison:
    """`report` must have its layers. Operators that a compiler folds away are nobody's question and have no row.

    A refusal that names no operator of the model may be of any of them, so that silence about one is no acceptance then.
    """
    words, codes = _by_rules(report)
    names = {name for layer in report.layers for name in (layer.location.output, layer.location.node)}
    complete = answer.complete and all(entry.name in names for entry in answer.nodes if entry.word in REFUSED)
    by_name = _Answers(answer)
    rows = []
    for index, layer in enumerate(report.layers):
        if layer.location.op_type == INPUT or layer.verdict == "folded":
            continue
        found = by_name.at(layer)
        word = found.word if found is not None else "npu" if complete else "not_run"
        message = found.message if found is not None else ""
        rows.append(Row(layer.location, words[index], tuple(codes[index]), word, message, outcome(words[index], word)))
    return Comparison(report.path, report.profile, answer, tuple(rows), by_name.left_over())


def _by_rules(report: ModelReport) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """For each layer whether it fits, and the codes of what does not. What is wrong with an input is wrong for its readers.

    One that leaves the device with the operator beside it has the verdict of that, and no finding of its own.
    """
    failed: dict[Location, dict[str, None]] = collections.defaultdict(dict)
    open_at = set()
    for finding in report.findings:
        if finding.severity is Severity.ERROR and finding.outcome is Outcome.FAIL:
            failed[finding.location][finding.rule] = None
        elif finding.severity is Severity.ERROR:
            open_at.add(finding.location)
    words, codes = [], []
    for layer in report.layers:
        sources = [layer, *(report.layers[i] for i in layer.inputs if report.layers[i].location.op_type == INPUT)]
        mine = list(dict.fromkeys(code for source in sources for code in failed.get(source.location, ())))
        codes.append(mine)
        gone = layer.verdict == "error"
        words.append("refused" if mine or gone else "undecided" if any(s.location in open_at for s in sources) else "fits")
    return words, codes


class _Answers:
    """Finds what the compiler said of a node: by its first output or by its name, which is less certain but what logs have."""

    def __init__(self, answer: Answer) -> None:
        self._named: dict[str, list[NodeAnswer]] = collections.defaultdict(list)
        for entry in answer.nodes:
            if entry.word != "note":
                self._named[entry.name].append(entry)
        self._met: set[str] = set()

    def at(self, layer: LayerRow) -> NodeAnswer | None:
        """The worst that is said of this node."""
        for name in dict.fromkeys((layer.location.output, layer.location.node)):
            own = layer.location.op_type
            said = [e for e in self._named.get(name, ()) if e.op_type in ("", own, own.rpartition("::")[2])]
            if name and said:
                self._met.add(name)
                return next((e for e in said if e.word in REFUSED), said[0])
        return None

    def left_over(self) -> tuple[NodeAnswer, ...]:
        """Refusals that belong to no node of the model."""
        return tuple(e for name, said in self._named.items() if name not in self._met for e in said if e.word in REFUSED)
