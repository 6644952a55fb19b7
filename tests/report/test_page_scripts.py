"""The pages' JavaScript: modules that hold together, one script without imports, and their unit tests where node is there."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from rlm_ray.report.html import MODULES, bundle_script

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "rlm_ray" / "report" / "static"
SERVED = ROOT / "rlm_ray" / "serve" / "static"
SCRIPTS = sorted([*STATIC.glob("*.js"), *SERVED.glob("*.js")])
TOP_LEVEL = re.compile(r"^(?:export )?(?:const|let|function\*?|class) (\w+)", re.MULTILINE)
IMPORT = re.compile(r'^import \{([^}]*)\} from "\./(\w+)\.js";$', re.MULTILINE)

needs_node = pytest.mark.skipif(
    shutil.which("node") is None, reason="node is not here; the browser tests run the pages"
)


def exports(path: Path) -> set[str]:
    return set(re.findall(r"^export (?:const|let|function\*?|class) (\w+)", path.read_text(), re.MULTILINE))


def test_the_report_is_made_of_all_modules():
    assert {f"{name}.js" for name in MODULES} == {path.name for path in STATIC.glob("*.js")}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parts[-3]}/{path.name}")
def test_every_import_is_an_export_of_its_module(path):
    for names, module in IMPORT.findall(path.read_text()):
        assert {name.strip() for name in names.split(",")} <= exports(path.with_name(f"{module}.js"))


def test_no_two_modules_of_the_report_have_one_top_level_name():
    names = Counter(name for path in STATIC.glob("*.js") for name in TOP_LEVEL.findall(path.read_text()))
    assert [name for name, count in names.items() if count > 1] == []


def test_the_bundle_has_no_import_and_no_export_left():
    assert not re.search(r"^\s*(?:import|export)\b", bundle_script(), re.MULTILINE)


@needs_node
def test_modules_pass_their_unit_tests():
    tests = sorted(map(str, (ROOT / "tests" / "javascript").glob("*.test.mjs")))
    done = subprocess.run(
        ["node", "--test", *tests], check=False, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout[-4000:]
