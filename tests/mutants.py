"""Change one operator, constant, condition or statement of the package at a time and see whether the fast tests of its folder notice.

`make mutants SAMPLE=200` draws as many changes of each package by a seed, `PACKAGES="core events"` takes some packages. A change is noticed
where a test fails or takes many times as long. One process imports the libraries and forks for each change: the fork imports the package
from a copy in which one file is changed, so that processes which tests start run the changed code, too.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import functools
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
JOURNAL = ("replay", "cell_replay", "call_recorder", "recorder", "server")
PACKAGES = {
    **{name: [name] for name in ("core", "admission", "events", "batch", "mapreduce", "tracing")},
    "journal": [f"journal/{name}.py" for name in JOURNAL],
    "sandbox": ["sandbox/wire", "sandbox/language", "sandbox/guest"],
}
"""What is changed, by the folder of tests that judges it."""
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
    return text.startswith(("log.", "_log.", "if TYPE_CHECKING")) or isinstance(
        node, ast.Raise | ast.JoinedStr | ast.Assert
    )


def mutants(path):
    """Return the changes of a file: line, first line of the function around it (0 at import), a word, and what makes the source."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = []

    def render(parent, field, at, node, change):
        old, new = getattr(parent, field), change
        if isinstance(change, dict):
            new = copy.copy(node)
            vars(new).update(change)
        setattr(parent, field, [*old[:at], new, *old[at + 1 :]] if isinstance(old, list) else new)
        source = ast.unparse(tree)
        setattr(parent, field, old)
        return source

    def visit(parent, function):
        for field, value in ast.iter_fields(parent):
            for at, node in enumerate(value if isinstance(value, list) else [value]):
                if (
                    field in ("annotation", "returns", "decorator_list")
                    or not isinstance(node, ast.AST)
                    or is_skipped(node)
                ):
                    continue
                for word, change in variants(node):
                    found.append(
                        (
                            node.lineno,
                            function,
                            word,
                            functools.partial(render, parent, field, at, node, change),
                        )
                    )
                is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                visit(
                    node,
                    min(node.lineno, *(each.lineno for each in node.decorator_list), node.lineno)
                    if is_function
                    else function,
                )

    visit(tree, 0)
    return found


class Reach:
    """Note which functions of the package each test calls, and how long it takes."""

    def __init__(self, folder):
        self.folder, self.tests, self.seconds, self.failed = str(folder), {}, {}, set()

    def pytest_runtest_logreport(self, report):
        if report.failed:  # as a test of speed does beside this
            self.failed.add(report.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        codes, start = set(), time.perf_counter()

        def note(frame, event, _argument):
            if event == "call":
                codes.add(frame.f_code)

        threading.setprofile(note)
        sys.setprofile(note)
        try:
            return (yield)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
            self.seconds[item.nodeid] = time.perf_counter() - start
            for code in codes:
                if code.co_filename.startswith(self.folder):
                    self.tests.setdefault(f"{code.co_filename}:{code.co_firstlineno}", []).append(item.nodeid)


def run(copied, tests, timeout_s, report=None):
    """Run tests in a fork; return whether they passed in time."""
    if not (child := os.fork()):
        try:
            os.setpgid(0, 0)
            os._exit(run_here(copied, tests, report))
        finally:
            os._exit(1)
    end, done, code = time.monotonic() + timeout_s, 0, 1
    while time.monotonic() < end and not done:
        time.sleep(0.01)
        done, code = os.waitpid(child, os.WNOHANG)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if not done:
        os.waitpid(child, 0)
    return bool(done) and code == 0


def run_here(copied, tests, report):
    """Run tests with their output in a file; write down what they reach and which libraries they need, if that is wanted."""
    log = os.open(copied / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    options = ["-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    options += ["--basetemp", str(copied / "tmp"), "-m", "not ray and not slow", *tests]
    if report is None:
        return pytest.main(["-x", *options])
    reach = Reach(copied / "rlm_ray")
    pytest.main(options, [reach])
    seconds = {test: took for test, took in reach.seconds.items() if test not in reach.failed}
    tests = {
        function: [each for each in reached if each in seconds] for function, reached in reach.tests.items()
    }
    libraries = [
        name for name, each in sys.modules.items() if "site-packages" in (getattr(each, "__file__", "") or "")
    ]
    report.write_text(json.dumps([tests, seconds, libraries]))
    return 0 if seconds else 1


def judge(package, copied, sample, seed):
    """Print what the tests of a package do not notice, and return how many changes they noticed, of how many."""
    folder, report = f"tests/{package}", copied / "reach.json"
    assert run(copied, [folder], 3600, report), (copied / "log").read_text()
    reach, seconds, libraries = json.loads(report.read_text())
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # a change must not be read from the bytecode of another
    for name in libraries:
        if not name.startswith(
            ("ray", "grpc", "rlm_ray", "_", "hypothesis")
        ):  # whose plugin wants to be first
            with contextlib.suppress(ImportError):  # as of what another library brings along
                importlib.import_module(name)
    assert run(copied, list(seconds)[:50], 600), (copied / "log").read_text()  # a change is all that may fail
    paths = [
        p
        for each in PACKAGES.get(package, [package])
        for p in sorted((copied / "rlm_ray" / each).rglob("*.py")) or [copied / "rlm_ray" / each]
    ]
    every = [(path, *mutant) for path in paths for mutant in mutants(path)]
    chosen = sorted(
        random.Random(seed).sample(every, min(sample, len(every))), key=lambda each: (str(each[0]), each[1])
    )
    noticed = 0
    for path, line, function, word, render in chosen:
        tests = reach.get(f"{path}:{function}") if function else None
        tests = sorted(tests or seconds, key=lambda each: (f"/test_{path.stem}" not in each, seconds[each]))
        if package == "sandbox":  # its tests start processes, and what those reach is not seen
            tests += [each for each in seconds if each not in tests]
        original = path.read_bytes()
        path.write_text(render(), encoding="utf-8")
        survived = run(copied, tests, 20 + 10 * sum(seconds[each] for each in tests))
        path.write_bytes(original)
        noticed += not survived
        if survived:
            print(
                f"  {path.relative_to(copied)}:{line}: {word}: {original.decode().splitlines()[line - 1].strip()[:100]}",
                flush=True,
            )
    print(
        f"{package}: {noticed} of {len(chosen)} noticed ({noticed / len(chosen):.0%}), drawn from {len(every)}",
        flush=True,
    )
    return noticed, len(chosen)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", nargs="*", default=list(PACKAGES))
    parser.add_argument("--sample", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rlm_ray-mutants-") as folder:
        copied = Path(folder) / "copy"
        shutil.copytree(
            ROOT, copied, ignore=shutil.ignore_patterns(".venv", ".git", ".hypothesis", ".*_cache")
        )
        os.chdir(copied)
        os.environ |= {"PYTHONPATH": str(copied), "TMPDIR": folder, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        tempfile.tempdir = folder
        sys.path[:] = [
            str(copied),
            *(each for each in sys.path if each not in ("", str(ROOT), str(ROOT / "tests"))),
        ]
        for package in options.packages:
            judge(package, copied, options.sample, options.seed)


if __name__ == "__main__":
    main()
