"""Run the commands on hostile models, each as a process, and judge time, memory, exit code and output: docs/trust.md.

    python bench/hostile.py FOLDER... [--commands check,fix,...] [--match TEXT] [--jobs 1] [--output docs/trust.md]

A FOLDER holds models and a MANIFEST.json that says of each what a robust tool must make of it. Memory is the larger of two
figures: the kernel's record of the largest single process (wait4), and the sum over the tree of processes, sampled every
20 ms, where pages that processes share count once. Time is that on the clock without the time in which a process was ready and
no core was free (schedstat of each process's main thread, sampled), and never less than the CPU time of the tree (wait4): so a
machine that is busy with other things does not fail a case. The exit code is 1 where a case fails.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from npu_guard.base.text import printable

SECONDS, BYTES, OUTPUT = 10.0, 10**9, 10**6
"""What a command may take, and say."""
_GIVEN_UP = 60.0
_TICK = 0.02
COMMANDS = {
    "check": ("check", "{model}"),
    "fix": ("fix", "{model}", "-o", "out.onnx"),
    "verify": ("verify", "{model}", "{model}"),
    "report": ("report", "{model}", "-o", "page.html"),
    "diff": ("diff", "{model}", "{model}"),
    "partition": ("partition", "{model}", "-o", "pieces"),
}
RESULT = {"fix": "out.onnx", "report": "page.html", "partition": "pieces"}
"""What a command may leave behind; `report` has a page for models that it refuses, too."""
_RUNS = frozenset({"verify", "partition"})
"""Commands whose exit code 0 says that the model was run and gave the same."""
CANARY = b"CANARY-7f3a"
_RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_FORGED = re.compile(r"^(::|PASS: )|##(vso|teamcity)\[|<(script|img|svg)\b", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """One command on one model; `wrong` is what speaks against it."""

    command: str
    file: str
    code: int
    wall: float
    waited: float
    cpu: float
    memory: int
    wrong: tuple[str, ...]
    said: str

    @property
    def time(self) -> float:
        """Seconds that it would have taken on an idle machine."""
        return max(self.cpu, self.wall - self.waited)


def allowed(command: str, expected: Sequence[str]) -> set[int]:
    """Exit codes for the manifest's classes. That a model could not be run is 5, and never 0 for those that cannot be."""
    codes: set[int] = set()
    for word in expected:
        if word.startswith("reject"):
            codes |= {3}
        elif word.startswith("accept"):
            codes |= {0, 1} | ({5} if command in ("fix", "verify", "partition") else set())
        elif command in _RUNS:  # verify_limited, verify_failed
            codes |= {3, 5}
        else:
            codes |= {0, 1, 3} | ({5} if command == "fix" else set())
    return codes - ({1} if command in _RUNS else set())


def run(case: dict[str, Any], command: str, folder: Path) -> Outcome:
    """Start the command in an empty folder, watch it, and judge."""
    model = folder / case["file"]
    scratch = Path(tempfile.mkdtemp(prefix="hostile-"))
    try:
        (scratch / "work").mkdir()
        (scratch / "tmp").mkdir()
        arguments = [part.replace("{model}", str(model)) for part in COMMANDS[command]]
        code, wall, waited, cpu, memory, left = _watch(arguments, scratch)
        said = [(scratch / name).read_bytes() for name in ("out", "err")]
        wrong = [*_judge(command, case, model, code, said), *_traces(command, code, scratch, model), *left]
        if memory > BYTES:
            wrong.append(f"{memory / 1e6:.0f} MB")
        text = said[1].decode("utf-8", "backslashreplace")[:600]
        outcome = Outcome(command, case["file"], code, wall, waited, cpu, memory, tuple(wrong), text)
        if outcome.time > SECONDS:
            return replace(outcome, wrong=(*wrong, f"{outcome.time:.0f} s"))
        return outcome
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _watch(arguments: Sequence[str], scratch: Path) -> tuple[int, float, float, float, int, list[str]]:
    """Exit code; seconds on the clock, waited and of CPU; memory; complaints about processes that outlive the command."""
    environment = {**os.environ, "HOME": str(scratch), "TMPDIR": str(scratch / "tmp"), "NO_COLOR": "1"}
    with (scratch / "out").open("wb") as out, (scratch / "err").open("wb") as err:
        begun = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "npu_guard", *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            cwd=scratch / "work", env=environment, start_new_session=True,
        )  # fmt: skip
    largest, waited = 0, dict[int, float]()
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        wall = time.monotonic() - begun
        if pid:
            break
        tree = _tree(process.pid)
        largest = max(largest, sum(map(_resident, tree)))
        waited |= {p: seconds for p in tree if (seconds := _waited(p)) is not None}
        if wall > _GIVEN_UP:
            for p in _tree(process.pid):
                _kill(p)
        time.sleep(_TICK)
    process.returncode = os.waitstatus_to_exitcode(status)
    memory = max(largest, usage.ru_maxrss * 1024)
    return process.returncode, wall, sum(waited.values()), usage.ru_utime + usage.ru_stime, memory, list(_orphans())


def _tree(root: int) -> list[int]:
    """A process and its descendants."""
    children = defaultdict(list)
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", encoding="ascii", errors="replace") as file:
                children[int(file.read().rpartition(")")[2].split()[1])].append(int(entry))
    found = [root]
    for pid in found:
        found += children[pid]
    return found


def _resident(pid: int) -> int:
    """Bytes of a process in memory; what it shares with n others counts as an n-th, where it has much at all."""
    with contextlib.suppress(OSError, IndexError), open(f"/proc/{pid}/statm", encoding="ascii") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        if resident < 1 << 28:
            return resident
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
            return next((int(line.split()[1]) * 1024 for line in rollup if line.startswith("Pss:")), resident)
    return 0


def _waited(pid: int) -> float | None:
    """Seconds for which the main thread of a process was ready and no core was free."""
    with contextlib.suppress(OSError, IndexError), open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
        return int(file.read().split()[1]) / 1e9
    return None


def _orphans() -> Iterator[str]:
    """Descendants that live on; they are ours by now, see `_adopt`."""
    deadline = time.monotonic() + 1.0
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid and time.monotonic() > deadline:
            for orphan in _tree(os.getpid())[1:]:
                _kill(orphan)
                yield "a process is left"
            deadline += 60
        time.sleep(0 if pid else _TICK)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _judge(command: str, case: dict[str, Any], model: Path, code: int, said: Sequence[bytes]) -> Iterator[str]:
    """What is wrong with the exit code and with what was printed."""
    if code < 0:
        yield f"signal {-code}"
    elif code not in allowed(command, case["expect"]):
        yield f"exit {code} for {'/'.join(case['expect'])}"
    out, err = (part.decode("utf-8", "surrogateescape") for part in said)
    if "Traceback" in out + err:
        yield "traceback"
    if sum(map(len, said)) > OUTPUT:
        yield f"{sum(map(len, said))} bytes of output"
    for name, text in (("output", out), ("messages", err)):
        if raw := _RAW.search(text):
            yield f"raw {raw.group()!r} in {name}"
        if forged := _FORGED.search(text):
            yield f"{forged.group()!r} in {name}"
    if CANARY in said[0] + said[1]:
        yield "bytes from outside the folder in the output"
    lines = err.splitlines()
    if not all(line.startswith("npu-guard: ") for line in lines):
        yield "a message that is not ours"
    if code in (2, 3, 5):
        if len(lines) != 1:
            yield f"{len(lines)} messages"
        if not any(printable(str(model), 2000) in line for line in lines):
            yield "no message names the file"


def _traces(command: str, code: int, scratch: Path, model: Path) -> Iterator[str]:
    """What is wrong with the files that are there now."""
    result = RESULT.get(command, "")
    for path in (*(scratch / "work").iterdir(), *(scratch / "tmp").iterdir()):
        ours = path.name == result or (path.name.startswith(f"{result}.") and path.name.endswith(".data"))
        if not ours or (code not in (0, 1) and command != "report"):
            yield f"left {path.name!r}"
    for path in (scratch / "work").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            if CANARY in content:
                yield f"bytes from outside the folder in {path.name!r}"
            if path.suffix == ".html" and (raw := _RAW.search(content.decode("utf-8", "replace"))):
                yield f"raw {raw.group()!r} in the page"
    for place in (model.parent, Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            yield from (f"left {p.name!r}" for p in place.iterdir() if p.name.startswith(("PWNED", f".{model.name[:40]}.")))


def _adopt() -> None:
    """Make this process the parent of whatever its children leave behind: PR_SET_CHILD_SUBREAPER of prctl(2)."""
    ctypes.CDLL(None).prctl(36, 1)


Known = dict[str, dict[str, Any]]
"""Cases of a manifest by their files."""


def page(sets: dict[str, tuple[Sequence[Outcome], Known]]) -> str:
    """For each set the table of the commands, what failed, and what the classes of the manifest ended as."""
    lines = [
        "# Hostile models",
        "",
        "Made by `make hostile`. Each command runs as a process of its own on each model of a set of hostile and odd",
        "files. A case passes where the command ends by itself within 10 s and 1 GB, with an exit code that fits what the file",
        "is; with one message, which names the file, where that is refused or not verified; without a traceback, raw control",
        "characters, forged lines, bytes from outside the model's folder, or files and processes left behind; and without",
        "saying that something is equal which was not run. Memory is that of all processes together. Time is that on the clock",
        "without the time in which no core was free, as other things run on the machine; the clock and the CPU time of the same",
        "case stand beside it. The set `own` is written by `fuzz/hostile.py`.",
        "",
        "All of that is about model files. A MODEL that is Python code (`package.module:Net`, `net.py:Net`), and a function",
        "named with `fix --metric`, are imported and run with all rights of whoever runs the command: name no code of strangers.",
    ]
    for title, (found, known) in sets.items():
        lines += ["", f"## The set `{title}`", "", *_commands(found), *_failed(found), "", *_codes(found, known)]
    return "\n".join(lines) + "\n"


def _commands(found: Sequence[Outcome]) -> Iterator[str]:
    yield "| command | cases | passed | longest | clock | CPU | which | largest memory | which |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for command in dict.fromkeys(o.command for o in found):
        own = [o for o in found if o.command == command]
        slow, large = max(own, key=lambda o: o.time), max(own, key=lambda o: o.memory)
        times = f"{slow.time:.1f} s | {slow.wall:.1f} s | {slow.cpu:.1f} s | {_code(slow.file)}"
        passed = sum(not o.wrong for o in own)
        yield f"| {command} | {len(own)} | {passed} | {times} | {large.memory / 1e6:.0f} MB | {_code(large.file)} |"


def _failed(found: Sequence[Outcome]) -> Iterator[str]:
    failed = [o for o in found if o.wrong]
    if failed:
        yield from ("", "What failed:", "", "| command | file | exit code | why |", "|---|---|---|---|")
        yield from (f"| {o.command} | {_code(o.file)} | {o.code} | {_code('; '.join(o.wrong))} |" for o in failed)


def _codes(found: Sequence[Outcome], known: Known) -> Iterator[str]:
    yield "Exit codes of `check`, and of `verify`, which runs models: 0 clean, 1 findings, 3 refused, 5 not verified."
    yield from (
        "",
        "| the file may be | check 0 | 1 | 3 | others | verify 0 | 3 | 5 | others |",
        "|---|---|---|---|---|---|---|---|---|",
    )
    counts: dict[str, Counter[tuple[str, int]]] = defaultdict(Counter)
    for o in found:
        counts[", ".join(known[o.file]["expect"]).replace("_", " ")][o.command, o.code] += 1
    for what, own in sorted(counts.items()):
        row: list[int] = []
        for command, codes in (("check", (0, 1, 3)), ("verify", (0, 3, 5))):
            row += [own[command, code] for code in codes]
            row.append(sum(n for (of, code), n in own.items() if of == command and code not in codes))
        yield f"| {what} | {' | '.join(map(str, row))} |"


def _code(text: str) -> str:
    return f"`{re.sub('[`|]', '.', printable(text.encode('utf-8', 'backslashreplace').decode(), 120))}`"


def _passed(log: Path | None) -> dict[tuple[str, str], Outcome]:
    """What an earlier run that was interrupted found to be right."""
    if log is None or not log.exists():
        return {}
    rows = [Outcome(**json.loads(line)) for line in log.read_text().splitlines()]
    return {(o.command, o.file): o for o in rows if not o.wrong}


def main() -> int:
    """Run, print what fails as it fails, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--commands", default=",".join(COMMANDS))
    parser.add_argument("--match", default="", help="only files whose names have this in them; several with commas")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--log", type=Path, help="a line of JSON for each case; those that passed are not run again")
    given = parser.parse_args()
    sets = {folder.name: _run_set(folder.resolve(), given) for folder in given.folders}
    text = page(sets)
    if given.output is not None:
        given.output.write_text(text, encoding="utf-8")
    for title, (found, _) in sets.items():
        print(title, *_commands(found), sep="\n")
    return 1 if any(o.wrong for found, _ in sets.values() for o in found) else 0


def _run_set(folder: Path, given: argparse.Namespace) -> tuple[list[Outcome], Known]:
    """Every command on every case of a set, and its cases. What fails is printed as it fails."""
    cases = json.loads((folder / "MANIFEST.json").read_text())["cases"]
    cases = [c for c in cases if c["cat"] != "side" and any(part in c["file"] for part in given.match.split(","))]
    passed = _passed(given.log)
    found: list[Outcome] = []
    with ProcessPoolExecutor(given.jobs, initializer=_adopt) as pool, contextlib.ExitStack() as stack:
        log = stack.enter_context(given.log.open("a")) if given.log else None
        for command in given.commands.split(","):
            found += [passed[command, c["file"]] for c in cases if (command, c["file"]) in passed]
            rest = [c for c in cases if (command, c["file"]) not in passed]
            for outcome in pool.map(partial(run, command=command, folder=folder), rest):
                found.append(outcome)
                if outcome.wrong:
                    print(command, ascii(outcome.file), "; ".join(map(ascii, outcome.wrong)), flush=True)
                if log is not None:
                    log.write(json.dumps(vars(outcome)) + "\n")
                    log.flush()
    return found, {c["file"]: c for c in cases}


if __name__ == "__main__":
    sys.exit(main())
