"""Copies of films that are complete or not there at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from rollcam.store.layout import replace_patiently


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file so that it appears complete or not at all; a file at `target` is replaced."""
    scratch = target.with_suffix(".part")
    try:
        with open(source, "rb") as reader, open(scratch, "wb") as writer:
            shutil.copyfileobj(reader, writer, 2**20)
            writer.flush()
            os.fsync(writer.fileno())
        replace_patiently(scratch, target)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
