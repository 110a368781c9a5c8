"""Models against devices, as a page."""

from __future__ import annotations

import html

from npu_guard.fleet.matrix import Matrix
from npu_guard.reports.blocks.matrix_table import LEGEND, lines_of, table_of

_STYLE = (
    "body{font:15px system-ui,sans-serif;margin:2em}table{border-collapse:collapse}th,td{border:1px solid #999;padding:.3em .7em;"
    "text-align:left}.pass{background:#d9f2dc}.fail{background:#f8d7da}.undecided{background:#fff3cd}"
)


def render(matrix: Matrix, *, color: bool = False) -> str:
    """One page that needs nothing else."""
    lines = lines_of(matrix)
    table = table_of(matrix, lines)
    rows = ["".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in table[0])]
    for line, texts in zip(lines, table[1:], strict=True):
        kinds = [cell.verdict if cell is not None else "undecided" for cell in line.cells]
        cells = "".join(f'<td class="{kind}">{html.escape(text)}</td>' for kind, text in zip(kinds, texts[1:-1], strict=True))
        rows.append(f'<th scope="row">{html.escape(texts[0])}</th>{cells}<td>{html.escape(texts[-1])}</td>')
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Models and devices</title>\n<style>{_STYLE}</style>'
        f"</head>\n"
        f"<body><h1>Models and devices</h1>\n<table>\n{body}\n</table>\n<p>{LEGEND}</p></body></html>\n"
    )
