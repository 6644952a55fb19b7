"""The table of the benchmarks' README is what `results.json` says, and says what failed."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import table
from figures import Figure, median_figure, read_figures, write_figures
from render import BEGIN, BEGIN_SCALE, END, render, render_plot, render_scale, with_section

FOLDER = Path(__file__).parents[2] / "benchmarks"
MACHINE = {
    "cores": 2,
    "cpu": "a CPU",
    "memory_gb": 8,
    "Python": "3.11.7",
    "Ray": "2.60.0",
    "rlms": "0.1",
    "openai": "3",
}


def results_of(*figures, **part):
    told = {"at": "2026-11-29", "commit": "abc1234", "took_s": 90.0, "others_cores": 0.0, "quick": False}
    return {
        "machine": MACHINE,
        "parts": {"x": {**told, "failed": "", "figures": [asdict(f) for f in figures], **part}},
    }


def test_readme_and_plot_are_made_of_the_results():
    results = json.loads((FOLDER / "results.json").read_text())
    readme = (FOLDER / "README.md").read_text()
    assert with_section(readme, render(results)) == readme, "run `python benchmarks/table.py --render`"
    scale = json.loads((FOLDER / "scale.json").read_text())
    assert with_section(readme, render_scale(scale), BEGIN_SCALE) == readme
    assert (FOLDER / "results.svg").read_text() == render_plot(results)


def test_results_hold_ours_and_every_peer():
    results = json.loads((FOLDER / "results.json").read_text())
    methods = {f.by for part in results["parts"].values() for f in read_figures(part["figures"])}
    assert {"ours", "official", "threads", "ray_data"} <= methods


def test_a_line_of_times_has_its_critical_path_reach_and_peers():
    ours = median_figure("time", "map", "ours", [1.3, 1.2, 9.0], "s", critical_path=0.6, reach=1.0)
    official = Figure("time", "map", "official", 8.123, "s")
    pool = Figure("time", "map", "threads", 123.4, "s")
    assert "| map | 0.60 | 1.30 (2.2x) | 1.00 | 8.12 | 123 | - |" in render(results_of(ours, official, pool))


@pytest.mark.parametrize("by", ["ours", "official", "threads", "ray_data"])
def test_a_method_that_failed_is_shown_as_such(by):
    results = results_of(Figure("time", "map", by, None, "s", failed="65 of 256 right after 10.7 s"))
    assert "| 65 of 256 right after 10.7 s |" in render(results)
    assert "65 of 256" not in render_plot(results)


def test_a_part_that_failed_is_named():
    assert "- `x`: exit 1: no model" in render(results_of(failed="exit 1: no model"))


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"others_cores": 0.0}, "Nothing else was running."),
        ({"others_cores": 1.64}, "Other work kept up to 1.6 of the cores busy"),
        ({"quick": True}, "Quick: fewer rounds"),
        ({"commit": "abc1234+"}, "at commit abc1234+ in 2 minutes"),
    ],
)
def test_the_section_says_how_it_was_measured(part, said):
    assert said in render(results_of(**part))


def test_starts_have_their_ratio_and_reach():
    figures = [
        Figure("start", "ask", "wall s", 5.5, "s"),
        Figure("start", "ask", "times the bare one", 1.42, "", reach=1.5),
        Figure("start", "ask", "CPU s", 6.0, "s"),
    ]
    assert "| ask | 5.50 | 1.42 | 1.50 | 6.00 | - |" in render(results_of(*figures))


def test_scale_has_a_column_for_each_number_of_nodes():
    point = {
        "work": "rows",
        "scaling": "weak",
        "items": 100,
        "calls": 200,
        "ideal_s": 12.0,
        "messages": {"journal": 50},
    }
    scale = {"points": [{**point, "nodes": 1, "seconds": 16.0}, {**point, "nodes": 8, "seconds": 12.5}]}
    lines = render_scale(scale).splitlines()
    assert lines[0] == "|  | 1 node | 8 nodes |"
    assert lines[2] == "| rows growing with the nodes: per second (of ideal) | 6.2 (75%) | 8.0 (96%) |"
    assert lines[3] == "| the same rows for all: seconds (ideal) | - | - |"
    assert lines[4:] == [
        "| messages of a call at the admission: rows growing | 0.0 | 0.0 |",
        "| messages of a call at the journal: rows growing | 0.2 | 0.2 |",
    ]


def test_only_what_stands_between_the_marks_is_replaced():
    readme = f"# Title\n\n{BEGIN}\nold\n{END}\n\nprose\n"
    assert with_section(readme, "new") == f"# Title\n\n{BEGIN}\nnew\n{END}\n\nprose\n"
    for broken in ("", "# Title\n", f"{BEGIN}\nold\n", f"{END}\n"):
        with pytest.raises(ValueError, match="lacks its marks"):
            with_section(broken, "new")


def test_figures_survive_their_file(tmp_path):
    figures = [
        Figure("cpu", "turn", "ours", 5.0, "ms", (4.0, 5.0, 6.0)),
        Figure("time", "m", "ours", None, "s"),
    ]
    write_figures(tmp_path / "f.json", figures)
    assert read_figures(json.loads((tmp_path / "f.json").read_text())) == figures


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("", ""),
        ("import sys; sys.exit('no model')", "exit 1: no model"),
        ("import os; os._exit(3)", "exit 3: "),
    ],
)
def test_a_benchmark_that_fails_says_why_in_a_line(program, why):
    assert table.run([sys.executable, "-S", "-c", program]) == why


def test_figures_of_another_machine_leave_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "machine", lambda: MACHINE)
    monkeypatch.setattr(table, "measure", lambda *_, **__: results_of()["parts"]["x"])
    for saved, left in ((MACHINE, {"serve", "batch"}), ({**MACHINE, "cores": 64}, {"serve"})):
        before = {"machine": saved, "parts": {"batch": results_of()["parts"]["x"]}}
        (tmp_path / "results.json").write_text(json.dumps(before))
        monkeypatch.setattr(sys, "argv", ["table.py", "--only", "serve", "--out", str(tmp_path)])
        table.main()
        assert json.loads((tmp_path / "results.json").read_text())["parts"].keys() == left


def test_every_part_is_a_script_that_writes_figures():
    for part in table.PARTS.values():
        assert "write_figures" in re.sub(r"def write_figures", "", (FOLDER / part.script).read_text())
