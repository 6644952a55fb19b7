# ruff: noqa: N802, N815 - the visitors' names are the ast's
"""The language of a cell: Python without the words that lead out of it.

A RestrictedPython transformer that refuses names and statements, and guards only what can do
harm: writes of attributes, and reads of the few attributes in `name_rules.RUNTIME_CHECKED`. Items, iteration,
unpacking, calls and all other attributes stay native, so a loop over a long context costs what it
costs in plain Python. Names are checked after parsing, so no spelling of Unicode hides one.

Annotations are dropped: nothing here may ever evaluate a string. In class bodies their names
stay, with `None` as the type, so that dataclasses work.
"""

from __future__ import annotations

import ast
import builtins
from dataclasses import dataclass
from typing import Any

from RestrictedPython import RestrictingNodeTransformer
from RestrictedPython.transformer import copy_locations

from rlm_ray.sandbox.language import name_rules

GETATTR, WRITE, SUPER, CHECK_TIME, DISPLAY = "_getattr_", "_write_", "_super_", "_check_time_", "_display_"
"""The guards, as names that code cannot say."""

_ASYNC = (
    "async code does not run here: sub-calls run in parallel with recursive_map(queries, contexts), "
    "which is an ordinary call"
)
_CONTEXT_READING_NAMES = {"context", "documents", "search", "bm25", "map_reduce", "cite"}
_CHANGING_METHODS = {"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"}
_ERRORS = {
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, Exception)
}
_MEANT_ANNOTATIONS = {"KW_ONLY", "InitVar"}


@dataclass(frozen=True, slots=True)
class CompiledCell:
    """Code to execute, and what its source tells of `context`."""

    code: Any
    reads_context: bool
    changes_context: bool
    """In place, by its name; not a proof, only what is plain to see."""


def compile_cell(source: str, filename: str) -> CompiledCell:
    """Compile a cell. Raises `SyntaxError`, also for a refusal."""
    tree = ast.parse(source, filename)
    nodes = list(ast.walk(tree))
    reads, changes = any(map(_reads_context, nodes)), any(map(_changes_context, nodes))
    Policy(filename).visit(tree)
    _display_last(tree)
    ast.fix_missing_locations(tree)
    return CompiledCell(compile(tree, filename, "exec", dont_inherit=True), reads, changes)


def _reads_context(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in _CONTEXT_READING_NAMES and isinstance(node.ctx, ast.Load)


def _changes_context(node: ast.AST) -> bool:
    match node:
        case ast.Subscript(value=ast.Name("context" | "documents"), ctx=ast.Store() | ast.Del()):
            return True
        case ast.Attribute(value=ast.Name("context" | "documents"), attr=name):
            return name in _CHANGING_METHODS
        case _:
            return False


class Policy(RestrictingNodeTransformer):  # type: ignore[misc]
    """Refuses by `SyntaxError` at the first line that asks for it."""

    def __init__(self, filename: str) -> None:
        super().__init__()
        self._filename = filename
        self._in_class = False

    def error(self, node: ast.AST, info: str) -> None:
        line, column = getattr(node, "lineno", 0), getattr(node, "col_offset", 0)
        raise SyntaxError(info, (self._filename, line, column + 1, None))

    def not_allowed(self, node: ast.AST) -> None:
        self.error(node, f"{type(node).__name__} is not allowed here")

    def check_name(self, node: ast.AST, name: str | None, allow_magic_methods: bool = False) -> None:
        del allow_magic_methods
        if name is not None and name_rules.is_forbidden_name(name):
            self.error(
                node, f"the name {name!r} is not available here; choose one without underscores at both ends"
            )

    def check_attribute(self, node: ast.AST, name: str, *, written: bool = False) -> None:
        if name_rules.is_forbidden_attribute(name, written=written):
            self.error(node, f"the attribute {name!r} is not available here")

    # Names and attributes

    def visit_Name(self, node: ast.Name) -> ast.AST:
        self.check_name(node, node.id)
        if node.id == "super" and isinstance(node.ctx, ast.Load):
            # With arguments it may begin anywhere among the bases of anything.
            return ast.copy_location(ast.Name(SUPER, ast.Load()), node)
        return node

    def visit_Global(self, node: ast.Global) -> ast.AST:
        return self._check_names(node)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> ast.AST:
        return self._check_names(node)

    def _check_names(self, node: ast.Global | ast.Nonlocal) -> ast.AST:
        for name in node.names:
            self.check_name(node, name)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        written = not isinstance(node.ctx, ast.Load)
        self.check_attribute(node, node.attr, written=written)
        node = self.node_contents_visit(node)
        if written:
            node.value = _guard(WRITE, node.value, node)
        elif node.attr in name_rules.RUNTIME_CHECKED:
            return _guard(GETATTR, node.value, node, ast.Constant(node.attr))
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        return self.node_contents_visit(node)  # type: ignore[no-any-return]

    # Assignments, loops and calls stay native

    visit_AugAssign = visit_With = visit_Subscript
    visit_For = visit_comprehension = visit_ListComp = visit_SetComp = visit_Subscript
    visit_DictComp = visit_GeneratorExp = visit_NamedExpr = visit_Subscript
    visit_Match = visit_match_case = visit_Subscript
    visit_MatchValue = visit_MatchSingleton = visit_MatchSequence = visit_MatchOr = visit_Subscript

    def visit_Call(self, node: ast.Call) -> ast.AST:
        match node:
            case ast.Call(ast.Name("super"), [], []):
                return node
            case _:
                return self.node_contents_visit(node)  # type: ignore[no-any-return]

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        match node.targets:
            case [ast.Name("__match_args__")]:
                self._check_match_args(node.value)
                return node
            case _:
                return self.node_contents_visit(node)  # type: ignore[no-any-return]

    def _check_match_args(self, value: ast.expr) -> None:
        """Check that they are plain to see: they name attributes that `case C(x)` reads."""
        names = value.elts if isinstance(value, ast.Tuple) else [value]
        for name in names:
            if not (isinstance(name, ast.Constant) and isinstance(name.value, str)):
                self.error(value, "__match_args__ must be a tuple of names as literal strings here")
            elif name_rules.refuses_pattern(name.value):
                self.error(name, f"the attribute {name.value!r} cannot stand in a pattern here")

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        in_class, annotation = self._in_class, node.annotation
        node.annotation = ast.Constant(None)
        node = self.node_contents_visit(node)
        if in_class and isinstance(node.target, ast.Name) and "ClassVar" not in _annotation_names(annotation):
            if _MEANT_ANNOTATIONS.intersection(_annotation_names(annotation)):
                node.annotation = self.visit(_without_subscript(annotation))
            return node
        if node.value is None:
            return ast.copy_location(ast.Pass(), node)
        return ast.copy_location(ast.Assign([node.target], node.value), node)

    # Patterns name attributes and variables by bare strings

    def visit_MatchClass(self, node: ast.MatchClass) -> ast.AST:
        for name in node.kwd_attrs:
            self.check_attribute(node, name)
            if name_rules.refuses_pattern(name):
                self.error(node, f"the attribute {name!r} cannot stand in a pattern here")
        return self.node_contents_visit(node)  # type: ignore[no-any-return]

    def visit_MatchAs(self, node: ast.MatchAs) -> ast.AST:
        self.check_name(node, node.name)
        return self.node_contents_visit(node)  # type: ignore[no-any-return]

    def visit_MatchStar(self, node: ast.MatchStar) -> ast.AST:
        self.check_name(node, node.name)
        return node

    def visit_MatchMapping(self, node: ast.MatchMapping) -> ast.AST:
        self.check_name(node, node.rest)
        return self.node_contents_visit(node)  # type: ignore[no-any-return]

    # Functions and classes

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.check_name(node, node.name)
        node.returns = None
        _drop_type_parameters(node)
        return self._visit_scope(node, in_class=False)

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return self._visit_scope(node, in_class=False)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        self.check_name(node, node.arg)
        node.annotation = None
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.check_name(node, node.name)
        if any(keyword.arg == "metaclass" for keyword in node.keywords):
            self.error(node, "metaclasses are not available here; for an abstract class inherit from abc.ABC")
        if any(keyword.arg is None for keyword in node.keywords):
            self.error(node, "** is not available in a class statement here: write its keywords out")
        _drop_type_parameters(node)
        return self._visit_scope(node, in_class=True)

    def _visit_scope(self, node: Any, *, in_class: bool) -> ast.AST:
        outer, self._in_class = self._in_class, in_class
        node = self.node_contents_visit(node)
        self._in_class = outer
        return node  # type: ignore[no-any-return]

    # Imports: the guarded __import__ decides, and stars have no end

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        if node.module == "__future__":
            return ast.copy_location(ast.Pass(), node)
        return self.check_import_names(node)

    def visit_alias(self, node: ast.alias) -> ast.AST:
        return node

    def check_import_names(self, node: ast.Import | ast.ImportFrom) -> ast.AST:
        for alias in node.names:
            if alias.name == "*":
                self.error(node, "import * is not available here: name what you need")
            for name in (alias.asname or alias.name).split("."):
                self.check_name(node, name)
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                self.check_attribute(node, alias.name)
        return node

    # What has no meaning here

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        self.error(node, _ASYNC)
        return node

    visit_Await = visit_AsyncFor = visit_AsyncWith = visit_AsyncFunctionDef

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        """Have a handler that may catch the cell's time-out raise it again."""
        self.check_name(node, node.name)
        node = self.node_contents_visit(node)
        if not _is_narrow(node.type):
            check = ast.Expr(ast.Call(ast.Name(CHECK_TIME, ast.Load()), [], []))
            ast.copy_location(check, node)
            node.body.insert(0, check)
        return node

    def visit_TryStar(self, node: ast.AST) -> ast.AST:
        # CPython crashes on exception groups whose split() lies.
        self.error(node, "except* is not available here: use except")
        return node


def _display_last(tree: ast.Module) -> None:
    """Show the value of a last line that is an expression; a lone string is a remark."""
    match tree.body:
        case [*_, ast.Expr(ast.Constant(str()))]:
            return
        case [*_, ast.Expr() as last]:
            call = ast.Call(ast.Name(DISPLAY, ast.Load()), [last.value], [])
            copy_locations(call, last.value)
            last.value = call


def _is_narrow(caught: ast.expr | None) -> bool:
    """Tell whether a handler catches errors of Python's own only, by their names."""
    names = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return all(isinstance(name, ast.Name) and name.id in _ERRORS for name in names)


def _guard(name: str, value: ast.expr, node: ast.expr, *more: ast.expr) -> ast.Call:
    call = ast.Call(ast.Name(name, ast.Load()), [value, *more], [])
    copy_locations(call, node)
    return call


def _drop_type_parameters(node: ast.FunctionDef | ast.ClassDef) -> None:
    """Drop those of `def f[T](x: T)` of Python 3.12: only annotations name them."""
    if hasattr(node, "type_params"):
        node.type_params = []


def _annotation_names(annotation: ast.expr) -> set[str]:
    base = _without_subscript(annotation)
    return (
        {base.attr} if isinstance(base, ast.Attribute) else {base.id} if isinstance(base, ast.Name) else set()
    )


def _without_subscript(annotation: ast.expr) -> ast.expr:
    return annotation.value if isinstance(annotation, ast.Subscript) else annotation
