"""`kill -9` between every pair of ledger states, with every real sink, through publisher and command.

`test_kill.py` has the same with the example sink, and more of the publisher itself.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rollcam.publish.entry import State
from rollcam.publish.ledger import FILE_NAME, Ledger
from tests.films import wait_until
from tests.publish.mortal import DEATHS, Job, run_all
from tests.publish.places import PLACES, Place, as_found, films_at_steps
from tests.publish.rig import python_path

N_FILMS = 3
FOUND_AT_DEATH = {"before sending": 0, "sending": 1, "handed over": 2, "handed": 2}


def n_whole(place: Place, slot: str) -> int:
    return sum(bool(content) for _, _, content in place.found(slot))


@pytest.mark.parametrize("kind", PLACES)
def test_exactly_once_after_every_death(kind: str, tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    place = PLACES[kind](tmp_path / "place")
    environment = {**python_path(), **place.environment}
    slots = {death: f"run{number}" for number, death in enumerate(DEATHS)}
    folders = {death: tmp_path / f"films-{slot}" for death, slot in slots.items()}
    wanted = {}
    for death, folder in folders.items():
        films = films_at_steps(folder, N_FILMS)
        wanted[death] = as_found(films)
    with place.up():
        dying = [Job(str(folders[death]), place.sink(slots[death]), death) for death in DEATHS]
        with ThreadPoolExecutor(1) as pool:
            ends = pool.submit(run_all, dying, tmp_path / "dying", environment)
            unseen = slots["handed over"]
            wait_until(lambda: n_whole(place, unseen) == 2, "two are there, and not written down")
            Path(f"{folders['handed over']}-seen").touch()
        for death, end in zip(DEATHS, ends.result(), strict=True):
            assert end.status == -9, f"{death}: {end.status}\n{end.output}"
            n_found = len(place.found(slots[death]))
            assert n_found < N_FILMS or death in ("asked", "stored"), death
            if place.is_prompt and death in FOUND_AT_DEATH:
                assert n_found == FOUND_AT_DEATH[death], death
            assert n_found > 0 or death not in ("asked", "stored"), death
        heirs = [Job(str(folders[death]), place.sink(slots[death])) for death in DEATHS]
        for death, end in zip(DEATHS, run_all(heirs, tmp_path / "heirs", environment), strict=True):
            assert end.status == 0, f"{death}: {end.status}\n{end.output}"
            assert sorted(place.found(slots[death])) == wanted[death], f"{death}\n{end.output}"
            assert place.n_beside(slots[death]) in (None, N_FILMS), death
            counts = Ledger(folders[death] / ".rollcam" / FILE_NAME).counts()
            assert [of[State.STORED] for of in counts.values()] == [N_FILMS], death
