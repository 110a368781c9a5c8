"""How much of a compiler a learned device file knows: both it and the shipped profile against the recorded answers.

    npu-guard profiles learn ethos-u55 --compiler vela --compiler-python PATH -o learned.toml
    python bench/study/blind.py ethos-u55 learned.toml

The recorded cases were made from documents and from the shipped profile; the learner saw neither. Of each operator that it
learned: refusals of the compiler that the file has as well (recall), and those that the compiler does not have (wrong).
"""

from __future__ import annotations

import argparse
import collections
import re
import sys

import judge
import recorded

from npu_guard.checking import registry
from npu_guard.compilers.answers import REFUSED, TAKEN


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("profile", choices=recorded.TARGETS)
    parser.add_argument("learned", metavar="FILE.toml")
    parser.add_argument("--list", action="store_true", help="each case on which the learned file and the compiler differ")
    arguments = parser.parse_args()
    devices = [registry.profile(arguments.profile), registry.profile(arguments.learned)]
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for answered in recorded.read(arguments.profile).values():
        found = re.search(r"(\w+)(?:<[^>]*>)?\([^()]*\) \}$", answered.case.text)
        op = found[1] if found else ""
        if answered.word not in (*TAKEN, *REFUSED) or devices[1].operator(op) is None:
            continue
        said = judge.opinions(judge.analysis_of(answered.case), devices)
        shipped, learned = (said[device.name].word for device in devices)
        refused = answered.word in REFUSED
        counts[op][f"{'refused' if refused else 'taken'}"] += 1
        counts[op]["found"] += refused and learned == "refused"
        counts[op]["shipped"] += refused and shipped == "refused"
        counts[op]["wrong"] += not refused and learned == "refused"
        if arguments.list and refused != (learned == "refused"):
            print(f"{'missed' if refused else 'wrong '}  {answered.case.key}: {answered.message[:90]}")
    total: collections.Counter[str] = collections.Counter()
    print(f"{'operator':20} taken  refused  learned  shipped  wrong")
    for op, count in [*sorted(counts.items()), ("all", total)]:
        total.update(count if op != "all" else {})
        print(f"{op:20} {count['taken']:5}  {count['refused']:7}  {count['found']:7}  {count['shipped']:7}  {count['wrong']:5}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
