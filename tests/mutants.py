"""Change one operator, constant, condition or statement of the package at a time and see whether the fast tests of its folder notice.

`make mutants SAMPLE=200` draws as many changes of each package by a seed, `PACKAGES="core events"` takes some packages. A change is noticed
where a test fails or takes many times as long.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import types
from pathlib import Path

import pytest
from code_changes import mutants

ROOT = Path(__file__).parents[1]
JOURNAL = ("replay", "cell_replay", "call_recorder", "recorder", "server")
LLM = (
    "litellm_errors", "litellm_reply", "litellm_request", "openai_reply", "provider_error", "provider_rules", "request_template",
    "retry_policy", "server_limits",
)  # fmt: skip
BATCH = (
    "csv_reader", "files", "formats", "job", "json_reader", "parquet_reader", "progress", "python_api", "raw_rows", "results", "row_processor",
    "runner", "source", "tables", "template", "writer",
)  # fmt: skip
"""All but what wants Ray."""
WHOLE = ("core", "admission", "events", "mapreduce", "tracing", "structured", "config")
PACKAGES = {
    **{name: [name] for name in WHOLE},
    "batch": [f"batch/{name}.py" for name in BATCH],
    "llm": [*(f"llm/{name}.py" for name in LLM), "llm/offline"],
    "journal": [f"journal/{name}.py" for name in JOURNAL],
    "sandbox": ["sandbox/wire", "sandbox/language", "sandbox/guest"],
}
"""What is changed, by the folder of tests that judges it."""


def place_of(code):
    return f"{code.co_filename}:{code.co_firstlineno}"


class Package:
    """Judges the changes of one package, as a plugin of the pytest session that has collected the tests of its folder.

    Tests run in forks of that session. Where no import calls the changed function, its code is replaced in the fork; else the fork imports
    everything of the copy anew. The file is changed, too, for processes that tests start.
    """

    def __init__(self, name, copied, options):
        self.name, self.copied, self.options = name, copied, options
        self.out, self.called_by_imports, self.failed = os.dup(1), set(), set()

    def judge(self):
        """Collect the tests, and print what they do not notice; returns an exit code."""
        sys.dont_write_bytecode = False
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        log = os.open(self.copied / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        status = self.call_pytest([f"tests/{self.name}"], self)
        if status:
            self.print((self.copied / "log").read_text())
        return status

    def call_pytest(self, tests, *plugins):
        options = ["-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
        options += ["--basetemp", str(self.copied / "tmp"), "--hypothesis-profile", "without_shrinking"]
        return pytest.main([*options, "-x", "-m", "not ray and not slow", *tests], plugins)

    def print(self, text):
        os.write(self.out, f"{text}\n".encode())

    def pytest_collection(self):
        sys.setprofile(self.note_calls(self.called_by_imports))

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed.add(report.nodeid)

    def note_calls(self, places):
        folder = str(self.copied / "rlm_ray")

        def note(frame, event, _argument):
            if event == "call" and frame.f_code.co_filename.startswith(folder):
                places.add(place_of(frame.f_code))

        return note

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session):
        """Judge the changes in place of running the tests once."""
        sys.setprofile(None)
        if session.testsfailed:
            return None
        self.items = {item.nodeid: item for item in session.items}
        report = self.copied / "reach.json"
        self.fork(3600, lambda: self.measure(report))
        reach, seconds = json.loads(report.read_text())
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # a change must not be read from the bytecode of another
        for run in (self.run, self.run_anew):
            assert self.fork(600, lambda run=run: run(list(seconds))), "tests fail without a change"
        functions = {}
        for each in gc.get_objects():
            if isinstance(each, types.FunctionType):
                functions.setdefault(place_of(each.__code__), []).append(each)
        every = [mutant for path in self.paths() for mutant in mutants(path)]
        chosen = random.Random(self.options.seed).sample(every, min(self.options.sample, len(every)))
        noticed = 0
        for mutant in sorted(chosen, key=lambda mutant: (mutant.path, mutant.line)):
            places = [f"{mutant.path}:{line}" for line in mutant.functions]
            tests = reach.get(places[-1]) if places else None
            tests = sorted(
                tests or seconds, key=lambda test: (f"/test_{mutant.path.stem}" not in test, seconds[test])
            )
            if self.name == "sandbox":  # its tests start processes, and what those reach is not seen
                tests += [each for each in seconds if each not in tests]
            loaded = functions.get(places[0], []) if places else []
            if self.called_by_imports & set(places):
                loaded = []
            noticed += self.notices(mutant, loaded, tests, sum(seconds[test] for test in tests))
        self.print(
            f"{self.name}: {noticed} of {len(chosen)} noticed ({noticed / len(chosen):.0%}), drawn from {len(every)}"
        )
        return True

    def paths(self):
        for each in PACKAGES.get(self.name, [self.name]):
            path = self.copied / "rlm_ray" / each
            for found in sorted(path.rglob("*.py")) or [path]:
                if not self.options.files or found.stem in self.options.files:
                    yield found

    def measure(self, report):
        """Write down which tests call each function, and the seconds of each test that passes."""
        reach, seconds = {}, {}
        for item in self.items.values():
            places, start = set(), time.perf_counter()
            threading.setprofile(self.note_calls(places))
            sys.setprofile(self.note_calls(places))
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            sys.setprofile(None)
            threading.setprofile(None)
            if item.nodeid not in self.failed:  # as a test of speed does beside this
                seconds[item.nodeid] = time.perf_counter() - start
                for place in places:
                    reach.setdefault(place, []).append(item.nodeid)
        report.write_text(json.dumps([reach, seconds]))
        return 0

    def notices(self, mutant, loaded, tests, seconds):
        """Return whether tests fail with a change, or take many times as long; print it if not."""
        original = mutant.path.read_bytes()
        mutant.path.write_text(mutant.source(), encoding="utf-8")

        def run():
            resource.setrlimit(resource.RLIMIT_CPU, (int(3 + 4 * seconds), resource.RLIM_INFINITY))
            if not loaded:
                return self.run_anew(tests)
            for function in loaded:
                function.__code__ = mutant.code()
            return self.run(tests)

        survives = self.fork(15 + 10 * seconds, run)
        mutant.path.write_bytes(original)
        if survives:
            line = original.decode().splitlines()[mutant.line - 1].strip()[:100]
            self.print(f"  {mutant.path.relative_to(self.copied)}:{mutant.line}: {mutant.word}: {line}")
        return not survives

    def run(self, tests):
        """Run tests that are collected until one fails; returns an exit code."""
        for test, after in itertools.pairwise([*tests, None]):
            item, following = self.items[test], self.items.get(after)
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self.failed:
                with contextlib.suppress(BaseException):
                    item.ihook.pytest_runtest_teardown(item=item, nextitem=None)
                return 1
        return 0

    def run_anew(self, tests):
        """Import the package and its tests anew, and run tests; returns an exit code."""
        for name, module in list(sys.modules.items()):
            if (getattr(module, "__file__", "") or "").startswith(str(self.copied)):
                del sys.modules[name]
        return self.call_pytest(tests)

    def fork(self, timeout_s, run):
        """Run a function in a fork; return whether it returned 0 in time."""
        if not (child := os.fork()):
            try:
                os.setpgid(0, 0)
                os._exit(run())
            finally:
                os._exit(1)
        end, done, code = time.monotonic() + timeout_s, 0, 1
        while time.monotonic() < end and not done:
            time.sleep(0.005)
            done, code = os.waitpid(child, os.WNOHANG)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        if not done:
            os.waitpid(child, 0)
        return bool(done) and code == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", nargs="*", default=list(PACKAGES))
    parser.add_argument("--sample", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--files", nargs="*", help="the names of some modules, without .py")
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
        for name in options.packages:
            if not (child := os.fork()):
                os._exit(Package(name, copied, options).judge())
            os.waitpid(child, 0)


if __name__ == "__main__":
    main()
