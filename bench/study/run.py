"""Compare the profiles with the vendors' compilers, one operator at a time, and write docs/agreement.md.

    python bench/study/run.py                   install what is missing, ask what was not asked yet, write the page
    python bench/study/run.py --page            write the page from what is recorded; needs no compiler
    python bench/study/run.py --only ethos-u85  one profile, and not the networks;  --again asks everything anew
    python bench/study/run.py --networks        the whole networks alone;  --only P  by one profile,  --network NAME  one of them
    python bench/study/run.py --judge           the rules anew on the networks that are exported, by the recorded answers

The compilers go into environments of their own below .bench/compilers, exported networks into .bench/networks. The licences of
the compilers are yours to accept.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import boundary
import judge
import networks
import page
import recorded
import sweep
from single import Case

from npu_guard.base.files import write_atomic
from npu_guard.checking import registry
from npu_guard.compilers.builtin import BUILTINS, DRIVERS, Builtin

ROOT = Path(__file__).resolve().parents[2]
SCRATCH = ROOT / ".bench" / "compilers"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--networks", action="store_true")
    parser.add_argument("--judge", action="store_true")
    parser.add_argument("--only", metavar="PROFILE", action="append", choices=recorded.TARGETS)
    parser.add_argument("--network", metavar="NAME", action="append", default=[], help="a network in all its spellings")
    parser.add_argument("--exports", type=Path, default=ROOT / ".bench" / "networks", help="where exported networks are kept")
    parser.add_argument(
        "--python", metavar="COMPILER=PATH", action="append", default=[], help="an environment that is there already"
    )
    arguments = parser.parse_args()
    given = dict(entry.split("=", 1) for entry in arguments.python)
    whole = [profile for profile in arguments.only or networks.PROFILES if profile in networks.PROFILES]
    if not arguments.page and not arguments.networks and not arguments.judge:
        for profile in arguments.only or recorded.TARGETS:
            study(profile, given, again=arguments.again)
    if arguments.networks or not (arguments.page or arguments.judge or arguments.only):
        names = dict.fromkeys(recorded.TARGETS[profile] for profile in whole)
        pythons = {name: given.get(name) or environment(BUILTINS[name]) for name in names}
        networks.study(pythons, arguments.exports, whole, arguments.network)
    if arguments.judge:
        networks.judge(arguments.exports, whole)
    write_atomic(ROOT / "docs" / "agreement.md", [page.text(page.lines()).encode()])
    return 0


def study(profile: str, given: Mapping[str, str], *, again: bool) -> None:
    """Ask the profile's compiler about every case whose text it has not answered yet."""
    builtin = BUILTINS[recorded.TARGETS[profile]]
    cases = [*sweep.cases(), *boundary.cases(registry.profile(profile))]
    assert len({c.key for c in cases}) == len(cases), "two cases with one key"
    known = {} if again else recorded.read(profile)
    asked = [c for c in cases if c.key not in known or known[c.key].case != c]
    print(f"{profile}: {len(cases)} cases, {len(asked)} to ask {builtin.name}", flush=True)
    found: dict[str, recorded.Answered] = {}
    if asked:
        python = given.get(builtin.name) or environment(builtin)
        found = {a.case.key: a for a in ask(builtin, python, builtin.options(profile) or {}, asked)}
    recorded.write(profile, [found.get(c.key) or known[c.key] for c in cases])


def environment(builtin: Builtin) -> str:
    """The interpreter of a compiler's environment, which is made where it is missing."""
    folder = SCRATCH / builtin.name
    python = folder / "bin" / "python"
    if not (folder / "ready").is_file():
        print(f"installing {builtin.title}. {builtin.licence}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        for step in builtin.requirements:
            subprocess.run([python, "-m", "pip", "install", "--quiet", *step], check=True)
        (folder / "ready").touch()
    return str(python)


def ask(builtin: Builtin, python: str, options: Mapping[str, str], cases: Sequence[Case]) -> Iterable[recorded.Answered]:
    """All cases by way of the driver that `npu-guard compile` uses, in one process."""
    with tempfile.TemporaryDirectory(prefix="npu-guard-study-") as name:
        folder = Path(name)
        paths = {str(folder / f"{index}.onnx"): case for index, case in enumerate(cases)}
        for path, case in paths.items():
            Path(path).write_bytes(judge.model_of(case).SerializeToString())
        out = folder / "answers"
        command = [python, "-E", "-s", "-B", str(DRIVERS / builtin.driver), "--out", str(out), "--seconds", "120"]
        command += [part for key, value in options.items() for part in ("--option", f"{key}={value}")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": name}
        subprocess.run([*command, *paths], check=True, cwd=folder, env=environment)
        for line in out.read_text(encoding="utf-8").splitlines():
            answer = json.loads(line)
            yield answered(paths[answer["model"]], answer)


def answered(case: Case, answer: Mapping[str, Any]) -> recorded.Answered:
    """The word on the case's one operator; without one, the whole answer is the word."""
    if answer["nodes"]:
        node = answer["nodes"][0]
        return recorded.Answered(case, node["word"], node["message"][:200])
    return recorded.Answered(case, answer["status"], answer["message"][:200])


if __name__ == "__main__":
    sys.exit(main())
