"""Makes one HTML file from the parts in `static/` and a run's columns.

What a journal holds was written by models and strangers. It enters the page as JSON in a data block, with every
character escaped that could end the block, and the page's code makes text of it and never markup. The page may run the
two parts written here, named by their hashes, and may load nothing.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from rlm_ray.events.records import Record
from rlm_ray.report.page_data import build_page_data, build_summary, diff_words
from rlm_ray.report.run_data import RunData, answer_of, query_of, run_data_from_records
from rlm_ray.util.filesystem import write_private

MODULES = ("data", "words", "state", "canvas", "icicle", "timeline", "table", "pane", "overview", "main")
"""ES modules, in the order in which they are evaluated."""
_UNSAFE = re.compile("[<>&\u2028\u2029\ud800-\udfff]")
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./\w+\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=const |let |function)", re.MULTILINE)
_SLOT = re.compile(r"\{\{(\w+)\}\}")


def make_report(records: Sequence[Record], *, other: Sequence[Record] | None = None) -> str:
    """Return the page of a run; with `other`, also compared to that run."""
    facts = run_data_from_records(records)
    data: dict[str, Any] = {"run": build_page_data(facts)}
    if other is not None:
        data |= _comparison(facts, run_data_from_records(other))
    style, script = _part("page.css"), bundle_script()
    parts = {
        "title": html.escape(_title(facts)),
        "policy": html.escape(_policy(style, script)),
        "style": style,
        "script": script,
        "data": data_block(data),
    }
    return _SLOT.sub(lambda slot: parts[slot[1]], _part("page.html"))


def write_report(records: Sequence[Record], path: Path, *, other: Sequence[Record] | None = None) -> None:
    """Write the page of a run into a file."""
    write_private(path, make_report(records, other=other).encode("utf-8"))


def data_block(data: Any) -> str:
    """Write JSON that is safe inside a script element, whatever texts it holds."""
    plain = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", plain)


def _comparison(facts: RunData, other: RunData) -> dict[str, Any]:
    before, after = (answer_of(run, run.tree.root) or "" for run in (facts, other))
    same = query_of(facts, facts.tree.root) == query_of(other, other.tree.root)
    return {"other": build_summary(other), "changes": diff_words(before, after), "same_question": same}


def _title(facts: RunData) -> str:
    question = " ".join(query_of(facts, facts.tree.root)[:200].split())[:80]
    run_id = facts.tree.opened[-1].run_id if facts.tree.opened else "no run"
    title = f"{question} · {run_id}" if question else run_id
    return title.encode("utf-8", "replace").decode()


def _policy(style: str, script: str) -> str:
    return "; ".join(
        [
            "default-src 'none'",
            f"style-src '{_hash(style)}'",
            f"script-src '{_hash(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
        ]
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def bundle_script() -> str:
    """Return the modules as one script: a page from a file can load no module of its own. They share one scope, so no two
    of them may have the same top-level name.
    """
    parts = "\n".join(_EXPORT.sub("", _IMPORT.sub("", _part(f"{name}.js"))) for name in MODULES)
    return f'(() => {{\n"use strict";\n{parts}\n}})();'


@cache
def _part(name: str) -> str:
    return files("rlm_ray.report").joinpath("static", name).read_text(encoding="utf-8")
