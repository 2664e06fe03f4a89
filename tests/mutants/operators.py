# SPDX-License-Identifier: GPL-2.0-or-later
"""One change in one place: the operators, on Python's syntax tree."""

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

_NOTHING_SAID: Final = ("unsaid.", "unsaid_jobs.", *(f"raise {name}" for name in (
    "Impossible", "Undetermined", "NotImplementedError", "ValueError", "TypeError", "IndexError",
    "KeyError", "Deadlock")))
"""How statements begin that look for operations which no trace has, or end what cannot be."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A changed module."""

    line: int
    what: str
    """Before and after, in a line."""
    tree: ast.Module
    """What is not changed stands where it stood."""
    lines: range
    """One of these must be executed if the change is to have an effect, unless it has it when the
    module is imported."""
    function: str = ""
    """Where it is: ``Class.function``; empty outside of functions and classes."""


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    tree = ast.parse(source)
    idle = _idle(tree)
    lines = _lines(tree)
    functions = _functions(tree)
    parents = {id(child): node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    spots = [node for node in ast.walk(tree)
             if isinstance(node, (ast.expr, ast.stmt)) and id(node) not in idle]
    for node in sorted(spots, key=lambda each: (each.lineno, each.col_offset)):
        for changed in _changed(node):
            yield Mutant(node.lineno, f"{_short(node)}  →  {_short(changed)}",
                         _replaced(tree, parents, node, changed), lines[id(node)],
                         functions[id(node)])


def _replaced(tree: ast.Module, parents: dict[int, ast.AST], node: ast.AST,
              changed: ast.expr | ast.stmt) -> ast.Module:
    """The tree with another node in the place of one.  The two have most nodes in common."""
    old, new = node, ast.fix_missing_locations(ast.copy_location(copy.copy(changed), node))
    while old is not tree:
        parent = parents[id(old)]
        twin = copy.copy(parent)
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(twin, name, new)
            elif isinstance(value, list):
                setattr(twin, name, [new if each is old else each for each in value])
        old, new = parent, twin
    assert isinstance(new, ast.Module)
    return new


def _lines(tree: ast.Module) -> dict[int, range]:
    """The lines of the innermost statement or lambda that a node is in, by the node's id; of a
    statement with a body those before it."""
    found: dict[int, range] = {}

    def walk(node: ast.AST, lines: range, function: range) -> None:
        if isinstance(node, ast.FunctionDef):
            function = range(node.body[0].lineno, (node.end_lineno or 0) + 1)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Yield):
            lines = function  # it may be all that makes this a program
        elif isinstance(node, (ast.stmt, ast.Lambda)):
            assert node.end_lineno is not None
            body = getattr(node, "body", None)
            end = body[0].lineno if isinstance(body, list) else node.end_lineno + 1
            lines = range(node.lineno, max(end, node.lineno + 1))
        found[id(node)] = lines
        for child in ast.iter_child_nodes(node):
            walk(child, lines, function)

    walk(tree, range(0), range(0))
    return found


def _functions(tree: ast.Module) -> dict[int, str]:
    """The function or class that a node is in, by the node's id."""
    found: dict[int, str] = {}

    def walk(node: ast.AST, name: str) -> None:
        found[id(node)] = name
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            name = f"{name}.{node.name}".removeprefix(".")
        for child in ast.iter_child_nodes(node):
            walk(child, name)

    walk(tree, "")
    return found


def _idle(tree: ast.Module) -> set[int]:
    """What decides nothing: documentation, annotations, decorators, names, slots of modules; and
    that the model has nothing to say, which no trace can hold against it."""
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
        if isinstance(node, (ast.Raise, ast.Expr)) and ast.unparse(node).startswith(_NOTHING_SAID):
            parts.append(node)
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


def _short(node: ast.AST) -> str:
    text = ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).splitlines()[0]
    return text if len(text) <= 70 else text[:67] + "..."
