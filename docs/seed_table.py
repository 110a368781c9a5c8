"""Write docs/zoo.md, the table of all sample networks: `make zoo`. At full size that takes some minutes.

`python docs/seed_table.py tiny` makes one of the two tables, `... full D2 D8` the lines of two systems in it.
`tests/models/test_seed_table.py` makes the lines of the tiny one again and compares.
"""

from __future__ import annotations

import sys
from pathlib import Path

from npu_guard.base.terminal import complain
from npu_guard.zoo import samples
from npu_guard.zoo.row import Settings
from npu_guard.zoo.table import HEAD, cells, display, markdown, processes, run_entries

FILE = Path(__file__).with_name("zoo.md")
INTRO = """# Sample networks

Every network of `models/` through everything: exported, checked against `aimotive-aiware`, fixed without approximations,
verified, and, where errors remain, cut into pieces for NPU and host. *clean*: no error, nothing replaced. *fixed*: no error is
left, and the results are equal. *partitioned*: errors are left, and the pieces together give the same results.

`npu-guard zoo --all --report DIR` prints this table and writes a page for each network; `make zoo` writes this file.
"""
TITLES = {"full": "Real widths and depths", "tiny": "The same networks, test-sized"}


def main(sizes: list[str], ids: list[str]) -> int:
    """Rewrite the tables of the given sizes, both if none is given; of given systems alone, what the others' lines say stays."""
    entries = [e for e in samples.entries() if not ids or e.id in ids]
    tables = {size: lines(size) for size in TITLES}
    problems = 0
    for size in sizes or TITLES:
        with display(len(entries), shown=sys.stderr.isatty()) as progress:
            rows = run_entries(entries, Settings(size), processes(), progress)
        for row in rows:
            if row.problem:
                complain(f"{size}: {row.id} {row.name}: {row.problem}")
                problems += 1
        tables[size] |= {row.id: cells(row) for row in rows}
    parts = [INTRO]
    for size, title in TITLES.items():
        kept = [tables[size][e.id] for e in samples.entries() if e.id in tables[size]]
        parts.append(f"## {title}\n\n{markdown(kept, size)}")
    FILE.write_text("\n".join(parts), encoding="utf-8")
    return int(problems > 0)


def lines(size: str) -> dict[str, tuple[str, ...]]:
    """The table of a size as it is in the file: its lines by id."""
    page = FILE.read_text(encoding="utf-8") if FILE.exists() else ""
    _, _, section = page.partition(f"## {TITLES[size]}\n")
    found = [line for line in section.split("\n## ")[0].splitlines() if line.startswith("| ")]
    cells = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in found]
    return {line[0]: line for line in cells if line[0] != HEAD[0]}


if __name__ == "__main__":
    asked = sys.argv[1:]
    sys.exit(main([a for a in asked if a in TITLES], [a for a in asked if a not in TITLES]))
