"""Every name on disk: where films grow, how they are named, and how files come to their names."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import string
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rollcam.errors import SettingError, StoreError
from rollcam.store.claim import Claim
from rollcam.store.names import HIDDEN, claims_of, partials_of

_UNSAFE_IN_VALUE = re.compile(r'[<>:"|?*\\/\x00-\x1f\x7f]')
_UNSAFE_IN_NAME = re.compile(r"[\x00-\x1f\x7f]" if os.name != "nt" else r'[<>:"|?*\\\x00-\x1f\x7f]')
# Windows reserves these names with any extension (Win32, "Naming Files, Paths, and Namespaces").
_RESERVED = re.compile(
    r"^(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?$", re.IGNORECASE
)
_LONG_SPEC = re.compile(r"[0-9]{3,}")
_MAX_PART = 180
_RESERVE_BYTES = 16 * 1024
_NO_LINKS = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)
"""What file systems say that have no hard links."""
RESERVE = "reserve"
"""File of zeros beside the growing films: room for the sidecar that says that the disk was full."""


def clean_name(name: str) -> str:
    """Return `name` as a relative path that stays inside the folder.

    Args:
        name: May hold `/`; empty parts, `.` and `..` are dropped, control characters (and on
            Windows what it forbids) become `_`.

    Raises:
        SettingError: Nothing is left of it.
    """
    parts = []
    for raw in name.replace(os.sep, "/").split("/"):
        part = _UNSAFE_IN_NAME.sub("_", raw).strip()
        if os.name == "nt":
            part = part.rstrip(". ")
        # File systems of macOS and Windows do not tell upper case from lower.
        if part in ("", ".", "..") or part.lower() == HIDDEN:
            continue
        part = f"_{part}" if _RESERVED.match(part) else part
        # A name of 255 bytes is the usual limit; room is left for suffixes.
        parts.append(part.encode("utf-8", "replace")[:_MAX_PART].decode("utf-8", "ignore"))
    if not parts:
        raise SettingError(f"{name!r} is no name for a file")
    return "/".join(parts)


class NameTemplate:
    """A name with fields, such as `{env_id}-{iteration}-{episode_index:06d}`.

    Fields are plain names; which of them exist is known only when the episode ends, since contexts
    and infos bring their own. A field that does not exist then reads `none`.

    Args:
        template: Text with fields as in `str.format`.

    Raises:
        SettingError: It cannot be parsed, or a field is more than a plain name.
    """

    def __init__(self, template: str) -> None:
        self.text = template
        """What it was made from."""
        try:
            parsed = list(string.Formatter().parse(template))
        except ValueError as error:
            raise SettingError(f"name={template!r} is no template: {error}") from error
        self._parts = [(text, field, spec or "") for text, field, spec, _ in parsed]
        for _, field, spec, conversion in parsed:
            spec = spec or ""
            is_plain = field is None or field.isidentifier()
            if not is_plain or conversion or "{" in spec or _LONG_SPEC.search(spec):
                raise SettingError(
                    f"name={template!r} has the field {field!r}; only plain names with a width of "
                    f"at most 99 are allowed, such as {{iteration}} or {{episode_index:06d}}"
                )
        clean_name(self.fill({}))

    def fill(self, values: Mapping[str, Any]) -> str:
        """Return the name with `values` filled in; values cannot add folders or odd characters."""
        pieces = []
        for text, field, spec in self._parts:
            pieces.append(text)
            if field is not None:
                pieces.append(_formatted(values.get(field), spec))
        return "".join(pieces)


def _formatted(value: Any, spec: str) -> str:
    if value is None:
        return "none"
    try:
        text = format(value, spec)
    except (TypeError, ValueError):
        try:
            text = format(int(value), spec)
        except (TypeError, ValueError, OverflowError):
            text = str(value)
    clean = _UNSAFE_IN_VALUE.sub("_", text)[:80]
    # What is only dots and blanks would be no name, or another folder's.
    return clean if clean.strip(". ") else "_"


class Folder:
    """A recordings folder that this process writes to.

    Films grow in `.rollcam/partial/{claim_id}`; the claim says that their writer lives.

    Args:
        root: The folder that the user named; made when it does not exist.
        run_id: The run that the films belong to.

    Raises:
        StoreError: It cannot be made, or not be written to.
    """

    def __init__(self, root: str | os.PathLike[str], run_id: str = "") -> None:
        self.root = Path(os.path.abspath(root))
        try:
            self._make()
            for place in (self.root, partials_of(self.root)):
                with tempfile.TemporaryFile(dir=place):
                    pass
            self.claim = Claim(claims_of(self.root), run_id, os.getpid())
        except (OSError, ValueError) as error:
            raise StoreError(
                f"the recordings folder {self.root} cannot be written to: {error}. "
                f"Choose another folder, or make this one writable."
            ) from error

    @property
    def growing(self) -> Path:
        """Where the films of this process grow."""
        return partials_of(self.root) / self.claim.claim_id

    def make(self) -> None:
        """Make the folder, and our own in it; again, if somebody deleted it meanwhile.

        Raises:
            OSError: It cannot be made.
            StoreError: The claim on it cannot be held.
        """
        reserve = self.growing / RESERVE
        is_there = reserve.exists()
        # Asked three times for a film, and each call takes the interpreter from the training.
        if is_there and self.claim.is_in_place:
            return
        self._make()
        self.claim.renew()
        self.growing.mkdir(exist_ok=True)
        if not is_there:
            # A disk that is full already has no reserve; its films say so themselves.
            with contextlib.suppress(OSError):
                reserve.write_bytes(bytes(_RESERVE_BYTES))

    def spend_reserve(self) -> None:
        """Make room for a sidecar on a full disk."""
        with contextlib.suppress(OSError):
            (self.growing / RESERVE).unlink(missing_ok=True)

    def release(self, *, keep: bool = False) -> None:
        """Say that this process writes here no more. May be called twice.

        Args:
            keep: Something was left behind; the claim stays as that of a dead process does, so that
                whoever opens the folder next finishes it.
        """
        self.spend_reserve()
        with contextlib.suppress(OSError):
            self.growing.rmdir()
        # What could not be removed needs a claim that says whose it was.
        self.claim.release(keep=keep or self.growing.is_dir())

    def partial(self, episode_id: str, suffix: str) -> Path:
        """Return where the film of an episode grows."""
        return self.growing / f"{episode_id}{suffix}"

    def _make(self) -> None:
        for folder in (partials_of(self.root), claims_of(self.root)):
            folder.mkdir(parents=True, exist_ok=True)


def write_atomically(target: Path, data: bytes, scratch: Path, *, is_new: bool = False) -> None:
    """Write a file so that it appears complete, or not at all.

    Args:
        target: The file.
        data: Its content.
        scratch: A path on the same file system that nobody else uses.
        is_new: Nothing may lie there; otherwise it is replaced.

    Raises:
        FileExistsError: Something lies there that may not.
        OSError: The disk is full, or gone.
    """
    try:
        with open(scratch, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        (place_new if is_new else replace_patiently)(scratch, target)
    except BaseException:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise


def replace_patiently(source: Path, target: Path, *, attempts: int = 40) -> None:
    """Rename over a file; on Windows again, while a reader or a scanner has it open.

    Args:
        source: The file; stays where it is when the rename fails for good.
        target: Its new name; a file there is replaced.
        attempts: Tries on Windows, 50 ms apart.
    """
    _patiently(lambda: os.replace(source, target), attempts)


def place_new(source: Path, target: Path, *, attempts: int = 40) -> None:
    """Rename a file to a name that nobody has; decided by the file system, in one step.

    To look first and rename then would overwrite what came in between, or what the cache of a
    network file system does not know of yet.

    Args:
        source: The file; stays where it is when that fails.
        target: Its new name.
        attempts: Tries on Windows, 50 ms apart.

    Raises:
        FileExistsError: Something lies there.
        OSError: The disk is full, or gone.
    """
    if os.name == "nt":  # where a rename never replaces anything
        _patiently(lambda: os.rename(source, target), attempts)
        return
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, "something lies there", str(target)) from None
        os.rename(source, target)
        return
    # Both names are those of one file now; that the old one stays for a while harms nothing.
    with contextlib.suppress(OSError):
        source.unlink()


def _patiently(rename: Callable[[], None], attempts: int) -> None:
    for attempt in range(attempts):
        try:
            rename()
            return
        except OSError as error:
            is_held = os.name == "nt" and isinstance(error, PermissionError)
            if not is_held or attempt == attempts - 1:
                raise
            threading.Event().wait(0.05)
