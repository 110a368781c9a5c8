"""Tables of handlers: every operator of the kinds that a table covers has a handler there, or a reason why not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from npu_guard.analysis import cost, evaluate, layout, static
from npu_guard.analysis.channels import operators as channels
from npu_guard.graph import ops
from npu_guard.graph.handlers import Handlers, OfKind
from npu_guard.graph.ops import Operator
from npu_guard.rewriting import mixing, rank_lift
from npu_guard.rewriting.depth import operators as depth
from npu_guard.rewriting.tokens import regions

TABLES: dict[str, Handlers[Any]] = {
    "evaluation": evaluate.OPERATORS,
    "costs": cost.MACS,
    "channels": channels.OPERATORS,
    "tokens": regions.OPERATORS,
    "tokens, spoken of": regions.SPOKEN_OF,
    "rank 5": depth.HANDLERS,
    "one dimension, unary": rank_lift.UNARY,
    "one dimension": rank_lift.FORMS,
    "mixing": mixing._ELEMENTWISE,
    "broadcasting": static.BROADCASTING,
    "views and transpositions": layout.RUNNING,
    "data movers": layout.MOVING,
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_covers_its_kinds(name: str) -> None:
    table = TABLES[name]
    left_out = " ".join(table.without).split()
    covered = {record.name for record in ops.operators(*table.covers, domain="")}
    assert {op for op in covered if op not in table and op not in left_out} == set()
    assert {op for op in left_out if op in table or op not in covered} == set()  # a reason that is none any more
    assert len(left_out) == len(set(left_out))
    assert all(len(reason) > 10 for reason in table.without.values())


@pytest.mark.parametrize("name", TABLES)
def test_names_in_a_table_are_operators(name: str) -> None:
    table = TABLES[name]
    assert [op for op in table.names if not ops.find_operator(op).is_known] == []
    assert sorted(table) == sorted(op.name for op in ops.operators(domain="") if op.name in table)


@pytest.fixture
def cube() -> Iterator[Operator]:
    """A made-up unary operator, there for one test."""
    record = Operator(
        "Cube", kind="unary", inputs=(ops.Input("X", "data"),), keeps_zero=True, keeps_finite=True, formula="x ** 3"
    )
    ops._RECORDS["", "Cube"] = record
    yield record
    del ops._RECORDS["", "Cube"]
    ops._KINDS.pop(("", "Cube"), None)
    for table in TABLES.values():
        table._known.pop("Cube", None)


def test_a_new_unary_operator_is_known_everywhere(cube: Operator) -> None:
    without_unary = {"costs", "tokens, spoken of", "broadcasting", "views and transpositions", "data movers"}
    assert {name for name, table in TABLES.items() if cube.name not in table} == without_unary


def test_a_name_goes_before_its_kind_and_a_reason_before_both() -> None:
    table = Handlers({"unary": "kind"}, {"Clip": "name"}, {"Cast": "because it is another thing"}, covers=("softmax",))
    assert [table.get(op) for op in ("Relu", "Clip", "Cast", "Softmax", "Nothing", "Conv | X")] == ["kind", "name", *[None] * 4]
    assert "Relu" in table
    assert "Cast" not in table
    with pytest.raises(KeyError):
        table["Cast"]


def test_of_names_that_are_no_operators_few_are_kept() -> None:
    table = OfKind("unary")
    assert not any(f"Evil{i}" in table for i in range(3000))
    assert not any(ops.find_operator(f"Evil{i}").is_known for i in range(3000))
    assert len(table._known) == 0
    assert len(ops._KINDS) <= 1024 + len(ops.operators())
    assert len(ops._RECORDS) <= 1024 + len(ops.operators())
    for known in (ops._KINDS, ops._RECORDS):
        for key in [key for key in known if key[1].startswith("Evil")]:
            del known[key]
