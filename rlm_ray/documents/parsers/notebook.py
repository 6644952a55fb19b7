"""Jupyter notebooks (.ipynb): texts, code in fences, and what the code printed."""

from __future__ import annotations

import json
from typing import Any

from rlm_ray.core.pages import escape_markers, tidy
from rlm_ray.documents.parsers import DocumentError, ParsedDocument
from rlm_ray.documents.parsers.html import text_of

_MAX_OUTPUT_CHARS = 20_000


def parse(data: bytes) -> ParsedDocument:
    try:
        notebook = json.loads(data.decode("utf-8-sig"))
        cells = notebook["cells"] if "cells" in notebook else notebook["worksheets"][0]["cells"]
        language = notebook.get("metadata", {}).get("kernelspec", {}).get("language", "python")
        blocks = [_cell(cell, str(language)) for cell in cells]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise DocumentError("is a broken notebook; open it and save it anew") from error
    return ParsedDocument(
        escape_markers(tidy("\n\n".join(block for block in blocks if block.strip()))), "notebook"
    )


def _cell(cell: dict[str, Any], language: str) -> str:
    source = _joined(cell.get("source", cell.get("input", "")))
    if cell["cell_type"] != "code":
        return source
    blocks = [f"```{language}\n{source}\n```"] if source.strip() else []
    shown = "\n".join(text for output in cell.get("outputs", ()) if (text := _output(output)))
    if len(shown) > _MAX_OUTPUT_CHARS:
        shown = f"{shown[:_MAX_OUTPUT_CHARS]}\n[{len(shown) - _MAX_OUTPUT_CHARS:,} more characters of output]"
    return "\n".join([*blocks, *([f"Output:\n{shown}"] if shown else [])])


def _output(output: dict[str, Any]) -> str:
    if output.get("output_type") == "error":
        return f"{output.get('ename')}: {output.get('evalue')}"
    data = output.get("data", {})
    if "text/plain" not in data and "text/html" in data:
        return text_of(_joined(data["text/html"]))
    return _joined(output.get("text", data.get("text/plain", ""))).rstrip()


def _joined(lines: Any) -> str:
    return "".join(map(str, lines)) if isinstance(lines, list) else str(lines)
