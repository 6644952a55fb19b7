"""The changes of a module that `mutants.py` tries: one operator, constant, condition, returned value or statement each."""

from __future__ import annotations

import ast
import contextlib
import copy
import dataclasses
import inspect
import types
from pathlib import Path

SWAPS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


def variants(node):
    """Yield what may stand in place of a node, each with a word for it."""
    match node:
        case ast.BinOp(op=op) | ast.AugAssign(op=op) | ast.BoolOp(op=op) if type(op) in SWAPS:
            yield f"{type(op).__name__} -> {SWAPS[type(op)].__name__}", {"op": SWAPS[type(op)]()}
        case ast.Compare(ops=[op, *others]) if type(op) in SWAPS:
            yield f"{type(op).__name__} -> {SWAPS[type(op)].__name__}", {"ops": [SWAPS[type(op)](), *others]}
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            yield "condition negated", {"test": ast.UnaryOp(ast.Not(), test)}
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield "not removed", operand
        case ast.Constant(value=bool(value)):
            yield f"{value} -> {not value}", ast.Constant(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield f"{value} -> {value + 1}", ast.Constant(value + 1)
        case ast.Return(value=ast.expr() as value) if not (
            isinstance(value, ast.Constant) and value.value is None
        ):
            yield "returns None", {"value": ast.Constant(None)}
    if isinstance(node, ast.AugAssign) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Await)
    ):
        yield "statement removed", ast.Pass()


def is_skipped(node):
    """Return whether no change of a node matters: log lines, the texts of errors, types."""
    text = ast.unparse(node) if isinstance(node, ast.Expr | ast.If) else ""
    is_check = isinstance(node, ast.keyword) and node.arg == "strict"  # of zip, which asserts
    return (
        text.startswith(("log.", "_log.", "if TYPE_CHECKING"))
        or is_check
        or isinstance(node, ast.Raise | ast.JoinedStr | ast.Assert)
    )


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One change of a file."""

    path: Path
    line: int
    word: str
    functions: tuple
    """First lines of the functions around it, from the outermost; none where it is at module level."""
    tree: ast.Module
    parent: ast.AST
    field: str
    at: int
    node: ast.AST
    change: ast.AST | dict

    @contextlib.contextmanager
    def made(self):
        """Change the tree for a while."""
        old, new = getattr(self.parent, self.field), self.change
        if isinstance(new, dict):
            new = copy.copy(self.node)
            vars(new).update(self.change)
        setattr(
            self.parent,
            self.field,
            [*old[: self.at], new, *old[self.at + 1 :]] if isinstance(old, list) else new,
        )
        yield ast.fix_missing_locations(self.tree)
        setattr(self.parent, self.field, old)

    def source(self):
        with self.made() as tree:
            return ast.unparse(tree)

    def code(self):
        """Return the code of the outermost function around the change."""
        with self.made() as tree:
            found = [compile(tree, str(self.path), "exec")]
        for code in found:
            if (
                code.co_firstlineno == self.functions[0]
                and code.co_flags & inspect.CO_NEWLOCALS
                and code.co_name[0] != "<"
            ):
                return code
            found += [each for each in code.co_consts if isinstance(each, types.CodeType)]
        raise LookupError(self)


def mutants(path):
    """Return the changes of a file."""
    tree, found = ast.parse(path.read_text(encoding="utf-8")), []

    def visit(parent, functions):
        for field, value in ast.iter_fields(parent):
            for at, node in enumerate(value if isinstance(value, list) else [value]):
                skipped = field in ("annotation", "returns", "decorator_list")
                if skipped or not isinstance(node, ast.AST) or is_skipped(node):
                    continue
                for word, change in variants(node):
                    found.append(
                        Mutant(path, node.lineno, word, functions, tree, parent, field, at, node, change)
                    )
                is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                first = min(each.lineno for each in [*node.decorator_list, node]) if is_function else 0
                visit(node, (*functions, first) if is_function else functions)

    visit(tree, ())
    return found
