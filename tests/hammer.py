"""What several processes do to one folder and its index: `python -m tests.hammer WHAT DIR SECONDS`."""

from __future__ import annotations

import os
import random
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from rollcam.episode import Episode, EpisodeStatus
from rollcam.store import index, sidecar
from rollcam.store.catalog import Catalog
from rollcam.store.layout import HIDDEN


def put(root: Path, name: str, **facts: Any) -> Episode:
    """Put an episode's sidecar into a folder, as the recorder does: complete, by rename."""
    told = {"episode_id": f"01JD{abs(hash(name)) % 10**9:09d}", "run_id": "01JC", "name": name}
    episode = Episode(
        **{**told, "status": EpisodeStatus.COMPLETE, "folder": root, **facts},
    )
    path = episode.sidecar_path
    assert path is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{os.getpid()}-{path.name}.tmp")
    scratch.write_text(sidecar.to_json(episode))
    scratch.replace(path)
    return episode


def facts_for(name: str, version: int) -> dict[str, Any]:
    """Facts that belong together: an episode made of two would be found out."""
    mode = "eval" if version % 2 else "train"
    told = {"name": name, "version": version}
    return {"episode_return": float(version), "mode": mode, "seed": version, "metadata": told}


def check(episodes: list[Episode], *, mode: str | None = None) -> None:
    for episode in episodes:
        told = facts_for(episode.name, episode.metadata["version"])
        given = {key: getattr(episode, key) for key in told}
        assert given == told, (given, told)
        assert mode in (None, episode.mode)


def write(root: Path, chance: random.Random, end: float) -> None:
    """Add, replace, rewrite in place and remove sidecars under names of one's own."""
    own = [f"{'inner/' if n % 3 == 0 else ''}w{os.getpid()}-{n}" for n in range(60)]
    while time.monotonic() < end:
        name = chance.choice(own)
        path = root / f"{name}.meta.json"
        what = chance.random()
        if what < 0.15:
            path.unlink(missing_ok=True)
        elif what < 0.3 and path.exists():
            episode = sidecar.read(path)
            changed = facts_for(name, chance.randrange(10**6))
            text = sidecar.to_json(Episode(**{**_told(episode), **changed}))
            path.write_text(text)  # in place: for a moment it is torn
        else:
            put(root, name, **facts_for(name, chance.randrange(10**6)))


def _told(episode: Episode) -> dict[str, Any]:
    names = ("episode_id", "run_id", "name", "status")
    return {name: getattr(episode, name) for name in names}


def read(root: Path, chance: random.Random, end: float) -> None:
    """Ask one catalog, and now and then a new one, and check all that is given out."""
    rounds = losses = 0
    index._MAX_LOSSES = 10**6  # never to settle in memory, where nobody disturbs
    catalog = Catalog(root)
    known = catalog.generation
    while time.monotonic() < end:
        rounds += 1
        if chance.random() < 0.1:
            losses += catalog._index._losses
            catalog.close()
            catalog = Catalog(root)
        catalog.refresh()
        mode = chance.choice(["train", "eval"])
        check(catalog.select(sort="-episode_return", limit=20))
        check(catalog.select(where={"mode": mode}, text="w"), mode=mode)
        check(list(catalog))
        changes = catalog.changes(known)
        known = changes.generation
        check(changes.episodes)
        assert all("meta.json" in str(problem) for problem in catalog.problems)
    catalog.close()
    print(rounds, losses)


def spoil(root: Path, chance: random.Random, end: float) -> None:
    """Delete the index's files, all or one by one, and write nonsense into them."""
    path = root / HIDDEN / "index.sqlite"
    files = [path, Path(f"{path}-wal"), Path(f"{path}-shm")]
    while time.monotonic() < end:
        what = chance.randrange(6)
        if what < 3:
            files[what].unlink(missing_ok=True)
        elif what == 3:
            for file in chance.sample(files, 3):
                file.unlink(missing_ok=True)
        else:
            file = chance.choice(files[:2])
            if file.exists() and (size := file.stat().st_size):
                with open(file, "r+b") as spoilt:
                    spoilt.seek(chance.randrange(size))
                    spoilt.write(chance.randbytes(chance.choice([1, 100, 5000])))
        time.sleep(chance.random() * 0.05)  # the others are to meet every moment of it


if __name__ == "__main__":
    warnings.simplefilter("error")
    work = {"write": write, "read": read, "spoil": spoil}[sys.argv[1]]
    work(Path(sys.argv[2]), random.Random(os.getpid()), time.monotonic() + float(sys.argv[3]))
