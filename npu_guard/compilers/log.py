"""Read what a compiler says by its exit code and its log. The log is somebody else's text, about somebody else's model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from npu_guard.base import sandbox
from npu_guard.base.regex import regex
from npu_guard.compilers.answers import Answer, NodeAnswer
from npu_guard.compilers.process import Ended
from npu_guard.compilers.settings import CompilerSettings, LogPattern

LINE_CHARACTERS = 4000
MATCHES = 100_000
_COLOUR = regex(r"\x1b\[[0-9;]*m")
_SEVERITY = {
    **dict.fromkeys(("error", "err", "e", "fatal", "critical", "refused", "unsupported"), "refused"),
    **dict.fromkeys(("cpu", "host", "fallback"), "host"),
    **dict.fromkeys(("warning", "warn", "w", "info", "i", "note", "debug", "d"), "note"),
}


def answer_of_log(name: str, settings: CompilerSettings, ended: Ended) -> Answer:
    """A refusal has to be explained: an exit code that means one, with a log in which no pattern finds why, is no opinion."""
    if ended.code is None:
        return Answer(name, "failed", f"did not end within {settings.seconds:g} s")
    if ended.code not in (*settings.accepts, *settings.refuses):
        how = f"died of signal {-ended.code}" if ended.code < 0 else f"ended with exit code {ended.code}"
        return Answer(name, "failed", _with_last_line(how, ended.log))
    outcome = sandbox.run(lambda: _read(ended.log, settings.findings))
    if outcome.status != "ok":
        return Answer(
            name, "failed", f"its log could not be read ({outcome.status}): look for a pattern that takes forever on a line"
        )
    nodes = tuple(NodeAnswer(*entry) for entry in json.loads(outcome.data))
    refused = [n for n in nodes if n.word in ("refused", "host")]
    if ended.code in settings.refuses:
        if settings.findings and not refused:
            how = f"ended with exit code {ended.code}, and nothing in its log matches 'findings'"
            return Answer(name, "failed", _with_last_line(how, ended.log), nodes)
        message = refused[0].message if refused else _with_last_line(f"ended with exit code {ended.code}", ended.log)
        return Answer(name, "refused", message, nodes)
    return Answer(name, "refused" if refused else "accepted", refused[0].message if refused else "", nodes, complete=True)


def last_line(log: str) -> str:
    """The last line that says something."""
    return next((line.strip()[:LINE_CHARACTERS] for line in reversed(log.splitlines()) if line.strip()), "")


def _with_last_line(message: str, log: str) -> str:
    said = last_line(log)
    return f"{message}: {said}" if said else message


def _read(log: str, patterns: tuple[LogPattern, ...]) -> bytes:
    """Runs in a child process, as a regular expression can take forever on a line made for it."""
    compiled: list[tuple[re.Pattern[str], str]] = [(re.compile(entry.pattern), entry.means) for entry in patterns]
    found: dict[tuple[str, str, str, str], None] = {}
    for line in log.splitlines():
        for entry in _matches(_COLOUR.sub("", line)[:LINE_CHARACTERS], compiled):
            found[entry] = None
        if len(found) >= MATCHES:
            break
    return json.dumps(list(found)).encode()


def _matches(line: str, patterns: list[tuple[re.Pattern[str], str]]) -> Iterator[tuple[str, str, str, str]]:
    for pattern, means in patterns:
        match = pattern.search(line)
        if match is not None:
            said = {name: text.strip() for name, text in match.groupdict().items() if text}
            word = _SEVERITY.get(said.get("severity", "").lower(), means)
            yield said.get("node", ""), said.get("op_type", ""), word, said.get("message", line.strip())
            return  # the first pattern that matches a line is the one that was meant
