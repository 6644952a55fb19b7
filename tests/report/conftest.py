"""A report in a real browser."""

from __future__ import annotations

import pytest
from chromium import open_chromium

from rlm_ray.report import write_report
from rlm_ray.testing.sample_run import example_run


@pytest.fixture(scope="module")
def browser():
    """One for a module: while it is open, no event loop of another test may run."""
    with open_chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "run.html"
    write_report(example_run(300), path, other=example_run(120, seed=3, run_id="the other"))
    return path


@pytest.fixture(scope="module")
def tab(browser):
    page = browser.new_page()
    page.set_default_timeout(20_000)
    return page


@pytest.fixture
def opened(tab):
    """Open a report; the test fails where the page complained, asked the network or was hacked."""
    trouble, addresses = [], set()
    hear = {
        "console": lambda message: trouble.append(message.text),
        "pageerror": lambda error: trouble.append(str(error)),
        "request": lambda asked: asked.url in addresses or trouble.append(asked.url),
    }
    for event, listener in hear.items():
        tab.on(event, listener)

    def open_page(path, width=1400, colours="light"):
        addresses.add(path.as_uri())
        tab.set_viewport_size({"width": width, "height": 900})
        tab.emulate_media(media="screen", color_scheme=colours)
        tab.goto(path.as_uri())
        return tab

    yield open_page
    hacked = tab.evaluate("window.hacked ?? null")
    tab.evaluate("localStorage.clear()")
    for event, listener in hear.items():
        tab.remove_listener(event, listener)
    assert trouble == []
    assert hacked is None
