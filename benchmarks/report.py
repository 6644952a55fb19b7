"""How fast the page of a large run loads and answers, in headless Chromium.

An interaction is timed from the event to the end of the next animation frame, its painting included. Each line is the
median and the worst of several.

    python benchmarks/report.py [JOURNAL] [--nodes 10000] [--runs 5] [--shots FOLDER] [--browser /usr/bin/chromium]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, sync_playwright

from rlm_ray.cli.view import records_of
from rlm_ray.events.records import Record
from rlm_ray.report import write_report
from rlm_ray.testing.sample_run import example_run

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]
TIMED = """async ([setup, act]) => {
  const at = (canvas, x, y) => { const b = canvas.getBoundingClientRect(); return { bubbles: true, clientX: b.left + b.width * x, clientY: b.top + y }; };
  const mouse = (selector, kind, x, y, more = {}) => { const c = document.querySelector(selector); c.dispatchEvent(new (kind === "wheel" ? WheelEvent : kind.startsWith("pointer") ? PointerEvent : MouseEvent)(kind, { ...at(c, x, y), ...more, cancelable: true })); };
  const key = (selector, name) => document.querySelector(selector).dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));
  const click = (selector) => document.querySelector(selector).click();
  const type = (selector, value) => { const i = document.querySelector(selector); i.value = value; i.dispatchEvent(new Event("input", { bubbles: true })); };
  const scroll = (selector, part) => { const s = document.querySelector(selector); s.scrollTop = part * s.scrollHeight; };
  const frame = () => new Promise((done) => requestAnimationFrame(() => { const c = new MessageChannel(); c.port1.onmessage = done; c.port2.postMessage(0); }));
  const run = new Function("mouse", "key", "click", "type", "scroll", "part", setup);
  const go = new Function("mouse", "key", "click", "type", "scroll", "part", act);
  const part = Math.random();
  run(mouse, key, click, type, scroll, part);
  await frame(); await frame();
  const began = performance.now();
  go(mouse, key, click, type, scroll, part);
  await frame();
  return performance.now() - began;
}"""
ICICLE = "#view-icicle canvas"
TIMELINE = "#view-timeline canvas"
TABLE = "#view-nodes .scroller"
STEPS = [
    ("icicle: open", "click('#tab-overview')", "click('#tab-icicle')"),
    ("icicle: hover", "click('#tab-icicle')", f"mouse('{ICICLE}', 'mousemove', part, 60)"),
    ("icicle: zoom in and open the pane", "click('#tab-icicle')", f"mouse('{ICICLE}', 'click', part, 40)"),
    ("icicle: zoom out", f"mouse('{ICICLE}', 'click', part, 40)", f"mouse('{ICICLE}', 'click', 0.5, 10)"),
    ("icicle: by cost", "click('[data-metric=busy]')", "click('[data-metric=cost]')"),
    ("icicle: arrow key", "", f"key('{ICICLE}', 'ArrowRight')"),
    ("timeline: open", "click('#tab-overview')", "click('#tab-timeline')"),
    ("timeline: hover", "", f"mouse('{TIMELINE}', 'pointermove', 0.6, 300)"),
    ("timeline: scroll", "scroll('#view-timeline .scroller', 0)", "scroll('#view-timeline .scroller', part)"),
    ("timeline: zoom", "", f"mouse('{TIMELINE}', 'wheel', 0.6, 200, {{ctrlKey: true, deltaY: -100}})"),
    ("timeline: select a node", "", f"mouse('{TIMELINE}', 'click', 0.6, 100 + 300 * part)"),
    ("nodes: open", "click('#tab-overview')", "click('#tab-nodes')"),
    ("nodes: scroll", f"scroll('{TABLE}', 0)", f"scroll('{TABLE}', part)"),
    ("nodes: arrow key", "", f"key('{TABLE}', 'ArrowDown')"),
    ("nodes: sort by cost", "", f"click('{TABLE} [role=columnheader]:nth-child(8) button')"),
    (
        "nodes: fold all",
        "click('#view-nodes .choice button')",
        "click('#view-nodes .choice button + button')",
    ),
    ("nodes: unfold all", "", "click('#view-nodes .choice button')"),
    (
        "filter: errors only",
        "document.querySelector('#only-bad').checked && click('#only-bad')",
        "click('#only-bad')",
    ),
    ("filter: all again", "", "document.querySelector('#only-bad').checked && click('#only-bad')"),
    ("search in all texts", "type('#search', '')", "type('#search', 'council of')"),
    ("search: clear", "", "type('#search', '')"),
    ("pane: the root", "key('body', 'Escape')", f"key('{TABLE}', 'Home')"),
    ("theme", "", "click('#theme')"),
]


def records_from(journal: str | None, nodes: int) -> list[Record]:
    return records_of(str(Path(journal).absolute()), "") if journal else example_run(nodes)


def load(page: Page, report: Path) -> float:
    """Milliseconds from the address to the page drawn."""
    began = time.perf_counter()
    page.goto(report.as_uri())
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return (time.perf_counter() - began) * 1e3


def shots(browser: Browser, scheme: Literal["light", "dark"], report: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    page = browser.new_page(viewport={"width": 1400, "height": 900}, color_scheme=scheme)
    page.goto(report.as_uri())
    for name in ("overview", "icicle", "timeline", "nodes"):
        page.click(f"#tab-{name}")
        page.screenshot(path=str(folder / f"{name}-{scheme}.png"))
    page.locator(f"{TABLE} .rows .row").first.click()
    page.screenshot(path=str(folder / f"pane-{scheme}.png"))
    page.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("journal", nargs="?", help="a journal file or run folder; default: a made-up run")
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--shots", type=Path)
    parser.add_argument("--browser", default="/usr/bin/chromium")
    options = parser.parse_args()
    records = records_from(options.journal, options.nodes)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        report = Path(folder) / "report.html"
        began = time.perf_counter()
        write_report(records, report)
        made_s = time.perf_counter() - began
        print(f"{len(records):,} records, page {report.stat().st_size / 1e6:.1f} MB, made in {made_s:.2f} s")
        browser = playwright.chromium.launch(executable_path=options.browser, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.on("pageerror", lambda error: print(f"error in the page: {error}"))
        loads = [load(page, report) for _ in range(options.runs)]
        print(f"{'load':36} {statistics.median(loads):7.0f} ms   worst {max(loads):7.0f} ms")
        for name, setup, act in STEPS:
            times = [page.evaluate(TIMED, [setup, act]) for _ in range(options.runs)]
            print(f"{name:36} {statistics.median(times):7.0f} ms   worst {max(times):7.0f} ms")
        if options.shots:
            for scheme in ("light", "dark"):
                shots(browser, scheme, report, options.shots)
        browser.close()


if __name__ == "__main__":
    main()
