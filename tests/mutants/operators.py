# SPDX-License-Identifier: GPL-2.0-or-later
"""One change in one place: the operators, on Python's syntax tree.

This module knows nothing of the model, which must not be imported before it is changed.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_COMPARISONS: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn,
    ast.NotIn: ast.In}
_ARITHMETIC: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr}


@dataclass(frozen=True, slots=True)
class Mutant:
    """A changed module."""

    line: int
    what: str
    """Before and after, in a line."""
    source: str


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    tree = ast.parse(source)
    spots = [node for node in ast.walk(tree)
             if isinstance(node, (ast.expr, ast.stmt)) and id(node) not in _idle(tree)]
    for node in sorted(spots, key=lambda each: (each.lineno, each.col_offset)):
        for changed in _changed(node):
            yield Mutant(node.lineno, f"{_short(node)}  →  {_short(changed)}",
                         ast.unparse(_Replace(node, changed).visit(copy.deepcopy(tree))))


def _idle(tree: ast.Module) -> set[int]:
    """What decides nothing: documentation, annotations, decorators, names, slots of modules."""
    idle: set[int] = set()
    for node in ast.walk(tree):
        parts: list[ast.AST] = []
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            parts += node.decorator_list
        if isinstance(node, ast.FunctionDef):
            parts += [node.returns] if node.returns else []
        if isinstance(node, (ast.arg, ast.AnnAssign)) and node.annotation is not None:
            parts.append(node.annotation)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            parts.append(node)
        if isinstance(node, (ast.Raise, ast.JoinedStr)):
            parts += list(ast.iter_child_nodes(node))
        for part in parts:
            idle |= {id(each) for each in ast.walk(part)}
    return idle


def _changed(node: ast.expr | ast.stmt) -> Iterator[ast.expr | ast.stmt]:
    match node:
        case ast.Compare(ops=[operator], left=left, comparators=right):
            if type(operator) in _COMPARISONS:
                yield ast.Compare(left, [_COMPARISONS[type(operator)]()], right)
        case ast.BinOp(left, operator, right):
            if type(operator) in _ARITHMETIC:
                yield ast.BinOp(left, _ARITHMETIC[type(operator)](), right)
        case ast.BoolOp(ast.And(), values):
            yield ast.BoolOp(ast.Or(), values)
        case ast.BoolOp(ast.Or(), values):
            yield ast.BoolOp(ast.And(), values)
        case ast.UnaryOp(ast.Not(), operand):
            yield operand
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(number)):
            yield ast.Constant(number + 1)
        case ast.If(test, body, orelse) | ast.While(test, body, orelse):
            yield type(node)(ast.UnaryOp(ast.Not(), test), body, orelse)
        case ast.IfExp(test, body, orelse):
            yield ast.IfExp(ast.UnaryOp(ast.Not(), test), body, orelse)
        case ast.Expr(ast.Call() | ast.YieldFrom() | ast.Yield()) | ast.AugAssign() | (
                ast.Continue() | ast.Raise()):
            yield ast.Pass()
        case ast.Return(value) if value is not None and not isinstance(value, ast.Constant):
            yield ast.Return(ast.Constant(None))


class _Replace(ast.NodeTransformer):
    """Puts a node in the place of another, found in a copy by where it stands and its text."""

    def __init__(self, old: ast.expr | ast.stmt, new: ast.expr | ast.stmt) -> None:
        self._key = _key(old)
        self._new = copy.deepcopy(new)

    def visit(self, node: ast.AST) -> ast.AST:
        """Replace it, or go on below it."""
        if isinstance(node, (ast.expr, ast.stmt)) and _key(node) == self._key:
            return ast.fix_missing_locations(ast.copy_location(self._new, node))
        return self.generic_visit(node)


def _key(node: ast.expr | ast.stmt) -> tuple[object, ...]:
    return (type(node), node.lineno, node.col_offset, node.end_lineno, node.end_col_offset)


def _short(node: ast.AST) -> str:
    text = ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).splitlines()[0]
    return text if len(text) <= 70 else text[:67] + "..."
