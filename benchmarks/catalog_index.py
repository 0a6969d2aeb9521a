"""How long does it take to find an episode among 100,000?"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.lab.answer import Answer, Figure, Table
from benchmarks.lab.child import child_main, run_child
from benchmarks.lab.meters import peak_bytes, reset_peak

SIZES = (1_000, 10_000, 100_000)
N_NEW = 100
PAGE = 50
MIN_RATE = 10_000
MAX_REFRESH_S = 0.3
MAX_PAGE_S = 0.05
MAX_MB = 300
N_TURNS = 9

HOW = """\
A flat folder in the system's folder for temporary files holds a sidecar of 2.0 kB, a film and a file of step columns for
each episode (the last two are empty). "Full rebuild" opens a catalog where no index is; "refresh, 100 new" takes in 100
sidecars that were written since; a page is the first 50 episodes of a filter and a sort, read from their sidecars, as
`Catalog.select` gives them. Medians of nine turns, the rebuild the best of three. Wall time in one thread, with the files
in the page cache. Memory is the highest resident set of the process less what it held before the catalog was made."""

PAGES: dict[str, dict[str, Any]] = {
    "filtered by env, mode and return, sorted by return": {
        "env_id": "LunarLander-v3",
        "mode": "eval",
        "episode_return": (100.0, None),
        "sort": "-episode_return",
    },
    "the newest": {"sort": "-started_at"},
    "found by text, sorted by length": {"text": "episode-77 lunar", "sort": "-episode_length"},
    "filtered and sorted by a trainer's counter": {
        "where": {"context_at_end.num_env_steps": (5000, None)},
        "sort": "-context_at_end.num_env_steps",
    },
}


def run(quick: bool = False) -> dict[str, Any]:
    """Measure, and return the answer."""
    sizes = [n // 20 for n in SIZES] if quick else list(SIZES)
    found = {n: run_child("benchmarks.catalog_index", {"n": n}) for n in sizes}
    largest = found[sizes[-1]]
    many = f"{sizes[-1]:,} episodes"
    first = next(iter(PAGES))
    rate = sizes[-1] / largest["rebuild_s"]
    figures = [
        Figure(
            f"Full rebuild of the index, {many}",
            f"at least {MIN_RATE:,} sidecars/s",
            f"{rate:,.0f} sidecars/s",
            rate >= MIN_RATE,
        ),
        _figure(f"Refresh with {N_NEW} new ones, {many}", MAX_REFRESH_S, largest["refresh_s"]),
        _figure(f"First page {first}, {many}", MAX_PAGE_S, largest["pages_s"][first]),
        Figure(
            f"Memory of a catalog, {many}",
            f"below {MAX_MB} MB",
            f"{largest['growth_bytes'] / 1e6:.0f} MB",
            largest["growth_bytes"] < MAX_MB * 1e6,
        ),
    ]
    columns = ["", *(f"{n:,} episodes" for n in sizes)]
    return Answer(
        "Finding an episode", HOW, figures, [Table("Catalog, ms", columns, _rows(found))]
    ).as_dict()


def _figure(what: str, limit_s: float, measured_s: float) -> Figure:
    return Figure(
        what, f"below {limit_s * 1e3:.0f} ms", f"{measured_s * 1e3:.1f} ms", measured_s < limit_s
    )


def _rows(found: dict[int, dict[str, Any]]) -> list[list[str]]:
    labels = {
        "rebuild_s": "full rebuild",
        "reopen_s": "opening it with an index there",
        "refresh_s": f"refresh, {N_NEW} new",
        "gone_s": f"refresh, {N_NEW} removed",
        "idle_s": "refresh, nothing new",
        "count_s": "count of a filter",
        "distinct_s": "values of a column",
        "get_s": "one episode by name",
    }
    rows = [[text, *(_ms(one[key]) for one in found.values())] for key, text in labels.items()]
    rows += [
        [f"page: {page}", *(_ms(one["pages_s"][page]) for one in found.values())] for page in PAGES
    ]
    for key, text in (("growth_bytes", "memory, MB"), ("index_bytes", "index on the disk, MB")):
        rows.append([text, *(f"{one[key] / 1e6:.1f}" for one in found.values())])
    return rows


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f}"


def _measure(n: int) -> dict[str, Any]:
    """Make a folder of `n` episodes, and ask a catalog of it."""
    from rollcam.store.catalog import Catalog

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / ".rollcam").mkdir()
        for number in range(n):
            _put(folder, number)
        time.sleep(2.5)  # what is younger than that is read again at the next refresh
        before = reset_peak()
        Catalog(folder).close()  # from here on, the files are in the page cache
        rebuild_s = min(_time(lambda: _rebuilt(folder)) for _ in range(3))
        reopen_s = _median(lambda: Catalog(folder).close())
        with Catalog(folder) as catalog:
            assert not catalog._opened.is_in_memory
            assert len(catalog) == n
            catalog.refresh()
            answer = {
                "rebuild_s": rebuild_s,
                "reopen_s": reopen_s,
                "idle_s": _median(catalog.refresh),
                "pages_s": {
                    page: _median(lambda asked=asked: catalog.select(limit=PAGE, **asked))
                    for page, asked in PAGES.items()
                },
                "count_s": _median(lambda: catalog.count(mode="eval", env_id="LunarLander-v3")),
                "distinct_s": _median(lambda: catalog.distinct("env_id")),
                "get_s": _median(lambda: catalog.get(f"rl-video-episode-{n // 2}")),
            }
            answer |= _changes(catalog, folder, n)
        answer["growth_bytes"] = peak_bytes() - before
        answer["index_bytes"] = (folder / ".rollcam" / "index.sqlite").stat().st_size
        return answer


def _rebuilt(folder: Path) -> None:
    from rollcam.store.catalog import Catalog

    (folder / ".rollcam" / "index.sqlite").unlink()
    Catalog(folder).close()


def _changes(catalog: Any, folder: Path, n: int) -> dict[str, float]:
    new, gone = [], []
    for _ in range(N_TURNS):
        for number in range(n, n + N_NEW):
            _put(folder, number)
        new.append(_time(catalog.refresh))
        assert len(catalog) == n + N_NEW
        for number in range(n, n + N_NEW):
            (folder / f"rl-video-episode-{number}.meta.json").unlink()
        gone.append(_time(catalog.refresh))
        assert len(catalog) == n
    return {"refresh_s": statistics.median(new), "gone_s": statistics.median(gone)}


def _put(folder: Path, number: int) -> None:
    name = f"rl-video-episode-{number}"
    told = {
        **_SIDECAR,
        "episode_id": f"01JD7Q2ZK3{number:016d}",
        "name": name,
        "media": f"{name}.mp4",
        "steps": f"{name}.steps.json",
        "env_id": ("LunarLander-v3", "CartPole-v1", "Walker2d-v5")[number % 3],
        "mode": "train" if number % 5 else "eval",
        "seed": number,
        "episode_index": number,
        "episode_return": float(number * 7919 % 10007) / 10,
        "episode_length": number * 31 % 1000,
        "started_at": f"2026-11-{1 + number // 86400:02d}T{number // 3600 % 24:02d}:"
        f"{number // 60 % 60:02d}:{number % 60:02d}.000001+00:00",
        "context_at_end": {"iteration": number // 100, "num_env_steps": number * 10},
    }
    for suffix in (".mp4", ".steps.json"):
        (folder / f"{name}{suffix}").touch()
    (folder / f"{name}.meta.json").write_text(json.dumps(told, indent=1), encoding="utf-8")


_SIDECAR = json.loads(
    (Path(__file__).parents[1] / "tests" / "golden" / "sidecar-v1-full.meta.json").read_bytes()
)


def _time(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _median(work: Callable[[], Any]) -> float:
    return statistics.median(_time(work) for _ in range(N_TURNS))


if __name__ == "__main__":
    import sys

    if len(sys.argv) == 3:
        child_main(_measure)
    else:
        from benchmarks.lab.report import main

        main(run)
