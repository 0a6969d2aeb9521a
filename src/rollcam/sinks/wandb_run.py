"""Which W&B run the films go to: the trainer's, or one of the sink's own."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rollcam.errors import SettingError, require
from rollcam.sinks.wandb_api import check_alive
from rollcam.sinks.wandb_log import find_logs

START_TIMEOUT_S = 60.0
FINISH_TIMEOUT_S = 30.0
_MAX_LOGS = 1000


@dataclass(frozen=True, slots=True)
class RunChoice:
    """What the user said about the run."""

    run: Any = None
    """A live `wandb.Run`, or `None`."""
    project: str | None = None
    entity: str | None = None
    run_id: str | None = None
    mode: str | None = None
    own_run: bool = False
    key: str = "rollcam"
    fresh_id: str = field(default_factory=lambda: secrets.token_hex(4))
    """Id of a run of the sink's own that nobody named."""

    def __post_init__(self) -> None:
        if self.mode not in (None, "online", "offline", "shared", "disabled"):
            raise SettingError(f'mode must be "online" or "offline", not {self.mode!r}')
        if not isinstance(self.key, str) or not re.fullmatch(
            r"[\w.-]{1,64}(/[\w.-]{1,64})*", self.key
        ):
            raise SettingError(f"key must be letters, digits, '_', '-' and '/', not {self.key!r}")
        if self.run is not None and not hasattr(self.run, "define_metric"):
            raise SettingError(f"run must be what wandb.init() returns, not {self.run!r}")
        elsewhere = self.project or self.entity or self.run_id or self.mode
        if self.run is not None and not self.own_run and elsewhere:
            raise SettingError(
                "project, entity, run_id and mode are for a run of the sink's own; a run was given. "
                "Leave them out, or set own_run=True for a second run"
            )

    @property
    def is_ours(self) -> bool:
        """Whether the films go to a run of the sink's own, as things stand now."""
        return self.own_run or self.run_id is not None or self.trainers is None

    @property
    def trainers(self) -> Any:
        """The trainer's run, if there is one now."""
        return self.run if self.run is not None else _wandb().run

    @property
    def own_id(self) -> str:
        """Id of the sink's own run; the same after a restart, if the trainer's id is, or it was given."""
        if self.run_id:
            return self.run_id
        beside = self.trainers if self.own_run else None
        if beside is not None:
            return f"{beside.id}-{self.key.replace('/', '-')}"
        return os.environ.get("WANDB_RUN_ID") or self.fresh_id

    def target(self) -> str:
        """Entity, project and run id; `-` where only the server knows."""
        if not self.is_ours:
            run = self.trainers
            return f"{run.entity or '-'}/{run.project}/{run.id}"
        return f"{self._entity() or '-'}/{self._project() or 'uncategorized'}/{self.own_id}"

    def start(self) -> Any:
        """Start the sink's own run; `wandb.run` stays what it is."""
        wandb = _wandb()
        beside = self.trainers if self.own_run else None
        mode = self.mode
        if mode is None and beside is not None:
            mode = "offline" if beside.offline else "online"
        mode_now = mode or os.environ.get("WANDB_MODE", "online")
        is_offline = mode_now in ("offline", "dryrun")
        if mode_now in ("online", "shared"):
            check_alive("starting a W&B run")
        settings = wandb.Settings(init_timeout=START_TIMEOUT_S, silent=True, console="off")
        if hasattr(settings, "finish_timeout"):  # without it, `close` still does not wait longer
            settings.finish_timeout = FINISH_TIMEOUT_S
        return wandb.init(
            project=self._project(),
            entity=self._entity(),
            id=self._unused() if is_offline else self.own_id,
            group=(beside.group or beside.id) if beside is not None else None,
            job_type="rollouts",
            mode=mode,
            reinit="create_new",
            resume=None if is_offline else "allow",
            settings=settings,
        )

    def _unused(self) -> str:
        """An offline run cannot be resumed: synced, a second log of one id overwrites the first."""
        folder = Path(_wandb().setup().settings.wandb_dir)
        for number in range(1, _MAX_LOGS):
            candidate = _numbered(self.own_id, number)
            if not find_logs(folder, candidate):
                return candidate
        raise SettingError(f"{folder} holds {_MAX_LOGS} logs of {self.own_id}; sync and clear them")

    def _project(self) -> str | None:
        beside = self.trainers if self.own_run else None
        return (
            self.project
            or (beside.project if beside is not None else None)
            or os.environ.get("WANDB_PROJECT")
        )

    def _entity(self) -> str | None:
        beside = self.trainers if self.own_run else None
        return (
            self.entity
            or (beside.entity if beside is not None else None)
            or os.environ.get("WANDB_ENTITY")
        )


def logs_of(run: Any, *, own_id: str | None) -> Iterator[Path]:
    """Yield the transaction logs of a run, those of other processes before this one included.

    Args:
        run: The live run.
        own_id: The id that was wished for, if the run is the sink's own.
    """
    folder = Path(run.settings.sync_dir).parent
    if own_id is None:
        yield from find_logs(folder, run.id)
        return
    for number in range(1, _MAX_LOGS):
        found = find_logs(folder, _numbered(own_id, number))
        if not found:
            return
        yield from found


def _numbered(run_id: str, number: int) -> str:
    return run_id if number == 1 else f"{run_id}-{number}"


def _wandb() -> Any:
    return require("wandb", extra="wandb")
