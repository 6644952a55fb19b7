"""Which places of the input a result comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rlm_ray.core.chunking import Piece, PieceOrigin, origins
from rlm_ray.core.context import Context


def describe_location(context: Context, piece: Piece) -> str:
    """A piece by its documents, for a message."""
    places = list(origins(context, piece))
    first = str(places[0]) if places else f"{piece.start}-{piece.stop}"
    return first if len(places) < 2 else f"{first} to {places[-1]}"


@dataclass(frozen=True, slots=True)
class Provenance:
    """By field and result, the pieces it comes from; the field of a whole answer is empty."""

    context: Context
    pieces: Sequence[Piece]
    numbers: Mapping[str, Mapping[str, tuple[int, ...]]]

    def sources(self, field: str, result: str) -> list[PieceOrigin]:
        """The documents a result comes from, each with the bytes that were read of it."""
        pieces = self.numbers.get(field, {}).get(result, ())
        return [source for number in pieces for source in origins(self.context, self.pieces[number])]

    def as_dict(self) -> dict[str, dict[str, list[dict[str, Any]]]]:
        """All of it, as plain values."""
        return {
            field: {result: [asdict(source) for source in self.sources(field, result)] for result in results}
            for field, results in self.numbers.items()
        }

    def lines(self, most: int = 10, places: int = 5) -> Iterator[str]:
        """A bounded list for people: so many results, with so many places each."""
        results = [(field, result) for field, found in self.numbers.items() for result in found]
        for field, result in results[:most]:
            found = self.sources(field, result)
            name = " ".join(filter(None, (f"{field}:" if field else "", result[:60])))
            shown = ", ".join(map(str, found[:places]))
            more = f" and {len(found) - places:,} more" if len(found) > places else ""
            yield f"{name} from {shown}{more}"
        if len(results) > most:
            yield f"… and {len(results) - most:,} more results"
