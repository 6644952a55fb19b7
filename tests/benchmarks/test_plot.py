"""The charts of the benchmarks: what a reader of the SVG finds in it."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from plot import bar_chart, line_chart

NAMESPACE = "{http://www.w3.org/2000/svg}"


def texts(svg):
    return [element.text for element in ET.fromstring(svg).iter(f"{NAMESPACE}text")]


def points(svg):
    return [
        [tuple(map(float, point.split(","))) for point in element.get("points").split()]
        for element in ET.fromstring(svg).iter(f"{NAMESPACE}polyline")
    ]


def test_lines_have_a_point_for_each_value_and_higher_values_stand_higher():
    svg = line_chart(
        "calls", {"a": [(1, 10), (2, 20), (8, 80)], "b": [(1, 5)]}, x_label="nodes", y_label="calls/s"
    )
    (first, second, third), (other,) = points(svg)
    assert first[0] < second[0] < third[0]
    assert other[1] > first[1] > second[1] > third[1]
    assert {"calls", "nodes", "calls/s", "a", "b", "80", "8"} <= set(texts(svg))


def test_logarithmic_steps_are_even():
    svg = line_chart("t", {"a": [(1, 1), (10, 10), (100, 100)]}, x_label="x", y_label="y", log=True)
    ((one, two, three),) = points(svg)
    assert two[0] - one[0] == pytest.approx(three[0] - two[0], abs=0.2)


def test_bars_are_as_long_as_their_values():
    svg = bar_chart("t", {"500 leaves": {"ours": 1.5, "peer": 3.0}, "cold": {"ours": 6.0}}, x_label="s")
    bars = [bar for bar in ET.fromstring(svg).iter(f"{NAMESPACE}rect") if bar.get("height") == "13"]
    widths = [float(bar.get("width")) for bar in bars]
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.3)
    assert widths[2] == pytest.approx(4 * widths[0], abs=0.3)
    assert bars[0].get("fill") == bars[2].get("fill") != bars[1].get("fill")


@pytest.mark.parametrize("values", [[], [(0, 0)], [(1, 1)], [(1e-6, 3e9)], [(5, 0), (7, 0)]])
@pytest.mark.parametrize("log", [False, True])
def test_any_values_make_a_chart(values, log):
    ET.fromstring(line_chart("<t> & u", {"<a>": values}, x_label="x", y_label="y", log=log))
    ET.fromstring(bar_chart("<t> & u", {"<g>": {str(x): y for x, y in values}}, x_label="x", log=log))
