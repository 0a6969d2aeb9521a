"""`WandbSink`: films in a Weights & Biases run, on a step axis of their own."""

from __future__ import annotations

import shlex
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from rollcam.errors import SinkError, SinkRefused, require
from rollcam.publish.sink import Delivery
from rollcam.sinks import wandb_run
from rollcam.sinks.facts import caption_of, film_id
from rollcam.sinks.files import copy_whole
from rollcam.sinks.wandb_api import Bounded, RunOnServer
from rollcam.sinks.wandb_evidence import Evidence, Film, OnDisk, OnServer
from rollcam.sinks.wandb_log import VideoRow, await_end
from rollcam.sinks.wandb_row import guard_of, row_facts
from rollcam.sinks.wandb_run import RunChoice, logs_of

HAND_OVER_TIMEOUT_S = 100.0
REPAIR_AFTER_S = 30.0
"""wandb uploads by itself some seconds after the hand-over; we do not race it."""
CONFIRM_AFTER_S = 5.0
"""Films take seconds to be uploaded, or to stand in an offline run's log, and each question takes the
interpreter from the training some dozen times."""
END_TIMEOUT_S = 10.0
"""wandb-core writes the end of an offline run's log after `finish` has returned."""


class WandbSink:
    """Publishes films into a W&B run.

    Each film is in a row of the run's history, under `{key}/video`, with `{key}/step`,
    `{key}/return`, `{key}/length`, `{key}/seed`, `{key}/fps` and `{key}/context/...` beside it. Media
    panels take `{key}/step` as their axis, so that a film published late appears where it belongs.
    The text recording of a text episode is among the run's files, under the name in `{key}/cast`.

    A trainer that logs to the same run loses nothing by it. Where films have to wait for the
    trainer to finish a row, the second one is `{key}-2/video`, and so on.

    Args:
        run: The run to publish into; the sink never finishes it. Default: the `wandb.run` of the
            moment when the first film is published, or, if there is none, a run of the sink's own.
        project: For a run of the sink's own, which `close` finishes.
        entity: The same.
        run_id: The same; a run of that id is resumed.
        mode: The same: `"online"` or `"offline"`; default: wandb's own setting.
        own_run: Publish into a second run beside the trainer's, in the same group, so that nothing
            of the trainer's is touched.
        key: Prefix of the keys.
        commits: Give each film a row of its own at once, in a trainer's run too, so that any number
            of films goes between two rows of the trainer. Only for a trainer whose every `log` is a
            whole row: one that names no `step=` and never says `commit=False`.

    Raises:
        MissingDependencyError: wandb is not installed.
        SettingError: The arguments contradict each other.
    """

    name = "wandb"
    bytes_per_min = 40_000_000
    """What W&B's own page of limits recommends."""
    confirm_after_s = CONFIRM_AFTER_S

    def __init__(
        self,
        run: Any = None,
        *,
        project: str | None = None,
        entity: str | None = None,
        run_id: str | None = None,
        mode: str | None = None,
        own_run: bool = False,
        key: str = "rollcam",
        commits: bool = False,
    ) -> None:
        self._wandb = require("wandb", extra="wandb")
        self._choice = RunChoice(run, project, entity, run_id, mode, own_run, key)
        self._commits = commits
        self._bounded = Bounded()
        self._run: Any = None
        self._is_ours = False
        self._target = ""
        self._handed: dict[Film, float] = {}
        self._rows: Mapping[Film, VideoRow] = {}
        self._stored: set[Film] = set()
        self._evidence: Evidence | None = None
        self._start_error: Exception | None = None
        self._has_asked = False
        self._has_awaited_end = False
        self._is_closed = False
        self._is_hurried = False
        self.repair_after_s = REPAIR_AFTER_S

    @property
    def target(self) -> str:
        """`entity/project/run_id`; `-` for an entity that only the server knows.

        Settled by the first film, or before that by the `wandb.run` of the moment.
        """
        return self._target or self._choice.target()

    @property
    def cli_options(self) -> str:
        """What `rollcam publish DIR` has to be told to go on with this run."""
        entity, project, run_id = map(shlex.quote, self.target.split("/"))
        of = "" if entity == "-" else f" --entity {entity}"
        is_for_command = self._choice.mode in ("online", "offline")
        mode = f" --mode {self._choice.mode}" if is_for_command else ""
        key = f" --key {self._choice.key}" if self._choice.key != "rollcam" else ""
        return f"--to wandb --project {project}{of} --run-id {run_id}{mode}{key}"

    def publish(self, delivery: Delivery) -> str:
        """Hand one film over to wandb, which copies it at once and uploads it later.

        Raises:
            SinkError: It did not work this time; or the trainer's row is full of films.
            SinkRefused: The film is gone, or the run is disabled.
        """
        film = _film(delivery)
        run = self._bind()
        if self._was_handed(film):
            return self._reference(film)
        if getattr(run, "_is_finished", False):
            raise SinkError(
                f"the W&B run {self.target} is finished; what is left is sent by "
                f"`rollcam publish DIR {self.cli_options}`"
            )
        if not delivery.media.is_file():
            raise SinkRefused(f"there is no film {delivery.media}")
        self._bounded(
            f"handing {delivery.episode.name} over to W&B",
            lambda: self._hand_over(delivery),
            HAND_OVER_TIMEOUT_S,
        )
        return self._reference(film)

    def stored(self, deliveries: Sequence[Delivery]) -> Collection[str] | None:
        """Return the episodes whose row and whole film have arrived.

        Online, as the server lists them; a film that is missing from a row there is uploaded again.
        Offline, as the run's transaction log and media folder have them. `None` while films wait in
        a row that is the trainer's to commit, and at the end of the training while they wait for
        wandb-core to write out the log of an offline run: they are neither there nor lost.

        Raises:
            SinkError: The server could not be asked, or a film could not be uploaded again.
        """
        if self._is_closed and self._run is None:
            return None
        is_riding = self._settle(self._bind())
        waiting = {_film(d): d for d in deliveries if _film(d) not in self._stored}
        if waiting:
            self._await_end()
            self._look_for(waiting)
        arrived = {d.episode.episode_id for d in deliveries if _film(d) in self._stored}
        # wandb-core writes an offline run's log out every 15 s: who closes does not wait for that.
        is_unwritten = (
            self._is_hurried
            and self._run.offline
            and not self._is_finished
            and waiting.keys() <= self._handed.keys()
        )
        return None if waiting and not arrived and (is_riding or is_unwritten) else arrived

    def hurry(self, is_closing: bool) -> None:
        """Wait for the trainer's rows no longer than a moment: the training ends, and waits for us."""
        self._is_hurried = is_closing
        if self._run is not None:
            guard_of(self._run).is_hurried = is_closing

    def close(self) -> None:
        """Finish the run if it is the sink's own; the trainer's goes on."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._is_ours:
            self._bounded(
                "finishing the W&B run", self._run.finish, wandb_run.FINISH_TIMEOUT_S + 5.0
            )

    def _bind(self) -> Any:
        if self._run is None:
            target, is_ours = self._choice.target(), self._choice.is_ours
            own_id = self._choice.own_id if is_ours else None
            if is_ours:
                limit = wandb_run.START_TIMEOUT_S + 10.0
                run = self._bounded("starting a W&B run", self._start, limit)
            else:
                run = self._choice.trainers
            if run.disabled:
                raise SinkRefused('the W&B run is disabled (mode="disabled"), so it takes no films')
            guard = guard_of(run, is_ours=is_ours or self._commits)
            guard.is_hurried = self._is_hurried
            self._evidence = self._evidence_of(run, own_id)
            self._run, self._is_ours, self._target = run, is_ours, target
        return self._run

    def _start(self) -> Any:
        try:
            return self._choice.start()
        except Exception as error:
            # wandb-core keeps a run whose start failed, and calls it "in use" in this process.
            if self._start_error is not None and "in use" in str(error):
                raise SinkError(
                    f"starting a W&B run: {self._start_error}; wandb tries it again in another "
                    f"process only: rollcam publish DIR {self.cli_options}"
                ) from error
            self._start_error = error
            raise

    def _settle(self, run: Any) -> bool:
        """Return whether films still wait in the run's open row, which may be ours to commit."""
        if getattr(run, "_is_finished", False):
            return False
        guard = guard_of(run)
        self._bounded("looking at the run's step", guard.settle, HAND_OVER_TIMEOUT_S)
        return guard.has_riders

    @property
    def _is_finished(self) -> bool:
        return bool(getattr(self._run, "_is_finished", False))

    def _await_end(self) -> None:
        """Let wandb-core write out the log of a run that is over; once, since it may have died."""
        run = self._run
        if run.offline and self._is_finished and not self._has_awaited_end:
            self._has_awaited_end = True
            await_end(Path(run.settings.sync_file), END_TIMEOUT_S)

    def _evidence_of(self, run: Any, own_id: str | None) -> Evidence:
        if run.offline:
            return OnDisk(lambda: logs_of(run, own_id=own_id))
        server = RunOnServer(
            f"{run.entity}/{run.project}/{run.id}",
            base_url=run.settings.base_url,
            bounded=self._bounded,
        )
        return OnServer(server, self._choice.key)

    def _hand_over(self, delivery: Delivery) -> None:
        facts = row_facts(delivery)
        if delivery.text is not None:
            facts["cast"] = self._save_text(delivery, delivery.text)
        video = self._wandb.Video(str(delivery.media), caption=caption_of(delivery.episode))

        def row(prefix: str) -> dict[str, Any]:
            beside = {f"{prefix}/{name}": value for name, value in facts.items()}
            return {f"{prefix}/video": video, **beside}

        guard_of(self._run).put(self._choice.key, row)
        # Noted here, so that it counts even when whoever waits for it has given up.
        self._handed[_film(delivery)] = time.monotonic()

    def _save_text(self, delivery: Delivery, text: Path) -> str:
        """Put a text recording among the run's files; before the row, which names it."""
        name = _text_name(delivery)
        copy = Path(self._run.dir) / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy_whole(text, copy)
        self._run.save(str(copy), base_path=self._run.dir, policy="now")
        return name

    def _was_handed(self, film: Film) -> bool:
        """Whether it was handed over, by us or by a process before us, as the run itself says."""
        if film in self._handed or film in self._stored or film in self._rows:
            return True
        if not self._has_asked and (self._run.offline or self._run.resumed):
            assert self._evidence is not None
            self._rows = dict(self._evidence.rows())
        self._has_asked = True
        return film in self._rows

    def _look_for(self, waiting: Mapping[Film, Delivery]) -> None:
        assert self._evidence is not None
        if not waiting.keys() <= self._rows.keys():
            self._rows = dict(self._evidence.rows())
        rows = {film: self._rows[film] for film in waiting if film in self._rows}
        if not rows:
            return
        arrived = self._evidence.arrived(rows)
        for film in arrived:
            self._complete(waiting[film])
        self._stored |= arrived
        for film, row in rows.items():
            if film not in self._stored and self._is_overdue(film):
                self._evidence.repair(row, self._copies(waiting[film], row))
                self._complete(waiting[film])
                self._stored.add(film)

    def _complete(self, delivery: Delivery) -> None:
        assert self._evidence is not None
        if delivery.text is not None:
            self._evidence.complete(_text_name(delivery), delivery.text)

    def _is_overdue(self, film: Film) -> bool:
        handed = self._handed.get(film)
        return handed is None or time.monotonic() - handed > self.repair_after_s

    def _copies(self, delivery: Delivery, row: VideoRow) -> list[Path]:
        """Return where the film's bytes may lie: in the run's own folder, or where they came from."""
        return [Path(self._run.dir) / row.path, delivery.media]

    def _reference(self, film: Film) -> str:
        row = self._rows.get(film)
        return f"{self.target}/{row.path}" if row else f"{self.target}/{self._choice.key}"


def _film(delivery: Delivery) -> Film:
    return delivery.episode.episode_id, delivery.sha256


def _text_name(delivery: Delivery) -> str:
    return f"casts/{film_id(delivery)}.cast"
