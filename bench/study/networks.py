"""Whole networks through the compilers that read ONNX, where operators are merged and laid out together, and through Vela.

An answer is recorded with a letter for each node of the file, so that the rules can be judged by it again without the compiler.
"""

from __future__ import annotations

import collections
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import corpus
import onnx
import recorded

from npu_guard.base.errors import UsageError
from npu_guard.checking import registry
from npu_guard.compilers.adapter import ask_all
from npu_guard.compilers.answers import Answer, NodeAnswer
from npu_guard.compilers.compare import compare_answers
from npu_guard.compilers.settings import CompilerSettings
from npu_guard.pipeline.check import check_model
from npu_guard.project.config import Config

FOLDER = recorded.FOLDER / "networks"
PROFILES = ("rockchip-rk3588", "qualcomm-htp", "ethos-u55", "ethos-u85")
SECONDS = 900.0
TOGETHER = 6
"""Networks for which a compiler is started once: as many as there are spellings of one."""
LETTERS = {"npu": "p", "decomposed": "d", "merged": "m", "host": "h", "refused": "r", "failed": "f", "not_run": "n"}
"""Words of a compiler on a node, as they are recorded."""
WORDS = {letter: word for word, letter in LETTERS.items()}
Entry = dict[str, Any]


def study(pythons: Mapping[str, str], exports: Path, profiles: Iterable[str], only: Sequence[str] = ()) -> None:
    """Ask the compilers what they were not asked yet, of the networks named (their base names) or of all. Needs torch.

    What was recorded is kept, as long as the network is the one that it was recorded of; networks that are not exported yet are.
    """
    exports.mkdir(parents=True, exist_ok=True)
    profiles = list(profiles)
    wanted = [network for network in corpus.networks() if not only or network.base in only]
    wanted = [network for network in wanted if any(_is_for(network.name, profile) for profile in profiles)]
    for start in range(0, len(wanted), TOGETHER):
        paths = dict(_written(wanted[start : start + TOGETHER], exports))
        digests = {name: corpus.digest(path) for name, path in paths.items()}
        for profile in profiles:
            found = dict(read().get(profile, {}))
            asked = [n for n in paths if n not in found or found[n]["digest"] != digests[n] if _is_for(n, profile)]
            if not asked:
                continue
            compiler = recorded.TARGETS[profile]
            settings = CompilerSettings(python=pythons[compiler], seconds=SECONDS)
            answers = ask_all(compiler, settings, [str(paths[name]) for name in asked], profile)
            for name, answer in zip(asked, answers, strict=True):
                found[name] = {"digest": digests[name], **_kept(answer, paths[name])}
                found[name] |= opinion(found[name], paths[name], profile)
                print(f"{profile}: {name}: {found[name]['rules']} {answer.status} {found[name]['counts']}", flush=True)
            _write(profile, found)


def judge(exports: Path, profiles: Iterable[str]) -> None:
    """Judge the rules anew by what was recorded, for the networks whose exports are there."""
    paths = {network.name: network.path(exports) for network in corpus.networks() if network.path(exports).is_file()}
    for profile in profiles:
        found = dict(read().get(profile, {}))
        for name in found.keys() & paths.keys():
            if found[name]["digest"] == corpus.digest(paths[name]):
                found[name] |= opinion(found[name], paths[name], profile)
        if found:
            _write(profile, found)


def _is_for(name: str, profile: str) -> bool:
    """Vela is asked operator by operator and quantizes by itself, so that one spelling of a network says all."""
    return not profile.startswith("ethos") or not name.endswith(")")


def _written(spellings: Iterable[corpus.Network], exports: Path) -> Iterator[tuple[str, Path]]:
    for network in spellings:
        try:
            yield network.name, corpus.write(network, exports)
        except UsageError as error:
            print(f"{network.name}: {error}", flush=True)


def _kept(answer: Answer, path: Path) -> Entry:
    """An answer by the places of nodes in the file; nodes of which nothing was said are `-`."""
    said = {node.name: node for node in answer.nodes if node.word in LETTERS}
    outputs = [_output(node) for node in onnx.load(str(path), load_external_data=False).graph.node]
    letters = "".join(LETTERS[said[name].word] if name in said else "-" for name in outputs)
    messages: dict[str, list[int]] = collections.defaultdict(list)
    for place, name in enumerate(outputs):
        if name in said and said[name].message and said[name].word in ("host", "refused"):
            messages[said[name].message[:120]].append(place)
    return {"status": answer.status, "message": answer.message[:200], "words": letters.rstrip("-"), "said": dict(messages)}


def _output(node: onnx.NodeProto) -> str:
    return next(filter(None, node.output), "")


def opinion(entry: Entry, path: Path, profile: str) -> Entry:
    """The rules on a network beside what was recorded of its compiler: the whole, counts, and where the two differ."""
    said = {place: message for message, places in entry["said"].items() for place in places}
    nodes = [
        NodeAnswer(_output(node), node.op_type, WORDS[letter], said.get(place, ""))
        for place, (node, letter) in enumerate(
            zip(onnx.load(str(path), load_external_data=False).graph.node, entry["words"], strict=False)
        )
        if letter != "-"
    ]
    answer = Answer(recorded.TARGETS[profile], entry["status"], entry["message"], tuple(nodes))
    report = check_model(str(path), registry.profile(profile), Config(), layers=True)
    comparison = compare_answers(report, answer)
    kinds = ("missed", "false-alarm", "undecided")
    differing = collections.Counter(
        (row.outcome, row.location.op_type, ", ".join(row.codes), row.message[:80])
        for row in comparison.rows
        if row.outcome in kinds
    )
    return {
        "rules": report.verdict.value,
        "counts": {outcome: count for outcome, count in comparison.counts().items() if count},
        "differing": [[*key, count] for key, count in differing.items()],
    }


def read() -> Mapping[str, Mapping[str, Entry]]:
    """What was recorded, by profile and network."""
    paths = {profile: FOLDER / f"{profile}.json" for profile in PROFILES}
    return {profile: json.loads(path.read_text(encoding="utf-8")) for profile, path in paths.items() if path.is_file()}


def _write(profile: str, found: Mapping[str, Entry]) -> None:
    """One network in a line, in the order of their names."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    lines = [f"{json.dumps(name)}: {json.dumps(found[name])}" for name in sorted(found)]
    (FOLDER / f"{profile}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
