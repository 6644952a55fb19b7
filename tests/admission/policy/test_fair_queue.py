"""Who is next."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.admission.policy.fair_queue import FlowKey, Queue, QueueEntry

LANE = FlowKey("run")


def filled(*places):
    queue = Queue()
    for place in places:
        queue.add(place)
    return queue


def drain(queue, count=None):
    order = []
    while (place := queue.first()) is not None and (count is None or len(order) < count):
        order.append(queue.grant(place.ticket).ticket)
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


def test_lanes_share_by_weight():
    queue = Queue()
    for turn in range(300):
        queue.add(QueueEntry(0, 0, turn, f"heavy{turn}", FlowKey("heavy", weight=3)))
        queue.add(QueueEntry(0, 0, turn, f"light{turn}", FlowKey("light", weight=1)))
    shares = Counter(ticket[:5] for ticket in drain(queue, 100))
    assert 73 <= shares["heavy"] <= 77


def test_batch_gets_its_tenth_beside_interactive():
    queue = Queue()
    for turn in range(300):
        queue.add(QueueEntry(0, 0, turn, f"i{turn}", FlowKey("person")))
        queue.add(QueueEntry(0, 0, turn, f"b{turn}", FlowKey("job", interactive=False)))
    shares = Counter(ticket[0] for ticket in drain(queue, 100))
    assert 9 <= shares["b"] <= 11


def test_asking_one_at_a_time_earns_no_more_than_queueing_at_once():
    queue = filled(*(QueueEntry(0, 0, turn, f"crowd{turn}", FlowKey("crowd")) for turn in range(100)))
    served = Counter()
    for turn in range(50):
        if not any(f"single{number}" in queue for number in range(turn)):
            queue.add(QueueEntry(0, 0, 0, f"single{turn}", FlowKey("single")))
        place = queue.first()
        served[place.lane.name] += 1
        queue.grant(place.ticket)
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
            QueueEntry(root, -depth, turn, f"t{turn}", FlowKey(f"lane{lane}", interactive=interactive))
            for turn, (root, depth, lane, interactive) in enumerate(asks)
        )
    )
    assert sorted(drain(queue)) == sorted(f"t{turn}" for turn in range(len(asks)))
    assert queue.first() is None
