"""How far the deliveries of a film are, as the ledger has it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rollcam.errors import StoreError
from rollcam.publish.ledger import FILE_NAME, Ledger
from rollcam.store.names import HIDDEN

_COUNTER = slice(24, 28)
"""Where SQLite counts, in the head of a database, how often it was written to."""
_TOLD = (
    "sink", "target", "state", "attempts", "reason", "reference", "queued_at", "sent_at", "ended_at",
)  # fmt: skip


def deliveries_of(root: Path, episode_id: str) -> list[dict[str, Any]]:
    """Return what the ledger of a folder says of one film; nothing, where it cannot be read."""
    path = _ledger_of(root)
    if path is None:
        return []
    try:
        entries = Ledger(os.fspath(path)).of_episode(episode_id)
    except StoreError:
        return []
    told = []
    for entry in entries:
        values = {name: getattr(entry, name) for name in _TOLD}
        told.append({**values, "state": str(entry.state)})
    return told


def stamp_of(roots: Iterable[Path]) -> str:
    """Return what is another as soon as anything is written to the ledger of a folder."""
    told = []
    for root in roots:
        path = _ledger_of(root)
        try:
            if path is None:
                told.append("")
                continue
            with open(path, "rb") as file:
                told.append(f"{os.fstat(file.fileno()).st_ino:x}.{file.read(28)[_COUNTER].hex()}")
        except OSError:
            told.append("")
    return "-".join(told)


def _ledger_of(root: Path) -> Path | None:
    path = root / HIDDEN / FILE_NAME
    # A link could lead to anybody's database; and looking must not make anything.
    if path.is_symlink() or (root / HIDDEN).is_symlink() or not path.is_file():
        return None
    return path
