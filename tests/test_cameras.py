"""Several cameras of one recorder, each on a thread of its own."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import rollcam
from rollcam.store import files
from tests import barcode
from tests.films import episodes

N_CAMERAS, N_EPISODES = 6, 40


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def all_at_once(do: Callable[[int], None]) -> None:
    """Call `do` on many threads, and raise what one of them raised."""
    errors: list[BaseException] = []

    def guarded(index: int) -> None:
        try:
            do(index)
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(index,)) for index in range(N_CAMERAS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    if errors:
        raise errors[0]


@pytest.mark.usefixtures("restless")
def test_none_loses_its_film_to_another(tmp_path: Path) -> None:
    """All want the same name, so that each `end` has something to warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rollcam.RollcamWarning)
        with rollcam.Recorder(tmp_path, fps=25, threads=2) as recorder:
            cameras = [recorder.camera(vector_index=index) for index in range(N_CAMERAS)]

            def film(index: int) -> None:
                for _ in range(N_EPISODES):
                    cameras[index].begin("same")
                    cameras[index].frame(barcode.draw(index, 16, 16))
                    cameras[index].end()

            all_at_once(film)
    made = episodes(tmp_path)
    assert len(made) == N_CAMERAS * N_EPISODES
    writers = [e.writer.vector_index for e in made.values() if e.writer is not None]
    assert {index: writers.count(index) for index in writers} == dict.fromkeys(
        range(N_CAMERAS), N_EPISODES
    )


def test_none_films_before_the_folder_is_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clear, is_clearing, may_end = files.clear, threading.Event(), threading.Event()
    begun: list[int] = []

    def slowly(*args: object, **settings: object) -> None:
        is_clearing.set()
        assert may_end.wait(30)
        assert begun == []
        clear(*args, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(files, "clear", slowly)
    with rollcam.Recorder(tmp_path, fps=25, resume=False, threads=2) as recorder:
        cameras = [recorder.camera(vector_index=index) for index in range(N_CAMERAS)]

        def film(index: int) -> None:
            if index == N_CAMERAS - 1:  # the others have begun to wait by then, or will
                assert is_clearing.wait(30)
                may_end.set()
            cameras[index].begin()
            begun.append(index)
            cameras[index].frame(barcode.draw(index, 16, 16))
            cameras[index].end()

        all_at_once(film)
    assert len(episodes(tmp_path)) == N_CAMERAS
