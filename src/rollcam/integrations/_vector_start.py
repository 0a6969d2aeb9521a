"""What films a vector environment: a recorder in this process, or one in each child."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from rollcam.episode import new_id
from rollcam.errors import RollcamWarning, SettingError
from rollcam.integrations._tiles import Tiles
from rollcam.integrations._vector_children import Children
from rollcam.integrations._vector_films import EnvFilms, Plan, n_threads
from rollcam.integrations._vector_frames import (
    AnyFrames,
    AsyncFrames,
    FrameSource,
    SyncFrames,
    base_of,
)
from rollcam.integrations._vector_layouts import Filming, View
from rollcam.integrations._vector_worker import InWorkers
from rollcam.recorder import Recorder
from rollcam.recovery import LivingRuns
from rollcam.store.files import clear

_NOT_IN_CHILDREN = (
    "Rollcam could not be put into some workers ({}). Frames are still taken, but an error of a renderer "
    "ends its worker, and under SAME_STEP autoreset the last frame of each episode is missing. A worker "
    "of your own lets Rollcam in when it keeps its environment in a local variable `env` and its pipe in "
    "`pipe`, as Gymnasium's does"
)
_NO_LAST_FRAMES = (
    "{} resets episodes within their last step and renders all sub-environments at once, so the last "
    "frame of each episode cannot be filmed. With NEXT_STEP or DISABLED autoreset, with SyncVectorEnv or "
    "with AsyncVectorEnv it can"
)

AnyVectorEnv = VectorEnv[Any, Any, Any]


def film_in_workers(
    env: AnyVectorEnv,
    settings: Mapping[str, Any],
    plan: Plan,
    indices: tuple[int, ...],
    mode: AutoresetMode,
) -> InWorkers:
    """Have each child film itself.

    Args:
        env: The vector environment, with its wrappers.
        settings: Of each child's recorder.
        plan: What is filmed.
        indices: The sub-environments that may be filmed.
        mode: How episodes are reset.

    Raises:
        SettingError: It has no children, or something cannot be done in them.
    """
    base = base_of(env)
    if not isinstance(base, AsyncVectorEnv) or not plan.is_named_by_env:
        raise SettingError(
            'record_in="workers" needs an AsyncVectorEnv and layout="separate"; elsewhere there is '
            "no worker that could film one sub-environment"
        )
    if settings["sinks"]:
        raise SettingError(
            'sinks need record_in="parent": children have no tracker of their own. Publish their '
            "films with: rollcam publish DIR --to ..."
        )
    if not settings["resume"]:
        # Here and now: later, a child would clear what another has filmed.
        folder = Path(settings["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        clear(folder, spare=LivingRuns(folder))
    recorder = {**settings, "resume": True, "run_id": new_id()}
    context = recorder.pop("context")
    return InWorkers(Children(base, indices), recorder, plan, context, mode.name)


def film_in_parent(
    env: AnyVectorEnv,
    settings: Mapping[str, Any],
    plan: Plan,
    indices: tuple[int, ...],
    tiles: Tiles,
    mode: AutoresetMode,
) -> tuple[Recorder, Filming]:
    """Film with a recorder in this process.

    Args:
        env: The vector environment, with its wrappers.
        settings: Of the recorder.
        plan: What is filmed.
        indices: The sub-environments that may be filmed; in one picture, the first is the clock.
        tiles: Joins their frames, where one picture shows all.
        mode: How episodes are reset.
    """
    source = _source_of(env, indices, mode)
    is_tiled = not plan.is_named_by_env
    recorder = Recorder(**settings, **source.about(), threads=n_threads(indices, is_tiled=is_tiled))
    if is_tiled:
        clock = indices[0]
        camera = recorder.camera(vector_index=clock if len(indices) == 1 else None)
        views = [View(EnvFilms(camera, clock, plan), indices, tiles)]
    else:
        views = [
            View(EnvFilms(recorder.camera(vector_index=i), i, plan), (i,), None) for i in indices
        ]
    return recorder, Filming(views, source, mode)


def _source_of(env: AnyVectorEnv, indices: tuple[int, ...], mode: AutoresetMode) -> FrameSource:
    base = base_of(env)
    if isinstance(base, SyncVectorEnv):
        return SyncFrames(base, indices, mode)
    if isinstance(base, AsyncVectorEnv):
        source = AsyncFrames(Children(base, indices), mode)
        if source.problems:
            warnings.warn(_NOT_IN_CHILDREN.format("; ".join(source.problems)), RollcamWarning, 4)
        return source
    if mode is AutoresetMode.SAME_STEP:
        warnings.warn(_NO_LAST_FRAMES.format(env), RollcamWarning, stacklevel=4)
    return AnyFrames(env)
