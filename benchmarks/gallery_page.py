"""How quick is the gallery's page with 100,000 episodes?"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.catalog_index import _put
from benchmarks.lab.answer import Answer, Figure, Table
from benchmarks.lab.child import child_main, run_child

SIZES = (1_000, 100_000)
N_OPENED = 1_000
N_FILMS = 60
N_JUMPS = 200
MAX_PAINT_S = 1.0
MAX_REDRAW_S = 0.016
MAX_HEAP_MB = 150
MAX_PLAYING_S = 1.0
MAX_GROWTH_MB = 10
LIMIT_S = 120

HOW = f"""\
Debian's Chromium, headless, without a GPU, at 1280 x 800; `rollcam serve` beside it. "First paint" is the browser's own first
contentful paint after the start of the navigation, "list there" the first row with its episode; best of three. A redraw is one
jump of the list to another place, from the scrolling to the end of the layout, medians and the worst of {N_JUMPS}; the heap is
what remains after a collection with the list, the filters and the scatter on the page. {N_FILMS} films of 128 x 96 stand in the
grid of a window of 2560 x 1700, and count as playing when their time runs. Opening and closing goes through the address, and
waits for each film's first picture."""


def run(quick: bool = False) -> dict[str, Any]:
    """Measure, and return the answer."""
    sizes = [n // 20 for n in SIZES] if quick else list(SIZES)
    found = {n: run_child("benchmarks.gallery_page", {"n": n}) for n in sizes}
    films = run_child(
        "benchmarks.gallery_page", {"n": 0, "n_opened": N_OPENED // (20 if quick else 1)}
    )
    largest, many = found[sizes[-1]], f"{sizes[-1]:,} episodes"
    figures = [
        _seconds(f"Page: first paint, {many}", MAX_PAINT_S, largest["paint_s"]),
        _seconds(
            f"Page: redraw while scrolling (median), {many}", MAX_REDRAW_S, largest["redraw_s"]
        ),
        _megabytes(f"Page: heap, {many}", MAX_HEAP_MB, largest["heap_bytes"]),
        _seconds(
            f"Page: {N_FILMS} films in the grid all playing", MAX_PLAYING_S, films["playing_s"]
        ),
        _megabytes(
            f"Page: growth of the heap over {films['n_opened']:,} opened episodes",
            MAX_GROWTH_MB,
            films["growth_bytes"],
        ),
    ]
    labels = {
        "paint_s": "first paint, ms",
        "list_s": "list there, ms",
        "scatter_s": "scatter there, ms",
        "redraw_s": "redraw while scrolling, median, ms",
        "redraw_worst_s": "redraw while scrolling, worst, ms",
        "heap_bytes": "heap, MB",
    }
    rows = [
        [
            text,
            *(
                f"{one[key] * (1e-6 if key == 'heap_bytes' else 1e3):,.1f}"
                for one in found.values()
            ),
        ]
        for key, text in labels.items()
    ]
    columns = ["", *(f"{n:,} episodes" for n in sizes)]
    return Answer("The gallery's page", HOW, figures, [Table("Page", columns, rows)]).as_dict()


def _seconds(what: str, limit_s: float, measured_s: float) -> Figure:
    return Figure(
        what, f"below {limit_s * 1e3:.0f} ms", f"{measured_s * 1e3:.1f} ms", measured_s < limit_s
    )


def _megabytes(what: str, limit: float, measured: float) -> Figure:
    return Figure(what, f"below {limit:.0f} MB", f"{measured / 1e6:.1f} MB", measured < limit * 1e6)


def _measure(n: int, n_opened: int = 0) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        return _lists(Path(name) / "videos", n) if n else _films(Path(name) / "videos", n_opened)


def _lists(folder: Path, n: int) -> dict[str, Any]:
    from rollcam.store.catalog import Catalog
    from tests.browser import Browser
    from tests.gallery.page_rig import gallery

    (folder / ".rollcam").mkdir(parents=True)
    for number in range(n):
        _put(folder, number)
    time.sleep(2.5)  # what is younger than that is read again at the next refresh
    Catalog(folder).close()  # the index is warm
    with gallery(folder) as url, Browser() as browser:
        starts = [
            browser.on_page(lambda page: _start(page, url), limit_s=LIMIT_S) for _ in range(3)
        ]
        told: dict[str, Any] = {key: min(one[key] for one in starts) for key in starts[0]}
        told |= browser.on_page(lambda page: _scroll(page, url), limit_s=LIMIT_S)
        return told


def _start(page: Any, url: str) -> dict[str, float]:
    from tests.gallery.page_rig import until

    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(url, wait_until="commit")
    script = """() => document.querySelector('.t-row .row-link[href]') && performance.now()"""
    listed = until(page, script, limit_s=LIMIT_S)
    drawn = until(
        page,
        "() => /episodes, from/.test(document.querySelector('.scatter-canvas')?.ariaLabel) && performance.now()",
        limit_s=LIMIT_S,
    )
    paint = page.evaluate(
        "() => performance.getEntriesByName('first-contentful-paint')[0].startTime"
    )
    return {"paint_s": paint / 1e3, "list_s": listed / 1e3, "scatter_s": drawn / 1e3}


JUMPS = """async (n) => {
  const scroller = document.querySelector('.t-scroll');
  const height = scroller.scrollHeight - scroller.clientHeight;
  const took = [];
  for (let k = 0; k < n; k++) {
    const far = k % 10 === 0 ? (k * 7919 % 1000) / 1000 * height : scroller.scrollTop + 400;
    await new Promise(requestAnimationFrame);
    const start = performance.now();
    scroller.scrollTop = far;
    scroller.windowed.draw();
    scroller.getBoundingClientRect();
    document.body.offsetHeight;
    took.push(performance.now() - start);
  }
  return took;
}"""


def _scroll(page: Any, url: str) -> dict[str, float]:
    _start(page, url)
    took = page.evaluate(JUMPS, N_JUMPS)
    return {
        "redraw_s": statistics.median(took) / 1e3,
        "redraw_worst_s": max(took) / 1e3,
        "heap_bytes": _heap(page),
    }


def _heap(page: Any) -> float:
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    session.send("Performance.enable")
    metrics = session.send("Performance.getMetrics")["metrics"]
    session.detach()
    return float(next(one["value"] for one in metrics if one["name"] == "JSHeapUsedSize"))


def _films(folder: Path, n_opened: int) -> dict[str, Any]:
    from tests.browser import Browser
    from tests.gallery.page_rig import film, gallery

    film(folder, N_FILMS, 60)
    with gallery(folder) as url, Browser() as browser:
        playing = min(
            browser.on_page(lambda page: _play(page, url), limit_s=LIMIT_S) for _ in range(3)
        )
        growth = browser.on_page(lambda page: _open(page, url, n_opened), limit_s=900)
        return {"playing_s": playing, "growth_bytes": growth, "n_opened": n_opened}


PLAY = """async (n) => {
  const playing = () => [...document.querySelectorAll('.card-film video')].filter(v => v.currentTime > 0).length;
  const start = performance.now();
  [...document.querySelectorAll('button')].find(b => b.textContent === 'Play all').click();
  while (playing() < n && performance.now() - start < 30000) await new Promise(requestAnimationFrame);
  return playing() >= n ? performance.now() - start : 30000;
}"""


def _play(page: Any, url: str) -> float:
    from tests.gallery.page_rig import until

    page.set_viewport_size({"width": 2560, "height": 1700})
    page.goto(f"{url}#/?view=grid")
    until(
        page, f"() => document.querySelectorAll('.poster.loaded').length >= {N_FILMS}", limit_s=60
    )
    return float(page.evaluate(PLAY, N_FILMS)) / 1e3


OPEN = """async (n) => {
  const { openSource } = await import(new URL('js/source.js', document.baseURI).href);
  const { rows } = await (await openSource()).list(new URLSearchParams(), 0, 100);
  const until = async (test) => { while (!test()) await new Promise(requestAnimationFrame); };
  for (let k = 0; k < n; k++) {
    location.hash = `#/watch/${rows[k % rows.length].id}`;
    await until(() => document.querySelector('.watch video')?.readyState >= 2 && document.querySelector('.lane'));
    location.hash = '#/';
    await until(() => document.querySelector('.t-row'));
  }
}"""


def _open(page: Any, url: str, n: int) -> float:
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(url)
    page.evaluate(OPEN, 30)
    before = _heap(page)
    page.evaluate(OPEN, n)
    return _heap(page) - before


if __name__ == "__main__":
    if len(sys.argv) == 3:
        child_main(_measure)
    else:
        from benchmarks.lab.report import main

        main(run)
