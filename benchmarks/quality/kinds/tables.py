"""Tasks over CSV: the orders of a shop, alone or with a table of its customers, as spreadsheets export them."""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from dataclasses import astuple, dataclass, fields
from datetime import date, timedelta
from decimal import Decimal
from random import Random
from typing import TypeAlias

from quality.scoring import NOT_FOUND, Truth, list_line
from quality.task import Kind, require, single_maximum

REGIONS = ("Alsace", "Bretagne", "Corse", "Normandie", "Occitanie", "Provence")
_PRODUCTS = {
    "kettle": "19.90",
    "lamp": "34.50",
    "notebook": "4.20",
    "rucksack": "79.00",
    "tent, two persons": "149.90",
    "torch": "12.75",
}
_NAMES = ("Ada", "Bruno", "Chloé", "Denis", "Elif", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Kofi", "Lena")
_Built: TypeAlias = tuple[str, str, Truth]


@dataclass(frozen=True, slots=True)
class Order:
    """One row."""

    order: str
    ordered: date
    shipped: date
    customer: str
    region: str
    product: str
    quantity: int
    unit_price: Decimal

    @property
    def amount(self) -> Decimal:
        return self.quantity * self.unit_price


def draw_orders(rng: Random, chars: int) -> list[Order]:
    """Return so many orders that their rows have about so many characters."""
    number = max(12, chars // 66)
    customers = [f"{rng.choice(_NAMES)} {serial:03d}" for serial in range(1, max(5, number // 8))]
    orders = []
    for serial in range(number):
        ordered = date(2025, 1, 1) + timedelta(days=rng.randrange(365))
        product = rng.choice(tuple(_PRODUCTS))
        orders.append(
            Order(
                f"A{10_001 + serial}",
                ordered,
                ordered + timedelta(days=rng.choice((0, 1, 1, 2, 2, 3, 5, 8, 12))),
                rng.choice(customers),
                rng.choice(REGIONS),
                product,
                rng.randint(1, 9),
                Decimal(_PRODUCTS[product]),
            )
        )
    return orders


def _text(orders: list[Order]) -> str:
    return _rows([item.name for item in fields(Order)], [astuple(order) for order in orders])


def _rows(header: list[str], rows: list[tuple[object, ...]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()


def _sum(rng: Random, chars: int) -> _Built:
    orders = draw_orders(rng, chars)
    region, quarter = rng.choice(REGIONS), rng.randint(1, 4)
    found = [o.amount for o in orders if o.region == region and (o.ordered.month + 2) // 3 == quarter]
    require(single_truth=len(found) > 1)
    months = ("January to March", "April to June", "July to September", "October to December")[quarter - 1]
    asked = (
        f"What do the orders of the region {region} that were ordered from {months} 2025 amount to in all "
        "(quantity times unit_price)? Answer with the number only, with two decimals."
    )
    return asked, _text(orders), Truth("number", float(sum(found)))


def _count(rng: Random, chars: int) -> _Built:
    orders = draw_orders(rng, chars)
    product, least = rng.choice(tuple(_PRODUCTS)), rng.randint(4, 7)
    number = sum(o.product == product and o.quantity >= least for o in orders)
    require(single_truth=number > 0)
    asked = f'How many orders of the product "{product}" have a quantity of at least {least}? Answer with the number only.'
    return asked, _text(orders), Truth("number", number)


def _top_customer(rng: Random, chars: int) -> _Built:
    orders = draw_orders(rng, chars)
    amounts: Counter[str] = Counter()
    for order in orders:
        amounts[order.customer] += int(order.amount * 100)
    asked = (
        "Which customer has the highest total amount (quantity times unit_price, summed over all their orders)? "
        "Answer with the customer only."
    )
    return asked, _text(orders), Truth("text", single_maximum(amounts), tuple(sorted(amounts)))


def _join(rng: Random, chars: int) -> _Built:
    """Two tables in one text: customers with a city, orders with a customer."""
    orders = draw_orders(rng, chars * 5 // 6)
    cities = ("Brest", "Colmar", "Lyon", "Nantes", "Rouen")
    home = {customer: rng.choice(cities) for customer in sorted({order.customer for order in orders})}
    city = rng.choice(cities)
    number = sum(home[order.customer] == city for order in orders)
    require(single_truth=0 < number < len(orders))
    text = f"customers.csv\n{_rows(['customer', 'city'], list(home.items()))}\norders.csv\n{_text(orders)}"
    asked = f"How many orders are of customers who live in {city}? Answer with the number only."
    return asked, text, Truth("number", number)


def _average(rng: Random, chars: int) -> _Built:
    orders = draw_orders(rng, chars)
    region = rng.choice(REGIONS)
    found = [order.quantity for order in orders if order.region == region]
    require(single_truth=len(found) > 2)
    mean = Decimal(sum(found)) / len(found)
    require(single_truth=abs(mean * 100 % 1 - Decimal("0.5")) > Decimal("0.05"))  # no quarrel about rounding
    asked = (
        f"What is the average quantity of the orders of the region {region}? "
        "Answer with the number only, rounded to two decimals."
    )
    return asked, _text(orders), Truth("number", float(round(mean, 2)))


def _late(rng: Random, chars: int) -> _Built:
    orders = draw_orders(rng, chars)
    days = rng.choice((3, 5, 8))
    number = sum((order.shipped - order.ordered).days > days for order in orders)
    require(single_truth=number > 0)
    asked = f"How many orders were shipped more than {days} days after they were ordered? Answer with the number only."
    return asked, _text(orders), Truth("number", number)


def _busiest_day(rng: Random, chars: int) -> _Built:
    orders = draw_orders(rng, chars)
    month = rng.randint(1, 12)
    day = single_maximum(Counter(order.ordered for order in orders if order.ordered.month == month))
    asked = f"On which day of the month {month:02d}/2025 were the most orders ordered? Answer with the date as YYYY-MM-DD only."
    return asked, _text(orders), Truth("date", day.isoformat())


def _duplicates(rng: Random, chars: int) -> _Built:
    orders = draw_orders(rng, chars)
    twice = rng.sample(orders, 4)
    for order in twice:
        orders.insert(rng.randrange(len(orders)), order)
    asked = "Which orders (column order) occur in more than one row? " + list_line(
        "their ids", ("A10001", "A10002")
    )
    return asked, _text(orders), Truth("list", sorted(order.order for order in twice))


def _absent(rng: Random, chars: int) -> _Built:
    orders = draw_orders(rng, chars)
    seen = defaultdict(set)
    for order in orders:
        seen[order.customer].add(order.product)
    customer = rng.choice(sorted(seen))
    missing = sorted(set(_PRODUCTS) - seen[customer])
    require(single_truth=bool(missing))
    asked = (
        f'When did the customer {customer} last order the product "{rng.choice(missing)}"? '
        f"Answer with the date as YYYY-MM-DD only, or with: {NOT_FOUND}"
    )
    return asked, _text(orders), Truth("absent")


KINDS = (
    Kind("csv_sum", "filter by two columns, sum of a product", _sum),
    Kind("csv_count", "filter and count, quoted fields", _count),
    Kind("csv_top", "group, sum and maximum", _top_customer),
    Kind("csv_join", "join of two tables", _join),
    Kind("csv_average", "average over a filter", _average),
    Kind("csv_late", "date arithmetic", _late),
    Kind("csv_day", "group by date and maximum", _busiest_day, ("20k", "50k", "80k", "400k", "4m")),
    Kind("csv_duplicates", "find what occurs twice", _duplicates),
    Kind("csv_absent", "not in the text", _absent),
)
