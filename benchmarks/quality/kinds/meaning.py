"""Tasks that need judgement for each line, as OOLONG has them: messages to a shop's desk, whose topic is nowhere named."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import combinations
from random import Random
from types import MappingProxyType
from typing import TypeAlias

from quality.scoring import Truth, list_line
from quality.task import Kind, require, single_maximum

TOPICS = MappingProxyType(
    {
        "sign-in": (
            "I typed my password three times and now the page says I have to wait an hour.",
            "The six digits you text me never arrive, so I can't get into my account.",
            "It keeps telling me that this e-mail address is not registered, but I've used it for years.",
            "After the update the app forgot who I am and won't let me back in.",
            "Every time I open the site it throws me out and asks who I am again.",
            "The link for a new password says that it has expired a minute after I got it.",
            "My fingerprint used to open the app, since Monday it does nothing.",
            "I changed my phone and now I'm locked out of my own profile.",
        ),
        "delivery": (
            "The tracking page has not changed since last Thursday.",
            "The courier left my {item} with a neighbour I have never met.",
            "It was promised for Friday and it is Tuesday now; where is my {item}?",
            "The van drove past my house twice and nobody rang.",
            "Half of what I bought came today, the box with the {item} is still on its way somewhere.",
            "You sent the parcel to the flat I moved out of two years ago.",
            "Can you tell me on which day the {item} will reach me in {place}?",
            "The depot in {place} says they have no parcel with my name.",
        ),
        "payment": (
            "My card was charged twice for the same {item}.",
            "The receipt says 49, my bank says 59. Which one is it?",
            "Your checkout refuses my credit card although there is plenty on it.",
            "I need an invoice with the VAT number of my company on it.",
            "The voucher of ten euros was not taken off the total.",
            "I have been billed for a {item} that I never bought.",
            "May I settle the amount in three instalments instead of all at once?",
            "The money you owe me back for the {item} has not shown up in my bank account.",
        ),
        "defect": (
            "The {item} stopped working after two days, it just stays dark.",
            "There is a crack along the side of the {item}, I saw it as soon as I opened the box.",
            "When I switch the {item} on it smells of burning plastic.",
            "The zip came off the first time I used it.",
            "One leg of the {item} is shorter than the others, so it wobbles.",
            "The {item} makes a grinding noise and then turns itself off.",
            "Water gets in although it is sold as waterproof.",
            "The screen of my {item} flickers and shows green stripes.",
        ),
        "cancellation": (
            "Please stop my subscription at the end of this month.",
            "I have changed my mind about the {item}; don't send it.",
            "I no longer want the newsletter box, take me off the plan.",
            "Can I still withdraw from yesterday's order? I found one at home.",
            "We are moving abroad, so end our membership, please.",
            "I clicked 'buy' by accident, please undo it before it is packed.",
            "Close my account and my plan with it, I won't use it any more.",
            "The trial is over and I don't wish to go on; make sure that it does not renew.",
        ),
        "praise": (
            "Just wanted to say that the {item} is the best I've ever owned.",
            "Whoever packed my box in {place}: the little note made my day.",
            "Your colleague on the phone was so patient with my mother, thank you.",
            "Ten years with the same {item} and it still looks new. Well done!",
            "I told all my friends in {place} about you, keep it up.",
            "What a lovely surprise, the {item} is even nicer than in the pictures.",
            "Five stars from me, I'd buy here again any time.",
            "The new shop in {place} is a joy, friendly people and good coffee.",
        ),
    }
)
_ITEMS = ("lamp", "kettle", "desk", "radio", "tent", "camera", "heater", "shelf")
_PLACES = ("Porto", "Leeds", "Graz", "Turku", "Ghent", "Olomouc")
_TOPIC_LINE = (
    "Each message has exactly one topic, which is not written in it and has to be judged by its meaning: "
    "sign-in (getting into the account), delivery (where a parcel is), payment (money, invoices), "
    "defect (the article itself is faulty), cancellation (ending or undoing something), praise. "
)
_Built: TypeAlias = tuple[str, str, Truth]
_SIZES = ("2k", "8k", "20k", "80k", "400k")


@dataclass(frozen=True, slots=True)
class Message:
    """One line."""

    number: int
    day: date
    user: str
    topic: str
    words: str

    def __str__(self) -> str:
        return f"[{self.number}] {self.day.isoformat()} {self.user}: {self.words}"


def draw_messages(rng: Random, chars: int) -> list[Message]:
    """Return so many messages that their lines have about so many characters."""
    number = max(8, chars // 98)
    weights = [rng.randint(1, 5) for _ in TOPICS]
    users = [f"user{serial:02d}" for serial in range(1, min(60, 3 + number // 6))]
    day = date(2026, 1, 5)
    messages = []
    for serial in range(1, number + 1):
        day += timedelta(days=rng.random() < 0.3)
        topic = rng.choices(tuple(TOPICS), weights)[0]
        words = rng.choice(TOPICS[topic]).format(item=rng.choice(_ITEMS), place=rng.choice(_PLACES))
        messages.append(Message(serial, day, rng.choice(users), topic, words))
    return messages


def _text(messages: list[Message]) -> str:
    return "\n".join(map(str, messages)) + "\n"


def _count(rng: Random, chars: int) -> _Built:
    messages, topic = draw_messages(rng, chars), rng.choice(tuple(TOPICS))
    number = sum(message.topic == topic for message in messages)
    require(single_truth=number > 1)
    asked = f"{_TOPIC_LINE}How many messages have the topic {topic}? Answer with the number only."
    return asked, _text(messages), Truth("number", number)


def _most(rng: Random, chars: int) -> _Built:
    messages = draw_messages(rng, chars)
    most = single_maximum(Counter(message.topic for message in messages))
    asked = f"{_TOPIC_LINE}Which topic is the most frequent one? Answer with the topic only."
    return asked, _text(messages), Truth("text", most, tuple(TOPICS))


def _of_user(rng: Random, chars: int) -> _Built:
    messages = draw_messages(rng, chars)
    asking, topic = rng.choice(messages).user, rng.choice(tuple(TOPICS))
    number = sum(message.topic == topic and message.user == asking for message in messages)
    require(single_truth=number > 0)
    asked = f"{_TOPIC_LINE}How many messages of {asking} have the topic {topic}? Answer with the number only."
    return asked, _text(messages), Truth("number", number)


def _compare(rng: Random, chars: int) -> _Built:
    messages = draw_messages(rng, chars)
    one, other = rng.sample(tuple(TOPICS), 2)
    counts = Counter(message.topic for message in messages)
    difference = counts[one] - counts[other]
    relation = "more common" if difference > 0 else "less common" if difference < 0 else "equally common"
    asked = (
        f"{_TOPIC_LINE}Is the topic {one} more common, less common or equally common compared with the topic {other}? "
        "Answer with one of: more common, less common, equally common."
    )
    return asked, _text(messages), Truth("text", relation, ("more common", "less common", "equally common"))


def _users(rng: Random, chars: int) -> _Built:
    messages, topic = draw_messages(rng, chars), rng.choice(tuple(TOPICS))
    users = sorted({message.user for message in messages if message.topic == topic})
    require(single_truth=1 < len(users) < len({message.user for message in messages}))
    asked = f"{_TOPIC_LINE}Which users wrote a message with the topic {topic}? " + list_line(
        "the users", ("user01", "user02")
    )
    return asked, _text(messages), Truth("list", users)


def _pairs(rng: Random, chars: int) -> _Built:
    """All pairs of users of whom each did the same: as many answers as the square of the users."""
    messages = draw_messages(rng, chars)
    one, other = rng.sample(tuple(TOPICS), 2)
    topics: dict[str, set[str]] = {}
    for message in messages:
        topics.setdefault(message.user, set()).add(message.topic)
    users = sorted(user for user, of_user in topics.items() if {one, other} <= of_user)
    require(single_truth=2 <= len(users) <= 20)
    asked = (
        f"{_TOPIC_LINE}List all pairs of different users such that each of the two wrote at least one message with the topic {one} "
        f"and at least one with the topic {other}. Answer with the pairs only, for example: (user01, user02), (user01, user03)."
    )
    return asked, _text(messages), Truth("pairs", [list(pair) for pair in combinations(users, 2)])


def _first(rng: Random, chars: int) -> _Built:
    messages, topic = draw_messages(rng, chars), rng.choice(tuple(TOPICS))
    days = [message.day for message in messages if message.topic == topic]
    require(single_truth=bool(days) and days[0] != messages[0].day)
    asked = f"{_TOPIC_LINE}On which day came the first message with the topic {topic}? Answer with the date as YYYY-MM-DD only."
    return asked, _text(messages), Truth("date", days[0].isoformat())


KINDS = (
    Kind("topic_count", "count by meaning", _count, _SIZES),
    Kind("topic_most", "most frequent by meaning", _most, _SIZES),
    Kind("topic_user", "filter by field, count by meaning", _of_user, _SIZES),
    Kind("topic_compare", "compare two counts by meaning", _compare, _SIZES),
    Kind("topic_users", "list by meaning", _users, ("2k", "8k", "20k")),
    Kind("topic_pairs", "pairs by meaning (OOLONG-Pairs)", _pairs, ("2k", "8k", "20k")),
    Kind("topic_first", "the first by meaning", _first, _SIZES),
)
