"""How far the deliveries of a film are, as the ledger has it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rollcam.errors import StoreError
from rollcam.publish.ledger import FILE_NAME, Ledger
from rollcam.store.names import HIDDEN

_TOLD = (
    "sink", "target", "state", "attempts", "reason", "reference", "queued_at", "sent_at", "ended_at",
)  # fmt: skip


def deliveries_of(root: Path, episode_id: str) -> list[dict[str, Any]]:
    """Return what the ledger of a folder says of one film; nothing, where it cannot be read."""
    path = root / HIDDEN / FILE_NAME
    # A link could lead to anybody's database; and looking must not make anything.
    if path.is_symlink() or (root / HIDDEN).is_symlink() or not path.is_file():
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
