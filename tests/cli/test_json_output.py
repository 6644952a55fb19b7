"""What commands print with --json is what docs/cli-json.schema.json says, field by field."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from rlm_ray.core.repl_types import Citation
from rlm_ray.events.records import to_line
from rlm_ray.events.usage import CallStats, RunUsage
from rlm_ray.journal.storage.local import JOURNAL
from rlm_ray.runs.run import Result
from rlm_ray.testing.sample_run import example_run

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "cli-json.schema.json").read_text())
USAGE = RunUsage({("m", 0): CallStats(calls=1)}, 1)


def test_the_schema_is_one_and_lets_no_field_go_undocumented():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for name, definition in SCHEMA["$defs"].items():
        if "properties" in definition:
            assert definition["additionalProperties"] is False, name
            assert definition["required"] == list(definition["properties"]), name


@pytest.mark.parametrize(
    "result",
    [
        Result("yes", "answered", "", "run-1", 2, 0.5, USAGE),
        Result(None, "time_s", "it had to end", "run-1", 0, 1.0),
        Result(
            '{"a": 1}',
            "answered",
            "",
            "r",
            1,
            1.0,
            USAGE,
            "t",
            "/runs",
            (Citation("q", "d", 1, 0, 1),),
            {"a": [1, None]},
        ),
    ],
    ids=["answered", "stopped", "typed and cited"],
)
def test_ask_prints_documented_json(invoke, fake_run, as_documented, result):
    fake_run.outcome = result
    assert (
        as_documented("ask", invoke("ask", "what?", "--json", stdin=b"text").stdout)["answer"]
        == result.answer
    )


@pytest.mark.parametrize("model", ["openai/gpt-4o", "my/own"])
def test_ask_dry_run(invoke, as_documented, model):
    done = invoke("ask", "what?", "--dry-run", "--json", "--model", model, stdin=b"text")
    assert as_documented("ask-dry-run", done.stdout)["chars"] == 4


def test_batch_dry_run(invoke, tmp_path, as_documented):
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n{"text": 3}\n')
    found = as_documented("batch-dry-run", invoke("batch", "Q", "rows.jsonl", "--dry-run", "--json").stdout)
    assert (found["rows"], found["bad_rows"]) == (2, 1)


@pytest.mark.parametrize("option", ["--dry-run", "--plan"])
def test_map_reduce_dry_run(invoke, as_documented, option):
    done = invoke("map-reduce", "Q", "-", option, "--json", "--model", "my/own", stdin=b"text")
    assert as_documented("map-reduce-dry-run", done.stdout)["pieces"] == 1


def test_runs_prints_documented_json(invoke, tmp_path, as_documented):
    for name in ("20260101-101010-aaaa", "20260102-101010-aaaa", "20260103-101010-aaaa"):
        (tmp_path / name).mkdir()
        lines = [to_line(record) for record in example_run(3, run_id=name)]
        (tmp_path / name / JOURNAL).write_bytes(b"".join(lines if "03-" not in name else lines[:1]))
    found = as_documented(
        "runs", invoke("runs", "--json", "--limit", "2", "--set", f"run_dir={tmp_path}").stdout
    )
    assert [run["state"] for run in found] == ["unfinished", "answered"]


def test_config_prints_documented_json(invoke, as_documented):
    assert as_documented("config", invoke("config", "--json", "--price", "a/b=1,2").stdout)


def test_models_prints_documented_json(invoke, as_documented):
    assert as_documented("models", invoke("models", "--json").stdout)
