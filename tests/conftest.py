"""Fixtures every test may use."""

from __future__ import annotations

import atexit
import gc
import importlib.util
import os
import shutil
import tempfile

import hypothesis
import pytest

hypothesis.settings.register_profile("rlm_ray", deadline=None)  # a loaded machine is no defect
hypothesis.settings.register_profile(
    "without_shrinking", deadline=None, phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate]
)  # for tests/mutants.py: any example will do
hypothesis.settings.load_profile("rlm_ray")

_HOME = tempfile.mkdtemp(prefix="rlm_ray-tests-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ["HOME"] = _HOME  # runs leave their folders under the home of whoever asks
if os.environ.get("PYTEST_XDIST_WORKER"):
    # each process starts a Ray of its own, and commands that look for a running one find theirs
    _RAY = tempfile.mkdtemp(prefix="rr-", dir="/tmp")
    os.environ["RAY_TMPDIR"] = _RAY
    atexit.register(shutil.rmtree, _RAY, ignore_errors=True)
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 starves actors beside any other program
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


@pytest.fixture(autouse=True)
def no_keys_of_the_developer(monkeypatch):
    """A key in the developer's environment must not change what a test sees."""
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_API_BASE")):
            monkeypatch.delenv(name)


@pytest.fixture
def begin_record():
    """Write the first record of a run into its folder, where there is none, and tell it to observers."""

    from rlm_ray.config import settings_to_dict
    from rlm_ray.core.context import InputSummary
    from rlm_ray.events.records import RunStarted, to_line
    from rlm_ray.journal.run_store import RunStore

    def begin(settings, query, run_id, observers=()):
        record = RunStarted(1.0, run_id, query, settings_to_dict(settings), InputSummary(), "0.1")
        folder = RunStore(settings.run_dir, run_id)
        if not folder.exists():
            writer = folder.writer("test")
            writer.append(to_line(record, "t:0"))
            writer.close()
        for observer in observers:
            observer.add(record)

    return begin


PARSERS = ("pypdfium2", "docx", "pptx", "python_calamine", "striprtf", "fpdf", "xlsxwriter")
MISSING_PARSERS = [name for name in PARSERS if importlib.util.find_spec(name) is None]


@pytest.fixture(scope="session")
def samples(tmp_path_factory):
    """A folder with a document of each kind. The parsers are an extra: without them its tests are skipped, with `CI=true` they fail."""
    if MISSING_PARSERS and not os.environ.get("CI"):
        pytest.skip(f"not installed: {', '.join(MISSING_PARSERS)}; make venv installs them")
    import sample_documents

    return sample_documents.write_all(tmp_path_factory.mktemp("documents"))


ON_THE_LOOP_OF_THE_MODULE = {"manager", "module_hosts"}
"""Fixtures that live as long as a module and belong to an event loop: tests that use one run on the same."""


def pytest_collection_modifyitems(items):
    for item in items:
        if ON_THE_LOOP_OF_THE_MODULE & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)
    # Ray last: its threads, and those of litellm, use `random`, which Hypothesis forbids while it draws.
    # Of these the longest file first: at the end one process would wait for it.
    items.sort(
        key=lambda item: (item.get_closest_marker("ray") is not None, "quality" not in item.path.parts)
    )


def pytest_collection_finish():
    """Half a million objects of modules and tests stay to the end; the collector need not look through them again and again."""
    gc.freeze()
