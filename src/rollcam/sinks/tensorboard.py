"""TensorBoard: the film itself for our plugin, and an animated preview for the stock image tab."""

from __future__ import annotations

import datetime
import os
import shlex
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from rollcam.episode import Episode
from rollcam.errors import RollcamError, SettingError, SinkError, SinkRefused, require
from rollcam.publish.sink import Delivery
from rollcam.sinks.facts import clean_id, facts_of, film_id
from rollcam.sinks.files import copy_whole
from rollcam.sinks.tensorboard_events import PreviewLog
from rollcam.sinks.tensorboard_films import (
    FACTS_SUFFIX,
    FOLDER,
    Film,
    facts_json,
    is_whole,
    read_facts,
)
from rollcam.store.layout import write_atomically


class TensorBoardSink:
    """Puts films where TensorBoard looks, in a folder `rollcam` inside the run's log directory.

    Beside the film of a text episode lies its text recording.

    Needs no server: TensorBoard reads the directory, now or later. The preview lies in event files
    of its own, beside the trainer's and never in them.

    Args:
        logdir: The run's log directory, as given to `SummaryWriter`; made when it does not exist.
        preview: Whether to write an animated preview for the image tab as well.

    Raises:
        SettingError: `logdir` is no path.
        MissingDependencyError: `tensorboard` is not installed.
    """

    name = "tensorboard"

    def __init__(self, logdir: str | os.PathLike[str], *, preview: bool = True) -> None:
        if not isinstance(logdir, str | os.PathLike) or not os.fspath(logdir):
            raise SettingError(f"logdir is {logdir!r}; expected the run's log directory")
        require("tensorboard.summary.writer.record_writer", extra="tensorboard")
        self.target = os.path.abspath(logdir)
        self.cli_options = f"--to tensorboard --logdir {shlex.quote(self.target)}"
        self._folder = Path(self.target) / FOLDER
        self._previews = PreviewLog(self._folder) if preview else None

    def publish(self, delivery: Delivery) -> str:
        """Copy a film into the log directory; return its path.

        A film whose content changed takes the place of the old one.

        Raises:
            SinkError: The directory could not be written to this time.
            SinkRefused: The film is gone, or holds no picture.
        """
        try:
            return str(self._publish(delivery))
        except OSError as error:
            if not delivery.media.is_file():
                raise SinkRefused(f"the film {delivery.media} is gone: {error}") from error
            raise SinkError(f"{self._folder} cannot be written to: {error}") from error

    def stored(self, deliveries: Sequence[Delivery]) -> Collection[str]:
        """Return the ids of the episodes whose facts and film lie in the log directory, whole."""
        return {d.episode.episode_id for d in deliveries if self._holds(d) is not None}

    def close(self) -> None:
        """Nothing is held open."""

    def _publish(self, delivery: Delivery) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        facts_path = self._facts_path(delivery)
        known = self._holds(delivery)
        if known is None:
            before = read_facts(facts_path)
            film = self._film(delivery)
            copy_whole(delivery.media, self._folder / film.file)
            if delivery.text is not None:
                copy_whole(delivery.text, self._text_of(film))
            self._preview(delivery, film.step)
            write_atomically(facts_path, facts_json(film), facts_path.with_suffix(".part"))
            if before is not None and before.file != film.file:
                (self._folder / before.file).unlink(missing_ok=True)
                self._text_of(before).unlink(missing_ok=True)
            known = film
        if self._previews is not None:
            self._previews.forget(film_id(delivery))
        return self._folder / known.file

    def _holds(self, delivery: Delivery) -> Film | None:
        film = read_facts(self._facts_path(delivery))
        if film is None or film.sha256 != delivery.sha256 or not is_whole(self._folder, film):
            return None
        return film

    def _text_of(self, film: Film) -> Path:
        return (self._folder / film.file).with_suffix(".cast")

    def _facts_path(self, delivery: Delivery) -> Path:
        return self._folder / f"{clean_id(delivery.episode.episode_id)}{FACTS_SUFFIX}"

    def _film(self, delivery: Delivery) -> Film:
        episode, facts = delivery.episode, facts_of(delivery.episode)
        return Film(
            episode_id=episode.episode_id,
            sha256=delivery.sha256,
            file=f"{film_id(delivery)}.mp4",
            step=facts.step,
            caption=facts.caption,
            name=episode.name,
            mode=episode.mode,
            ended_at=episode.ended_at or episode.started_at or "",
            size_bytes=delivery.media.stat().st_size,
            fps=episode.output_fps or episode.fps,
            scalars=facts.scalars,
        )

    def _preview(self, delivery: Delivery, step: int) -> None:
        if self._previews is None:
            return
        try:
            self._previews.add(
                film_id(delivery), delivery.media, step, _wall_time(delivery.episode)
            )
        except SinkError:
            raise
        except RollcamError as error:
            raise SinkRefused(f"no preview can be made of {delivery.media}: {error}") from error


def _wall_time(episode: Episode) -> float:
    try:
        return datetime.datetime.fromisoformat(episode.ended_at or "").timestamp()
    except (ValueError, OverflowError, OSError):
        return time.time()
