"""What a vector environment and its caller said, checked and put into plain Python."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from rollcam._checks import is_count
from rollcam.errors import RenderModeError, RollcamWarning, SettingError


def check_render_mode(env: Any, layout: str) -> None:
    """Raise `RenderModeError` unless there is something to film."""
    mode = env.render_mode
    if mode == "rgb_array" or (mode == "ansi" and layout == "separate"):
        return
    if (
        mode is None
        or mode in ("human", "ansi")
        or mode.startswith("depth")
        or mode.endswith("_list")
    ):
        raise RenderModeError(
            f"render_mode={mode!r} gives nothing that can be filmed in a {layout} layout; make the "
            f'sub-environments with render_mode="rgb_array" (or, with layout="separate", "ansi" for '
            f"text). They offer {env.metadata.get('render_modes', [])}"
        )


def checked_indices(
    given: Sequence[int] | None, first_only: bool, num_envs: int
) -> tuple[int, ...]:
    """Return the sub-environments that may be filmed, in order."""
    if first_only:
        return (0,)
    if given is None:
        return tuple(range(num_envs))
    try:
        indices = tuple(given)
    except TypeError:
        indices = ()
    if not indices or not all(is_count(index) and index < num_envs for index in indices):
        raise SettingError(
            f"env_indices must be indices of sub-environments, from 0 to {num_envs - 1}, not {given!r}"
        )
    return tuple(sorted({int(i) for i in indices}))


def checked_aspect(aspect: Any) -> float:
    """Return the aspect ratio as width through height."""
    try:
        ratio = float(aspect[0]) / float(aspect[1])
        is_fine = len(aspect) == 2 and 0 < ratio < math.inf
    except (TypeError, ValueError, LookupError, ArithmeticError):
        is_fine = False
    if not is_fine:
        raise SettingError(f"video_aspect_ratio must be (width, height) above 0, not {aspect!r}")
    return ratio


def autoreset_mode_of(env: VectorEnv[Any, Any, Any]) -> AutoresetMode:
    """Return how episodes are reset."""
    mode = env.metadata.get("autoreset_mode")
    try:
        return AutoresetMode(mode)
    except ValueError:
        warnings.warn(
            f'{env} does not say in metadata["autoreset_mode"] how it resets episodes ({mode!r}); '
            f"NEXT_STEP is assumed",
            RollcamWarning,
            stacklevel=4,
        )
        return AutoresetMode.NEXT_STEP


def mask_of(options: Any, num_envs: int) -> list[bool] | None:
    """Return which sub-environments a reset is for: before it, as it takes the mask away."""
    mask = options.get("reset_mask") if isinstance(options, Mapping) else None
    if not isinstance(mask, np.ndarray) or mask.shape != (num_envs,):
        return None
    return bools(mask)


def seeds_of(seed: Any, num_envs: int) -> list[int | None]:
    """Return what each sub-environment is given: Gymnasium counts up from a single seed."""
    if seed is None:
        return [None] * num_envs
    if isinstance(seed, Integral):
        return [int(seed) + index for index in range(num_envs)]
    seeds = list(seed)
    return seeds if len(seeds) == num_envs else [None] * num_envs


def bools(values: Any) -> list[bool]:
    """Return flags as Python's, whichever framework's array they came in."""
    if isinstance(values, np.ndarray):
        flags: list[bool] = values.astype(bool).tolist()
        return flags
    return [bool(value) for value in values]
