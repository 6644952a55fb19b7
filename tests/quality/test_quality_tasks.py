"""Tasks are the same on every machine, and what is held to be true is in their text."""

from __future__ import annotations

import csv
import re
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from quality.kinds import KINDS
from quality.scoring import NOT_FOUND, score
from quality.task import SIZES, select_tasks

SMALL = [(kind, kind.sizes[0]) for kind in KINDS.values()]


def ids(value):
    return getattr(value, "name", value)


def test_there_are_kinds_for_every_sort_of_question():
    assert len(KINDS) >= 24
    for word in (
        "needle",
        "count",
        "maximum",
        "date",
        "multi-hop",
        "join",
        "meaning",
        "pairs",
        "not in the text",
        "sum",
    ):
        assert any(word in kind.asks for kind in KINDS.values()), word


@pytest.mark.parametrize(("kind", "size"), SMALL, ids=ids)
def test_task_is_the_same_each_time_and_another_one_with_another_seed(kind, size):
    assert kind.task(size) == kind.task(size)
    assert kind.task(size).digest != kind.task(size, 1).digest


@pytest.mark.parametrize(("kind", "size"), SMALL, ids=ids)
def test_truth_given_as_an_answer_is_right(kind, size):
    truth = kind.task(size).truth
    match truth.form:
        case "absent":
            answer = NOT_FOUND
        case "list":
            answer = ", ".join(truth.value)
        case "pairs":
            answer = ", ".join(f"({one}, {other})" for one, other in truth.value)
        case _:
            answer = str(truth.value)
    assert score(answer, truth).right
    assert not score("I cannot say.", truth).right


@pytest.mark.parametrize("kind", KINDS.values(), ids=ids)
def test_context_has_about_the_size_that_was_asked_for(kind):
    for size in kind.sizes:
        if SIZES[size] <= 80_000:
            assert 0.7 * SIZES[size] < len(kind.task(size).context) < 1.45 * SIZES[size]


def test_question_says_how_to_answer():
    for kind, size in SMALL:
        assert re.search(r"Answer with .*(only|with|equally common)", kind.task(size).question), kind.name


def test_tasks_do_not_change_unnoticed():
    """Whoever changes a generator changes this, and with it what earlier results mean."""
    digests = {
        name: KINDS[name].task("20k").digest
        for name in ("log_count", "csv_join", "md_chain", "needle_chain", "topic_count")
    }
    assert digests == DIGESTS


DIGESTS = {
    "log_count": "c0f9f38495be",
    "csv_join": "2631733a4826",
    "md_chain": "f0e8a92ef975",
    "needle_chain": "bb972e15c6b4",
    "topic_count": "61d0f231183f",
}


def test_smaller_tasks_come_first_and_each_once():
    names = [task.name for task in select_tasks("csv_*@8k,log_count@2k csv_sum@8k log_count", KINDS)]
    assert names[0] == "log_count@2k"
    assert names[-1] == "log_count@20k"
    assert len(names) == len(set(names))


def test_task_of_another_seed_has_another_name():
    assert [task.name for task in select_tasks("log_count@2k", KINDS, seed=3)] == ["log_count@2k#3"]


@pytest.mark.parametrize("pattern", ["log_cuont", "log_count@3k", "pep_days@4m", "@2k"])
def test_pattern_that_names_nothing_is_refused(pattern):
    with pytest.raises(ValueError, match="no task is called"):
        select_tasks(pattern, KINDS)


def rows(task):
    return list(csv.DictReader(task.context.splitlines()))


def test_sum_over_orders_is_what_a_reader_of_csv_finds():
    task = KINDS["csv_count"].task("20k")
    product, least = re.search(r'product "(.*?)" have a quantity of at least (\d)', task.question).groups()
    assert task.truth.value == sum(
        row["product"] == product and int(row["quantity"]) >= int(least) for row in rows(task)
    )


def test_late_orders_are_what_a_reader_of_dates_finds():
    task = KINDS["csv_late"].task("20k")
    days = int(re.search(r"more than (\d)", task.question)[1])
    late = [
        (datetime.fromisoformat(row["shipped"]) - datetime.fromisoformat(row["ordered"])).days > days
        for row in rows(task)
    ]
    assert task.truth.value == sum(late)


def test_count_of_log_lines_is_what_a_search_finds():
    task = KINDS["log_count"].task("80k")
    service = re.search(r"service (\w+)", task.question)[1]
    assert task.truth.value == len(re.findall(rf"^\S+ ERROR +{service}\[", task.context, re.MULTILINE))


def test_longest_gap_is_what_differences_of_times_find():
    task = KINDS["log_gap"].task("20k")
    times = [datetime.fromisoformat(at) for at in re.findall(r"^(\S+) ERROR", task.context, re.MULTILINE)]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert task.truth.value == max(gaps).total_seconds()


def test_chain_of_needles_leads_to_the_truth():
    task = KINDS["needle_chain"].task("20k")
    who = re.search(r"iron key is in the keeping of (\w+)", task.context)[1]
    city = re.search(rf"{who} has moved to (\w+)", task.context)[1]
    assert task.truth.value == re.search(rf"access code for {city} is ([A-Z]+-\d+)", task.context)[1]


@pytest.mark.parametrize("size", ["2k", "80k"])
@pytest.mark.parametrize("seed", range(20))
def test_last_needle_of_several_is_the_truth(size, seed):
    task = KINDS["needle_last"].task(size, seed)
    assert task.truth.value == int(re.findall(r"toll at the bridge is (\d+)", task.context)[-1])


def test_passage_stands_in_the_chapter_that_is_true():
    task = KINDS["book_chapter"].task("80k")
    passage = re.search(r'passage stand: "(.*?) \.\.\."', task.question)[1]
    at = re.search(r"\s+".join(map(re.escape, passage.split())), task.context).start()
    assert task.truth.value == int(re.findall(r"^Chapter (\d+)$", task.context[:at], re.MULTILINE)[-1])


def test_days_between_documents_are_what_their_headers_say():
    task = KINDS["pep_days"].task("20k")
    one, other = re.search(r"PEP (\d+) and that of PEP (\d+)", task.question).groups()
    created = dict(re.findall(r"^PEP: (\d+)\n(?:.*\n)*?Created: (\S+)", task.context, re.MULTILINE))
    days = [datetime.strptime(created[number], "%d-%b-%Y").replace(tzinfo=UTC) for number in (one, other)]
    assert task.truth.value == abs((days[0] - days[1]).days)


def test_topics_are_named_in_no_message():
    task = KINDS["topic_count"].task("20k")
    assert not re.search(r"sign-in|\bdelivery\b|\bpayment\b|\bdefect\b|cancellation|\bpraise\b", task.context)
