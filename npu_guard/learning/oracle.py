"""Ask a compiler about models, keep what it said beside the device file, and stop where the budget ends."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from npu_guard.base.errors import UsageError
from npu_guard.compilers import adapter
from npu_guard.compilers.answers import REFUSED, TAKEN, Answer
from npu_guard.compilers.settings import CompilerSettings
from npu_guard.learning.form import Model
from npu_guard.learning.search import Fits

BATCH = 32
"""Models for one start of a compiler that takes several."""


class OutOfBudget(Exception):
    """As many models were compiled as were allowed."""


@dataclass(frozen=True)
class Said:
    """The compiler's word on a model of one operator, and what it gave as the reason."""

    word: str
    message: str = ""

    @property
    def fits(self) -> Fits:
        """Whether the operator is on the NPU; None where the compiler did not tell."""
        return True if self.word in TAKEN or self.word == "accepted" else False if self.word in REFUSED else None


@dataclass
class Oracle:
    """One compiler for one device."""

    name: str
    settings: CompilerSettings
    profile: str
    kept: Path
    """A line for each answer; a later run goes on from there."""
    budget: int
    jobs: int = 1
    progress: Callable[[int], None] = lambda asked: None
    known: dict[str, Said] = field(default_factory=dict)
    asked: int = 0
    """Compilations of this run."""

    def __post_init__(self) -> None:
        """Read what earlier runs were told; a line that was not written whole is asked again."""
        if os.path.isdir(self.kept):
            raise UsageError(f"{self.kept} is a folder; the answers of the compiler go into a file of that name")
        try:
            text = self.kept.read_text(encoding="utf-8") if os.path.exists(self.kept) else ""
        except (OSError, ValueError) as error:
            raise UsageError(f"{self.kept}: cannot be read ({error}); remove it to ask everything anew") from None
        for line in text.splitlines():
            try:
                entry = json.loads(line)
                if entry["compiler"] == self.compiler:
                    self.known[entry["model"]] = Said(entry["word"], entry["message"])
            except (ValueError, KeyError, TypeError):
                continue

    @property
    def compiler(self) -> str:
        """What the answers depend on beside the model."""
        options = [f"{key}={value}" for key, value in sorted(self.settings.options.items())]
        return " ".join([self.name, self.profile, *options])

    def ask(self, models: Sequence[Model | None]) -> list[Fits]:
        """Whether each is taken; None where there is no model, or no answer. Raises OutOfBudget."""
        fresh = {m.key: m for m in models if m is not None and m.key not in self.known}
        allowed = list(fresh.values())[: max(0, self.budget - self.asked)]
        batches = [allowed[i : i + BATCH] for i in range(0, len(allowed), BATCH)]
        if self.jobs > 1 and allowed:
            size = max(1, min(BATCH, -(-len(allowed) // self.jobs)))
            batches = [allowed[i : i + size] for i in range(0, len(allowed), size)]
        with ThreadPoolExecutor(self.jobs) as pool:
            for said in pool.map(self._compile, batches):
                self._keep(said)
        if len(allowed) < len(fresh):
            raise OutOfBudget
        return [None if m is None else self.known[m.key].fits for m in models]

    def _compile(self, models: Sequence[Model]) -> Mapping[str, Said]:
        with tempfile.TemporaryDirectory(prefix="npu-guard-learn-") as folder:
            paths = [os.path.join(folder, f"{model.key}.onnx") for model in models]
            for path, model in zip(paths, models, strict=True):
                Path(path).write_bytes(model.data)
            answers = adapter.ask_all(self.name, self.settings, paths, self.profile)
        return {model.key: _said(answer) for model, answer in zip(models, answers, strict=True)}

    def _keep(self, said: Mapping[str, Said]) -> None:
        entries = ({"model": k, "compiler": self.compiler, "word": s.word, "message": s.message[:200]} for k, s in said.items())
        lines = [f"{json.dumps(entry)}\n" for entry in entries]
        try:
            with self.kept.open("a", encoding="utf-8") as file:
                file.writelines(lines)
        except OSError as error:
            raise UsageError(f"{self.kept}: cannot be written ({error.strerror or error})") from None
        self.known.update(said)
        self.asked += len(said)
        self.progress(self.asked)


def jobs_for(settings: CompilerSettings) -> int:
    """Compilers that run side by side: one for each core, as far as the memory for all of them is there."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError, OSError):  # a system that does not tell
        return 1
    return max(1, min(os.cpu_count() or 1, int(memory / settings.memory_gb)))


def _said(answer: Answer) -> Said:
    """The word on the only operator; of a compiler that names none, the whole answer is the word."""
    words = [node for node in answer.nodes if node.word != "note"]
    refused = next((node for node in words if node.word in REFUSED), None)
    if refused is not None:
        return Said(refused.word, refused.message or answer.message)
    if words and answer.status != "refused":
        return Said(words[0].word, words[0].message)
    return Said(answer.status, answer.message)
