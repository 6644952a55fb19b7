"""The command line imports nothing from where it is called."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from rlm_ray.util.import_path import absolute_entries, drop_working_folder


@pytest.fixture
def path(monkeypatch):
    def set_path(entries, *, safe=False, pythonpath=None):
        monkeypatch.setattr(sys, "path", list(entries))
        monkeypatch.setattr(sys, "flags", SimpleNamespace(safe_path=safe))
        monkeypatch.delenv("PYTHONPATH", raising=False)
        if pythonpath is not None:
            monkeypatch.setenv("PYTHONPATH", pythonpath)
        drop_working_folder()
        return sys.path, os.environ.get("PYTHONPATH")

    return set_path


def test_what_python_put_first_goes(path):
    assert path(["/here", "/lib"]) == (["/lib"], None)


def test_a_safe_path_holds_no_such_thing(path):
    assert path(["/lib", "/site"], safe=True) == (["/lib", "/site"], None)


@pytest.mark.parametrize("given", ["", ":", ".", ":/given", "/given:", "./:/given", "sub/..:/given"])
def test_relative_entries_of_pythonpath_go_here_and_for_children(path, given):
    here = str(Path.cwd())
    left, inherited = path(["/bin", here, "/given", "/lib"], pythonpath=given)
    assert left == ["/given", "/lib"]
    assert inherited == ("/given" if "given" in given else "")


def test_an_absolute_entry_is_the_users_word_also_of_the_working_folder(path):
    here = str(Path.cwd())
    assert path(["/bin", here, "/lib"], pythonpath=f":{here}")[0] == [here, "/lib"]
    assert absolute_entries(f":{here}") == [here]
