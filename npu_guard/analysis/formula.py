"""Formulas of unary operators, such as `x / (1 + exp(-alpha * x))`, computed in numpy.

They come from the records of `graph/ops.py`: names, numbers, arithmetic, comparisons and numpy's functions, and nothing else.
"""

from __future__ import annotations

import ast
import functools
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Names = Mapping[str, Any]
"""Values by the names that stand in a formula: `x`, and attributes."""
_NUMPY = frozenset(
    {"abs", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctanh", "ceil", "cos", "cosh", "exp", "expm1", "floor",
     "isinf", "isnan", "log", "log1p", "maximum", "minimum", "rint", "sign", "sin", "sinh", "sqrt", "tan", "tanh", "where"}
)  # fmt: skip
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "erf": np.vectorize(math.erf, otypes=[np.float64]),
    **{name: getattr(np, name) for name in _NUMPY},
}
_CONSTANTS: Names = {"pi": math.pi}
_OPERATIONS: Mapping[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.Pow: operator.pow,
    ast.BitAnd: operator.and_, ast.USub: operator.neg, ast.Invert: operator.invert, ast.Lt: operator.lt, ast.Gt: operator.gt,
    ast.Eq: operator.eq,
}  # fmt: skip


def attribute_names(formula: str) -> tuple[str, ...]:
    """Names in a formula that an operator's attributes stand for."""
    tree = ast.walk(ast.parse(formula, mode="eval"))
    names = dict.fromkeys(node.id for node in tree if isinstance(node, ast.Name))
    return tuple(name for name in names if name != "x" and name not in _FUNCTIONS and name not in _CONSTANTS)


@functools.cache
def compiled(formula: str) -> Callable[[Names], Any]:
    """A function of the names in a formula. It raises KeyError where one is missing."""
    return _compiled(ast.parse(formula, mode="eval").body)


def _compiled(node: ast.AST) -> Callable[[Names], Any]:
    match node:
        case ast.Constant(value):
            return lambda names: value
        case ast.Name(name):
            return lambda names: _CONSTANTS[name] if name in _CONSTANTS else names[name]
        case ast.UnaryOp(op, operand):
            return _applied(_OPERATIONS[type(op)], operand)
        case ast.BinOp(left, op, right):
            return _applied(_OPERATIONS[type(op)], left, right)
        case ast.Compare(left, [op], [right]):
            return _applied(_OPERATIONS[type(op)], left, right)
        case ast.Call(ast.Name(name), arguments, []):
            return _applied(_FUNCTIONS[name], *arguments)
    raise ValueError(f"{ast.unparse(node)!r} is no part of a formula")


def _applied(function: Callable[..., Any], *operands: ast.AST) -> Callable[[Names], Any]:
    parts = [_compiled(operand) for operand in operands]
    return lambda names: function(*(part(names) for part in parts))
