"""PowerPoint (.pptx), by python-pptx: the text, tables and notes of each slide."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any

from rlm_ray.core.pages import mark_parts
from rlm_ray.documents.parsers import DocumentError, ParsedDocument, join_cells


def parse(data: bytes) -> ParsedDocument:
    import pptx

    presentation = pptx.Presentation(io.BytesIO(data))
    texts = [_slide(slide) for slide in presentation.slides]
    if not any(texts):
        raise DocumentError(f"holds no text on its {len(texts)} slides: they are pictures")
    return ParsedDocument(mark_parts("slide", enumerate(texts, 1)), "PowerPoint")


def _slide(slide: Any) -> str:
    blocks = [text for text in _texts(slide.shapes) if text.strip()]
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        notes = slide.notes_slide.notes_text_frame.text
        blocks += [f"Notes: {notes}"] if notes.strip() else []
    return "\n\n".join(blocks)


def _texts(shapes: Iterable[Any]) -> Iterator[str]:
    for shape in shapes:
        if hasattr(shape, "shapes"):  # a group
            yield from _texts(shape.shapes)
        elif getattr(shape, "has_table", False):
            yield "\n".join(join_cells([cell.text for cell in row.cells]) for row in shape.table.rows)
        elif getattr(shape, "has_chart", False):
            yield _chart(shape.chart)
        elif shape.has_text_frame:
            yield shape.text_frame.text


def _chart(chart: Any) -> str:
    lines = [chart.chart_title.text_frame.text] if chart.has_title else []
    for plot in chart.plots:
        categories = [str(category) for category in plot.categories]
        lines.append(join_cells(["", *categories]))
        lines += [join_cells([str(series.name), *map(str, series.values)]) for series in plot.series]
    return "\n".join(lines)
