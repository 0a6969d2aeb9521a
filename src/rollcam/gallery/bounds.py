"""Nothing outside the folders is ever opened: where a path really leads, and whether it may."""

from __future__ import annotations

import os
from pathlib import Path

from rollcam.store.names import HIDDEN


def inside(root: Path, relative: str) -> Path | None:
    """Return the file of that name in a folder, links resolved; `None` if it would lie elsewhere.

    Args:
        root: Absolute, links resolved.
        relative: Hostile text, with `/`.
    """
    parts = relative.split("/")
    odd = {"", ".", "..", HIDDEN}
    if "\0" in relative or odd.intersection(parts) or len(relative) > 4096:
        return None
    if os.name == "nt" and any(c in relative for c in '\\:*?"<>|'):
        return None
    return within(root, root.joinpath(*parts))


def within(root: Path, path: Path) -> Path | None:
    """Return a path with its links resolved, unless that is outside the folder, or in our corner."""
    try:
        real = Path(os.path.realpath(path, strict=True))
    except (OSError, ValueError):
        return None
    if not real.is_relative_to(root) or HIDDEN in real.relative_to(root).parts:
        return None
    return real
