"""What axe-core finds wrong with a page by WCAG 2.1, levels A and AA."""

from __future__ import annotations

from playwright.sync_api import Page

RULES = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]},
    "resultTypes": ["violations"],
}
MODES = [(1280, "light"), (1280, "dark"), (390, "light")]
"""Widths in pixels and colour schemes in which pages are checked."""


def violations(page: Page) -> list[str]:
    """Return each rule with the elements that break it."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, options=RULES).response["violations"]
    return [f"{rule['id']}: {node['html']}" for rule in found for node in rule["nodes"]]
