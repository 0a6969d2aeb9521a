"""What the doctor found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "note", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    """What was looked at, such as `codec libx264`."""
    status: Status
    """`failed`: films will be missing. `warning`: something may surprise you. `note`: to know."""
    message: str
    """What was found."""
    cure: str | None = None
    """What to do about it."""
