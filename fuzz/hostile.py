"""Hostile and odd models by class: `python fuzz/hostile.py [--match WORD] [--write DIR] [--alone]`.

Each case says what is wrong and what has to come of it: the model is analysed, or refused with a kind of error and a message
that names the place. Without --write, all are checked and what falls short is printed; with it they are written to a folder, with
a manifest, for other tools. Cases that need a process of their own (`alone`) run where --alone is given.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from hostile_classes import files, graphs, semantics, strings, tensors, wire  # noqa: E402
from hostile_classes.case import ACCEPT, Case  # noqa: E402
from oracle import RAW  # noqa: E402

from npu_guard.checking import registry  # noqa: E402
from npu_guard.pipeline.check import check_models  # noqa: E402
from npu_guard.project.config import Config  # noqa: E402
from npu_guard.results.findings import Report, Verdict  # noqa: E402

FORMATS = ("text", "json", "sarif", "github", "gitlab", "junit", "markdown", "html")
SECONDS = 25
"""Of processors, by the program and its children, for all formats; so a busy machine changes no outcome, and a slow one none."""
CLOCK = 180
"""Seconds on the clock, for what blocks."""
MEMORY = 1 << 30
_COMMAND = re.compile(
    r"^\s*::(?!(?:error|warning|notice|group|endgroup)\b)|^::error file=x::|##(?:vso|teamcity)?\[", re.MULTILINE
)
MESSAGE, OUTPUT = 2_000, 1_000_000
"""Characters of a message, and of a report for people."""


def cases() -> Iterator[Case]:
    """All cases; names are unique."""
    for module in (wire, tensors, semantics, graphs, strings, files):
        yield from module.cases()


def faults(case: Case, folder: Path, formats: Sequence[str] = FORMATS) -> list[str]:
    """What is wrong with how the case is judged, in this process."""
    path = case.write(folder)
    report = check_models([str(path)], Config(), layers=True, hashes=True)
    (model,) = report.models
    found = [f"internal error: {crash}" for crash in model.crashes[:1]]
    if model.error is None:
        found += judged(case, ACCEPT, "", str(path))
        if model.verdict is Verdict.UNREADABLE:
            found.append("refused without a reason")
    else:
        found += judged(case, *model.error, str(path))
    for name in formats:
        text = registry.renderer(name)(report, color=False)
        found += [f"{name}: {fault}" for fault in unsafe(name, text, report)]
    return found


def judged(case: Case, kind: str, message: str, path: str) -> list[str]:
    """How an outcome differs from what was expected."""
    if kind not in case.expect:
        return [f"expected {' or '.join(case.expect)}, got {kind}: {message[:300]}"]
    if kind == ACCEPT:
        return []
    rest = message.removeprefix(path)
    found = []
    if rest == message:
        found.append(f"the message does not begin with the file: {message[:200]!r}")
    if case.names and case.names not in rest:
        found.append(f"the message does not name {case.names!r}: {rest[:200]!r}")
    if len(rest) > MESSAGE:
        found.append(f"a message of {len(rest)} characters")
    return found


def unsafe(name: str, text: str, report: Report) -> Iterator[str]:
    """What a report must not hold."""
    if (raw := RAW.search(text)) is not None:
        yield f"raw {raw.group()!r} at {text[max(0, raw.start() - 30) : raw.end() + 30]!r}"
    if name in ("text", "github", "markdown") and (command := _COMMAND.search(text)) is not None:
        yield f"command {text[command.start() : command.end() + 40]!r}"
    if name in ("text", "github", "markdown", "junit") and len(text) > OUTPUT:
        yield f"{len(text)} characters"
    try:
        if name in ("json", "sarif", "gitlab"):
            json.loads(text)
        elif name == "junit":
            ElementTree.fromstring(text)
    except (ValueError, ElementTree.ParseError) as error:
        yield f"does not parse: {error}"
    if name == "html":
        page = _Page()
        page.feed(text)
        yield from page.found
    if name == "markdown" and re.search(
        r"(?<!\\)\]\((?:javascript|http://127)|<(?:script|img)\b", re.sub(r"`[^`\n]*`", "", text)
    ):
        yield "an active link or tag"
    if any(model.error for model in report.models) and name == "text" and re.search(r"\bpass\b|no findings", text):
        yield "reads as a pass"


class _Page(HTMLParser):
    """Looks for tags and attributes that our texts would have made."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if "alert(" in (value or "") and key not in (
                "data-search",
                "title",
                "data-module",
                "data-node",
                "id",
                "aria-label",
                "href",
            ):
                self.found.append(f"<{tag} {key}={value!r}>")
            if key.startswith("on") or (value or "").strip().lower().startswith("javascript:"):
                self.found.append(f"<{tag} {key}={value!r}>")
        if tag == "img":
            self.found.append("an image")


def in_child(case: Case, folder: Path) -> list[str]:
    """What is wrong with how the command line judges the case, within the limits on time and memory."""
    path = case.write(folder)
    command = [sys.executable, "-c", _CHILD, str(MEMORY), str(path)]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=CLOCK, check=False)
    except subprocess.TimeoutExpired:
        return [f"did not end within {CLOCK} s"]
    out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    if done.returncode not in (0, 1, 3) or "Traceback" in err:
        return [f"exit code {done.returncode}: {err[-300:]}"]
    *said, used = err.splitlines()
    mebibytes, seconds = used.split()
    found = [f"{mebibytes} MiB"] if int(mebibytes) > MEMORY >> 20 else []
    found += [f"took {seconds} s of processors"] if float(seconds) > SECONDS else []
    if done.returncode == 3:
        error = json.loads(out)["models"][0]["error"]
        return (
            found + judged(case, error["kind"], error["message"], str(path)) + ([f"{len(said)} lines"] if len(said) != 1 else [])
        )
    return found + judged(case, ACCEPT, "", str(path))


_CHILD = """
import atexit, os, resource, sys
from npu_guard.cli import main
def used():
    # Of this process from its own start: what getrusage says begins with what the process that started it had.
    own = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(max(own, children.ru_maxrss) >> 10, f"{sum(os.times()[:4]):.2f}", file=sys.stderr)
atexit.register(used)
main(["check", sys.argv[2], "--format", "json"])
"""
"""Prints the peak of memory in MiB after whatever the command says."""


def write(folder: Path) -> None:
    """All cases as files, with a manifest as `bench/hostile.py` reads it."""
    manifest = []
    for case in cases():
        home = folder / case.name
        home.mkdir(parents=True)
        path = case.write(home)
        expect = [ACCEPT if kind == ACCEPT else f"reject_{kind}" for kind in case.expect]
        manifest.append(
            {"file": str(path.relative_to(folder)), "cat": case.kind, "what": case.what, "expect": expect, "msg": case.names}
        )
    (folder / "MANIFEST.json").write_text(json.dumps({"cases": manifest}, indent=1))


def main() -> int:
    """Run or write the cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--match", default="")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--alone", action="store_true", help="those that need a process of their own, and each in one")
    arguments = parser.parse_args()
    if arguments.write is not None:
        write(arguments.write)
        return 0
    counts: Counter[str] = Counter()
    failed = 0
    for case in cases():
        if arguments.match not in f"{case.kind}/{case.name}" or case.alone != arguments.alone:
            continue
        counts[case.kind] += 1
        with tempfile.TemporaryDirectory() as folder:
            found = in_child(case, Path(folder)) if case.alone else faults(case, Path(folder))
        failed += bool(found)
        for fault in found:
            print(f"{case.kind}/{case.name}: {fault!a}")
    print(f"{counts.total()} cases ({', '.join(f'{n} {kind}' for kind, n in counts.items())}), {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
