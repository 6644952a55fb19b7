"""The model of many nodes: its formula against the code itself in virtual time, and what it says of a made-up cluster."""

from __future__ import annotations

import math

import pytest
from scale_model import (
    Cost,
    Plan,
    WorkCost,
    admission_messages,
    calibrate,
    compare,
    events_of,
    many_nodes,
    messages_per_call,
    predict,
    saturation,
    service_load,
    simulate,
)

COSTS = {"admission": Cost(50e-6, 50e-6), "journal": Cost(30e-6, 2e-6)}


@pytest.mark.parametrize("events", [0.5, 1.0, 2.0])
def test_a_call_that_comes_alone_has_a_message_for_each_event(events):
    assert messages_per_call(0.01, events, 0.003) == pytest.approx(events, rel=1e-3)


def test_busy_clients_send_one_message_each_interval():
    assert messages_per_call(10_000.0, 2.0, 0.01) == pytest.approx(100 / 10_000, rel=1e-3)


@pytest.mark.parametrize("rate", [1.0, 30.0, 400.0])
@pytest.mark.parametrize("events", [0.3, 1.0, 2.2])
def test_events_are_found_again_from_messages(rate, events):
    messages = messages_per_call(rate, events, 0.003)
    assert events_of(messages, rate, 0.003) == pytest.approx(events, rel=0.02)


@pytest.mark.parametrize(
    ("places", "events", "cap"), [(None, 1.0, math.inf), (180, 2.0, math.inf), (None, 1.0, 20.0)]
)
def test_the_formula_says_what_the_admission_and_its_clients_do(places, events, cap):
    """Without and with callers that wait for a place, and with clients that are asked to collect."""
    plan = Plan(clients=10, concurrent_calls=200, latency_s=2.0, max_messages_per_s=cap)
    found = simulate(plan, places=places, warm_up_s=5.0, seconds=6.0)
    messages, _ = admission_messages(plan, events)
    assert found.messages_per_call == pytest.approx(messages, rel=0.2)
    assert found.calls_per_s == pytest.approx(plan.calls_per_s, rel=0.25)


def test_clients_are_asked_to_collect_only_above_the_limit():
    few, many = Plan(100, 1_000, 10.0), Plan(1_600, 100_000, 10.0)
    assert admission_messages(few, 2.0)[1] == 0.0
    messages, interval_s = admission_messages(many, 2.0)
    assert interval_s == 0.5
    assert messages * many.calls_per_s < 1_600 / interval_s * 1.01


def test_a_process_is_full_where_its_load_is_one():
    cost = COSTS["admission"]
    assert service_load(1_000.0, 2.0, 1.0, cost) == pytest.approx(0.15)
    full = saturation(service_load(1.0, 2.0, 1.0, cost))
    assert service_load(full, 2.0, 1.0, cost) == pytest.approx(1.0)
    assert service_load(full, 2.0, 1.0, cost, wake_s=0.001) == pytest.approx(1.0)
    assert saturation(0.0) == math.inf


def test_a_process_that_sleeps_wakes_up_for_each_message():
    cost = COSTS["admission"]
    assert service_load(1.0, 2.0, 1.0, cost, wake_s=100e-6) == pytest.approx(350e-6, rel=1e-2)
    assert service_load(1_000.0, 2.0, 1.0, cost, wake_s=100e-6) < 0.35


def point(nodes, seconds, *, work="rows", scaling="weak"):
    """Measured as the model thinks: rows of a call with one event each at the admission and two at the journal."""
    items = 100 * nodes
    rate = items / seconds / nodes
    return {
        "work": work, "scaling": scaling, "nodes": nodes, "items": items, "calls": items, "seconds": seconds,
        "ideal_s": 10.0, "lines": 2 * items,
        "messages": {
            "admission": messages_per_call(rate, 1.0, 0.003) * items,
            "journal": messages_per_call(rate, 2.0, 0.004) * items,
        },
        "cpu_s": {"driver": 0.0003 * items, "actors": 0.001 * items, "admission": 0.0002 * items, "server": 9.0},
    }  # fmt: skip


def test_few_nodes_predict_many_where_all_is_as_the_model_thinks():
    points = [point(nodes, 11.0) for nodes in (1, 2, 4, 8)]
    work = calibrate(points, COSTS)["rows"]
    assert work.cpu_s["driver"] == pytest.approx(0.0003)
    assert "server" not in work.cpu_s
    assert work.overhead_s == pytest.approx(1.0)
    found = predict(work, 8, 800 / 11.0, 10.0, COSTS)
    assert found.seconds == pytest.approx(11.0)
    assert found.messages["admission"] == pytest.approx(points[-1]["messages"]["admission"] / 800, rel=0.02)
    assert work.wakes == {"admission": pytest.approx(100e-6, rel=0.1), "journal": 0.0}
    assert found.cpu_s["admission"] == pytest.approx(200e-6, rel=0.05)
    table = compare(points, COSTS, 8)
    assert "| rows | seconds | 11 | 11 | +0% |" in table


def test_the_table_of_a_hundred_nodes_names_each_process_and_where_it_is_full():
    work = WorkCost({"driver": 0.0003, "actors": 0.001}, 1.0, 2.0, {"admission": 1.0, "journal": 2.0}, 1.0)
    table = many_nodes(work, COSTS, {"a": Plan(1_600, 100_000, 10.0), "b": Plan(200, 1_000, 10.0)})
    assert table.startswith("| full at, calls/s (messages a call) | a | b |")
    assert "| the driver of a run | 3,333 | 3,333 |" in table
    assert "| all session actors | 1,600,000 | 200,000 |" in table
