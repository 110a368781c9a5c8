"""Models against devices, as a page."""

from __future__ import annotations

import html

from npu_guard.fleet.matrix import Matrix
from npu_guard.reports.blocks.matrix_table import LEGEND, lines_of, table_of

_STYLE = (
    ":root{color-scheme:light dark}body{font:15px system-ui,sans-serif;margin:1.5em;color:light-dark(#1a1f26,#e4e8ed);"
    "background:light-dark(#fff,#13161a)}div{overflow-x:auto}table{border-collapse:collapse}th,td{border:1px solid "
    "light-dark(#b9c1cb,#485260);padding:.3em .7em;text-align:left}.pass{background:light-dark(#d9f2dc,#17402a)}"
    ".fail{background:light-dark(#f8d7da,#4d2023)}.undecided{background:light-dark(#fff3cd,#4a3c10)}tr{break-inside:avoid}"
    "*{print-color-adjust:exact}@media print{:root{color-scheme:light}body{font-size:9pt;margin:0}}"
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
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>Models and devices</title>\n'
        f"<style>{_STYLE}</style></head>\n"
        f"<body><h1>Models and devices</h1>\n<div><table>\n{body}\n</table></div>\n<p>{LEGEND}</p></body></html>\n"
    )
