"""The files that gym's `Monitor` wrote beside its films: statistics of episodes, and a manifest."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from rollcam._take import as_number
from rollcam.episode import Episode
from rollcam.recovery import LivingRuns
from rollcam.store import files

FILE_PREFIX = "openaigym"
"""Every file of a monitor begins so."""


class Stats:
    """Statistics of the episodes that came to their end.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.initial_reset_timestamp: float | None = None
        self.timestamps: list[float] = []
        """When each episode ended, in seconds since 1970."""
        self.episode_lengths: list[int] = []
        self.episode_rewards: list[float] = []
        self.episode_types: list[str] = []
        """`t` for training, `e` for evaluation, as it stood when the episode began."""
        self.type = "t"
        """Of the episodes to come."""
        self.total_steps = 0
        self._steps = 0
        self._reward = 0.0
        self._type = "t"
        self._is_over = False

    def reset(self) -> None:
        """Begin an episode; one that did not come to its end is not counted."""
        if self.initial_reset_timestamp is None:
            self.initial_reset_timestamp = time.time()
        self._steps, self._reward, self._type, self._is_over = 0, 0.0, self.type, False

    def step(self, reward: Any, *, is_done: bool) -> None:
        """Count a step."""
        self.total_steps += 1
        self._steps += 1
        self._reward += as_number(reward) or 0.0  # one that is no number counts nothing
        if is_done and not self._is_over:
            self._is_over = True
            self.episode_lengths.append(self._steps)
            self.episode_rewards.append(self._reward)
            self.episode_types.append(self._type)
            self.timestamps.append(time.time())

    def told(self) -> dict[str, Any]:
        """Return what stands in the file."""
        keys = ("timestamps", "episode_lengths", "episode_rewards", "episode_types")
        told = {"initial_reset_timestamp": self.initial_reset_timestamp}
        return told | {key: list(getattr(self, key)) for key in keys}


class MonitorFiles:
    """Statistics and manifest of one monitor.

    Args:
        stats: The statistics.
        manifest: Path of the manifest.
        env_info: What it says of the environment.
    """

    def __init__(self, stats: Stats, manifest: Path, env_info: dict[str, Any]) -> None:
        self.videos: list[tuple[str, str]] = []
        """Paths of the finished films and of their metadata, in the order of their episodes."""
        self._stats = stats
        self._manifest = manifest
        self._env_info = env_info
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def add(self, episode: Episode) -> None:
        """Note a finished film; called on the recorder's thread."""
        if episode.media_path is not None and episode.sidecar_path is not None:
            with self._lock:
                self.videos.append((str(episode.media_path), str(episode.sidecar_path)))
                self.videos.sort()

    def save(self) -> None:
        """Write both files: whole, or not at all."""
        if os.getpid() != self._pid:  # a forked child's: the files are its parent's
            return
        with self._lock:
            # What `keep` deleted is not told.
            kept = [pair for pair in self.videos if os.path.exists(pair[0])]
        _write(Path(self._stats.path), self._stats.told())
        told = {
            "stats": os.path.basename(self._stats.path),
            "videos": [[os.path.basename(path) for path in pair] for pair in kept],
            "env_info": self._env_info,
        }
        _write(self._manifest, told)

    def save_quietly(self) -> None:
        """Write both, for a monitor that nobody closed."""
        with contextlib.suppress(OSError):
            self.save()


def find_manifests(folder: Path) -> list[str]:
    """Return the names of the manifests in a folder."""
    return sorted(p.name for p in folder.iterdir() if p.name.startswith(f"{FILE_PREFIX}.manifest."))


def clear_monitor_files(folder: Path) -> None:
    """Delete the files of monitors, but those of films that somebody still writes."""
    living = LivingRuns(folder)
    spared: set[Path] = set()
    for episode in files.list_episodes(folder).episodes:
        if episode.run_id in living:
            spared.update(files.own_files(episode))
    for path in list(folder.iterdir()):
        if path.name.startswith(f"{FILE_PREFIX}.") and path.is_file() and path not in spared:
            path.unlink(missing_ok=True)


def gym_version() -> str | None:
    """Return the version of the gym that is loaded, `None` when none is."""
    version = getattr(sys.modules.get("gym"), "__version__", None)
    return version if isinstance(version, str) else None


def _write(path: Path, told: dict[str, Any]) -> None:
    scratch = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        scratch.write_text(json.dumps(told), encoding="utf-8")
        scratch.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise
