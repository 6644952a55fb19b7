"""The results of `table.py` as Markdown, as a plot, and in their place in `README.md`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from figures import Figure, read_figures
from plot import bar_chart

BEGIN = "<!-- begin: made by `make bench` from results.json; edits are lost -->"
BEGIN_SCALE = "<!-- begin: made by `make bench` from scale.json; edits are lost -->"
END = "<!-- end -->"
METHODS = {
    "ours": "ours",
    "official": "official `rlms`",
    "threads": "64 threads",
    "ray_data": "Ray Data",
}
QUIET_CORES = 0.2
"""So much of a core may be busy with other work on a machine that is called quiet."""
_STARTS = ("wall s", "times the bare one", "CPU s", "CPU, times")


def render(results: Mapping[str, Any]) -> str:
    """Return the section: what was measured where and when, and a table for each kind of figure."""
    figures = figures_of(results)
    by_table = {name: [f for f in figures if f.table == name] for name in ("time", "cpu", "start", "other")}
    blocks = [
        _about(results),
        "Seconds, medians; `x` is how many times the critical path ours takes:",
        _time_table(by_table["time"]),
        "Milliseconds of CPU over all processes but the model's server, for one unit of work:",
        _cpu_table(by_table["cpu"]),
        "A first answer, with everything from the start of its process to its end:",
        _start_table(by_table["start"]),
        "And:",
        _table(
            ["", "measured", "reach"],
            [[f.work, f"{_number(f.value)} {f.unit}", _number(f.reach)] for f in by_table["other"]],
        ),
        *_failures(results),
    ]
    return "\n\n".join(block for block in blocks if block)


def figures_of(results: Mapping[str, Any]) -> list[Figure]:
    """Return the figures of all parts, in their order."""
    return [figure for part in results["parts"].values() for figure in read_figures(part["figures"])]


def render_plot(results: Mapping[str, Any]) -> str:
    """Return an SVG of the table of times; what failed has no bar."""
    figures = [f for f in figures_of(results) if f.table == "time" and f.value is not None]
    groups: dict[str, dict[str, float]] = {}
    for figure in figures:
        bars = groups.setdefault(figure.work, {})
        if figure.critical_path is not None:
            bars["critical path"] = figure.critical_path
        bars[METHODS[figure.by].replace("`", "")] = figure.value or 0.0
    return bar_chart(
        "The same work, model answers after 200 ms (rows: 50 ms)", groups, x_label="seconds", log=True
    )


def render_scale(scale: Mapping[str, Any]) -> str:
    """Return a table of what `scale.py` has measured: a line for each kind of work, a column for each number of nodes."""
    points = {(p["work"], p["scaling"], p["nodes"]): p for p in scale["points"]}
    works = list(dict.fromkeys(work for work, _, _ in points))
    counts = sorted({nodes for _, _, nodes in points})
    lines = {
        "{} growing with the nodes: per second (of ideal)": ("weak", _speed),
        "the same {} for all: seconds (ideal)": ("strong", _seconds),
        "messages of a call at the admission: {} growing": ("weak", lambda p: _messages(p, "admission")),
        "messages of a call at the journal: {} growing": ("weak", lambda p: _messages(p, "journal")),
    }
    rows = [
        [name.format(work), *(said(p) if (p := points.get((work, way, n))) else "-" for n in counts)]
        for name, (way, said) in lines.items()
        for work in works
    ]
    return _table(["", *(f"{count} nodes" if count > 1 else "1 node" for count in counts)], rows)


def _speed(point: Mapping[str, Any]) -> str:
    return f"{point['items'] / point['seconds']:.1f} ({point['ideal_s'] / point['seconds']:.0%})"


def _seconds(point: Mapping[str, Any]) -> str:
    return f"{point['seconds']:.1f} ({point['ideal_s']:.0f})"


def _messages(point: Mapping[str, Any], service: str) -> str:
    return f"{point['messages'].get(service, 0) / max(point['calls'], 1):.1f}"


def with_section(readme: str, section: str, begin: str = BEGIN) -> str:
    """Return the README with this section between its marks; raises ValueError where it lacks them."""
    before, found, rest = readme.partition(begin)
    _, end, after = rest.partition(END)
    if not found or not end:
        raise ValueError(f"the README lacks its marks, {begin} and {END}")
    return f"{before}{begin}\n{section}\n{END}{after}"


def _about(results: Mapping[str, Any]) -> str:
    machine, parts = results["machine"], results["parts"].values()
    dates, commits = ({part[name] for part in parts} for name in ("at", "commit"))
    busy = max((part["others_cores"] for part in parts), default=0.0)
    minutes = sum(part["took_s"] for part in parts) / 60
    what = f"{machine['cores']} cores ({machine['cpu']}), {machine['memory_gb']} GB"
    versions = ", ".join(f"{name} {machine[name]}" for name in ("Python", "Ray", "rlms", "openai"))
    others = f"Other work kept up to {busy:.1f} of the cores busy before a part of it began."
    lines = [
        f"Measured {_span(sorted(dates))} at commit {', '.join(sorted(commits))} in {minutes:.0f} minutes.",
        f"On {what}; {versions}.",
        others if busy >= QUIET_CORES else "Nothing else was running.",
    ]
    if any(part["quick"] for part in parts):
        lines.append("Quick: fewer rounds than usual.")
    return " ".join(lines)


def _span(dates: Sequence[str]) -> str:
    return " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else "never"


def _time_table(figures: Sequence[Figure]) -> str:
    rows = []
    for work, by in _grouped(figures).items():
        ours = by.get("ours")
        path, reach = (ours.critical_path, ours.reach) if ours else (None, None)
        times = f" ({ours.value / path:.1f}x)" if ours and ours.value is not None and path else ""
        cells = [_cell(by.get(name)) for name in METHODS]
        rows.append([work, _number(path), cells[0] + times, _number(reach), *cells[1:]])
    heads = list(METHODS.values())
    return _table(["work", "critical path", heads[0], "reach", *heads[1:]], rows)


def _cpu_table(figures: Sequence[Figure]) -> str:
    rows = []
    for work, by in _grouped(figures).items():
        cells = [_cell(by.get(name)) for name in METHODS]
        rows.append([work, cells[0], _number(by["ours"].reach if "ours" in by else None), *cells[1:]])
    heads = list(METHODS.values())
    return _table(["one", heads[0], "reach", *heads[1:]], rows)


def _start_table(figures: Sequence[Figure]) -> str:
    rows = []
    for work, by in _grouped(figures).items():
        cells = [_cell(by.get(name)) for name in _STARTS]
        reach = by["times the bare one"].reach if "times the bare one" in by else None
        rows.append([work, *cells[:2], _number(reach), *cells[2:]])
    return _table(["", "wall s", "times the bare one", "reach", "CPU s", "CPU, times the bare one"], rows)


def _failures(results: Mapping[str, Any]) -> list[str]:
    failed = [f"- `{name}`: {part['failed']}" for name, part in results["parts"].items() if part["failed"]]
    return ["What could not be measured:", "\n".join(failed)] if failed else []


def _grouped(figures: Iterable[Figure]) -> dict[str, dict[str, Figure]]:
    """By their work, and then by who did it."""
    found: dict[str, dict[str, Figure]] = {}
    for figure in figures:
        found.setdefault(figure.work, {})[figure.by] = figure
    return found


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    return figure.failed or _number(figure.value)


def _number(value: float | None) -> str:
    """Two digits behind the point below ten, one below a hundred."""
    if value is None:
        return "-"
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
