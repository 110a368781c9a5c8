"""Coverage-guided fuzzing with atheris: `python fuzz/guided.py CORPUS [-max_total_time=60] ...` (libFuzzer's options).

Needs `pip install atheris`. Mutates the model's structure half of the time and its bytes otherwise.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parent))

with atheris.instrument_imports(include=["npu_guard"]):
    from mutations import mutate
    from oracle import execute, static_only
    from seeds import seeds

FOLDER = tempfile.TemporaryDirectory()
FILE = Path(FOLDER.name) / "m.onnx"


def one(data: bytes) -> None:
    execute(data, FILE)


def mutator(data: bytes, most: int, seed: int) -> bytes:
    rng = random.Random(seed)
    changed = mutate(data, rng.randrange, 1 + rng.randrange(3)) if rng.random() < 0.5 else atheris.Mutate(data, most)
    return bytes(changed[:most])


def main() -> None:
    corpus = next((a for a in sys.argv[1:] if not a.startswith("-")), None)
    if corpus is not None:
        folder = Path(corpus)
        folder.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(seeds()):
            (folder / f"seed{number}").write_bytes(data)
    atheris.Setup([*sys.argv, "-timeout=10", "-rss_limit_mb=2048", "-max_len=20000"], one, custom_mutator=mutator)
    with static_only():
        atheris.Fuzz()


if __name__ == "__main__":
    main()
