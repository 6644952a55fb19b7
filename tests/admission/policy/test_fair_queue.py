"""Who is next."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.admission.policy.fair_queue import FairScheduler, FlowKey, Queue, QueueEntry

LANE = FlowKey("run")


def filled(*places):
    queue = Queue()
    for place in places:
        queue.add(place)
    return queue


def drain(queue, count=None):
    order = []
    while (place := queue.first()) is not None and (count is None or len(order) < count):
        order.append(queue.grant(place.request_id).request_id)
    return order


def test_oldest_root_first_then_deepest_then_first_come():
    queue = filled(
        QueueEntry(2, -3, 1, "young-deep", LANE),
        QueueEntry(1, 0, 2, "old-shallow", LANE),
        QueueEntry(1, -1, 3, "old-deep-late", LANE),
        QueueEntry(1, -1, 0, "old-deep", LANE),
    )
    assert drain(queue) == ["old-deep", "old-deep-late", "old-shallow", "young-deep"]


def test_removed_ones_are_skipped():
    queue = filled(*(QueueEntry(0, 0, turn, f"t{turn}", LANE) for turn in range(4)))
    queue.remove("t0")
    queue.remove("t2")
    queue.remove("unknown")
    assert drain(queue) == ["t1", "t3"]
    assert len(queue) == 0


def test_flows_share_by_weight():
    queue = Queue()
    for turn in range(300):
        queue.add(QueueEntry(0, 0, turn, f"heavy{turn}", FlowKey("heavy", weight=3)))
        queue.add(QueueEntry(0, 0, turn, f"light{turn}", FlowKey("light", weight=1)))
    shares = Counter(request_id[:5] for request_id in drain(queue, 100))
    assert shares["heavy"] == 75


def test_batch_gets_its_tenth_beside_interactive():
    queue = Queue()
    for turn in range(300):
        queue.add(QueueEntry(0, 0, turn, f"i{turn}", FlowKey("person")))
        queue.add(QueueEntry(0, 0, turn, f"b{turn}", FlowKey("job", interactive=False)))
    shares = Counter(request_id[0] for request_id in drain(queue, 100))
    assert shares["b"] == 10


def test_asking_one_at_a_time_earns_no_more_than_queueing_at_once():
    queue = filled(*(QueueEntry(0, 0, turn, f"crowd{turn}", FlowKey("crowd")) for turn in range(100)))
    served = Counter()
    for turn in range(50):
        if not any(f"single{number}" in queue for number in range(turn)):
            queue.add(QueueEntry(0, 0, 0, f"single{turn}", FlowKey("single")))
        place = queue.first()
        served[place.flow.name] += 1
        queue.grant(place.request_id)
    assert abs(served["crowd"] - served["single"]) <= 2


def test_what_was_held_is_not_overtaken():
    queue = filled(QueueEntry(1, 0, 0, "large", LANE))
    queue.pin("large")
    queue.add(QueueEntry(0, -5, 1, "first in order", LANE))
    assert drain(queue) == ["large", "first in order"]


def test_a_held_one_that_goes_away_holds_nothing():
    queue = filled(QueueEntry(1, 0, 0, "large", LANE), QueueEntry(2, 0, 1, "other", LANE))
    queue.pin("large")
    queue.remove("large")
    assert drain(queue) == ["other"]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 4), st.booleans()), max_size=60)
)
def test_everyone_is_served_exactly_once(asks):
    queue = filled(
        *(
            QueueEntry(root, -depth, turn, f"t{turn}", FlowKey(f"flow{flow}", interactive=interactive))
            for turn, (root, depth, flow, interactive) in enumerate(asks)
        )
    )
    assert sorted(drain(queue)) == sorted(f"t{turn}" for turn in range(len(asks)))
    assert queue.first() is None


def test_weight_that_changes_counts_from_then_on():
    queue = Queue()
    for turn in range(100):
        queue.add(QueueEntry(0, 0, turn, f"a{turn}", FlowKey("a", weight=1)))
        queue.add(QueueEntry(0, 0, turn, f"b{turn}", FlowKey("b", weight=1)))
    assert Counter(ticket[0] for ticket in drain(queue, 20)) == {"a": 10, "b": 10}
    queue.add(QueueEntry(0, 0, 100, "a100", FlowKey("a", weight=4)))
    shares = Counter(ticket[0] for ticket in drain(queue, 50))
    assert 38 <= shares["a"] <= 41


def test_work_is_charged_by_its_size():
    queue = Queue()
    for turn in range(100):
        queue.add(QueueEntry(0, 0, turn, f"l{turn}", FlowKey("large"), 4.0))
        queue.add(QueueEntry(0, 0, turn, f"s{turn}", FlowKey("small"), 1.0))
    assert Counter(ticket[0] for ticket in drain(queue, 50)) == {"s": 40, "l": 10}


def test_flow_that_was_idle_starts_level_and_one_that_went_on_keeps_its_debt():
    scheduler = FairScheduler()
    scheduler.activate("busy", 1.0)
    for _ in range(10):
        scheduler.charge("busy", 1.0)
    scheduler.activate("new", 1.0)
    assert scheduler.peek() == "new"
    scheduler.charge("new", 1.0)
    scheduler.deactivate("new")
    assert scheduler.peek() == "busy"
    scheduler.activate("new", 1.0)
    scheduler.charge("busy", 1.0)
    assert scheduler.peek() == "new"
    scheduler.deactivate("new")
    scheduler.deactivate("busy")
    assert scheduler.peek() is None


def test_flows_that_are_gone_are_forgotten_once_there_are_many():
    scheduler = FairScheduler()
    for turn in range(1000):
        scheduler.activate(f"flow{turn}", 1.0)
        scheduler.charge(f"flow{turn}", 1.0)
        scheduler.deactivate(f"flow{turn}")
        assert scheduler.peek() is None
    assert len(scheduler._flows) == 0
    scheduler.activate("busy", 1.0)
    for turn in range(1000):
        scheduler.activate(f"flow{turn}", 1.0)
        scheduler.charge(f"flow{turn}", 1.0)
        scheduler.deactivate(f"flow{turn}")
        scheduler.charge("busy", 1.0)
        assert scheduler.peek() == "busy"
    assert len(scheduler._flows) <= 110


def test_queue_knows_what_waits_in_it():
    queue = filled(
        QueueEntry(0, 0, 0, "a", LANE), QueueEntry(0, 0, 1, "b", FlowKey("run", interactive=False))
    )
    assert len(queue) == 2
    assert "a" in queue
    assert queue.remove("a") == QueueEntry(0, 0, 0, "a", LANE)
    assert "a" not in queue
    assert queue.remove("a") is None
    assert queue.first().request_id == "b"
    assert queue.grant("b").request_id == "b"
    assert queue.first() is None
    assert len(queue) == 0


def test_class_and_flow_of_a_request_by_default():
    assert (FlowKey("x").priority_class, FlowKey("x", interactive=False).priority_class) == (
        "interactive",
        "batch",
    )
    assert (FlowKey("x").weight, QueueEntry(0, 0, 0, "t", LANE).work) == (1.0, 1.0)
    assert QueueEntry(0, 0, 1, "a", LANE) == QueueEntry(0, 0, 1, "b", FlowKey("other"), 5.0)


def test_flow_that_waits_is_not_forgotten_among_many_that_are_gone():
    scheduler = FairScheduler()
    scheduler.activate("waiting", 1.0)
    for turn in range(200):
        scheduler.activate(f"flow{turn}", 1.0)
        scheduler.charge(f"flow{turn}", 1.0)
        scheduler.deactivate(f"flow{turn}")
    assert scheduler.peek() == "waiting"
    scheduler.charge("waiting", 1.0)
    assert scheduler.peek() == "waiting"
