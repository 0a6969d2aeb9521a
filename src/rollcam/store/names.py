"""Which files belong to a name, and how a name is taken for good, whoever else wants it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from rollcam.episode import new_id
from rollcam.errors import StoreError
from rollcam.store.claim import Standing, looking_after

HIDDEN = ".rollcam"
"""Our own corner of a recordings folder."""
SIDECAR_SUFFIX = ".meta.json"
STEPS_SUFFIX = ".steps.json"
MEDIA_SUFFIXES = (".mp4", ".cast", ".json")
ALL_SUFFIXES = (*MEDIA_SUFFIXES, SIDECAR_SUFFIX, STEPS_SUFFIX)

_MARK = ".name"
_MAX_MARK_BYTES = 100
_MAX_REFUSALS = 1000
_NAME_ERRORS = (errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EINVAL)


def partials_of(root: Path) -> Path:
    """Return where films grow, in a folder for each claim."""
    return root / HIDDEN / "partial"


def claims_of(root: Path) -> Path:
    """Return where claims lie: those of processes, and those on names."""
    return root / HIDDEN / "claims"


@contextlib.contextmanager
def taking(root: Path, wanted: str, claim_id: str) -> Iterator[str]:
    """Take `wanted`, or `wanted_2`, ... for as long as files are put in place.

    Args:
        root: The recordings folder.
        wanted: A name as `clean_name` returns it.
        claim_id: Claim of the process that takes it.

    Raises:
        StoreError: Nothing can lie there: a file is in the way of a folder, or the path is too long.
    """
    name, mark = _take(root, wanted, claim_id)
    try:
        yield name
    finally:
        # What was put in place stays; a mark that cannot be removed costs the next one a suffix.
        with contextlib.suppress(OSError):
            mark.unlink(missing_ok=True)


def forget_names(root: Path, claim_id: str) -> None:
    """Set free the names that a dead process was about to use; called within `looking_after`.

    Or by the process itself: whoever uses such a name at that moment is none the worse for it, since
    the first file of a film gets its name only where nobody has it.
    """
    claims = claims_of(root)
    for scratch in list_files(claims, f"{claim_id}.", ".tmp"):
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
    for mark in list_files(claims, "", _MARK):
        with contextlib.suppress(OSError):
            if _holder(mark) == claim_id:
                mark.unlink(missing_ok=True)


def has_marked(root: Path, name: str, claim_id: str) -> bool:
    """Whether a process has the mark on a name, or died with it: nobody else put files there."""
    return _holder(claims_of(root) / mark_name(name)) == claim_id


def list_files(folder: Path, start: str, end: str) -> list[Path]:
    """Return the files of a folder whose names start and end so; none where there is no folder."""
    try:
        paths = list(folder.iterdir())
    except OSError:
        return []
    return [path for path in paths if path.name.startswith(start) and path.name.endswith(end)]


def mark_name(name: str) -> str:
    """Return the name of the file that marks a name as taken.

    Of fixed length, and the same for names that some file system takes for the same: those that
    differ in upper and lower case, or in how an accent is coded.
    """
    same = unicodedata.normalize("NFKC", name).casefold()
    return hashlib.sha256(same.encode("utf-8", "surrogatepass")).hexdigest()[:32] + _MARK


def _take(root: Path, wanted: str, claim_id: str) -> tuple[str, Path]:
    claims = claims_of(root)
    claims.mkdir(parents=True, exist_ok=True)
    try:
        (root / wanted).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno not in _NAME_ERRORS:
            raise
        raise StoreError(f"no film can lie at {wanted!r} in {root}: {error}") from error
    n_refusals = 0
    attempt = 1
    while True:
        name = wanted if attempt == 1 else f"{wanted}_{attempt}"
        mark = claims / mark_name(name)
        try:
            if is_taken(root, name):  # seen at once, without a mark
                attempt += 1
                continue
            _make_mark(mark, claim_id)
        except FileExistsError:
            if not _set_free(claims, mark):
                attempt += 1
            continue
        except PermissionError:
            # Windows says so of a file that is just being deleted.
            n_refusals += 1
            if os.name != "nt" or n_refusals > _MAX_REFUSALS:
                raise
            continue
        # Again, now that nobody else takes it.
        if not is_taken(root, name):
            return name, mark
        mark.unlink(missing_ok=True)
        attempt += 1


def is_taken(root: Path, name: str) -> bool:
    """Whether any file of that name lies there."""
    return any(os.path.lexists(f"{root / name}{suffix}") for suffix in ALL_SUFFIXES)


def _make_mark(mark: Path, claim_id: str) -> None:
    """Make the file with its content in one step, so that nobody ever finds it empty."""
    scratch = mark.with_name(f"{claim_id}.{new_id()}.tmp")
    scratch.write_text(claim_id)
    try:
        os.link(scratch, mark)
    except FileExistsError:
        raise
    except OSError:  # the file system has no hard links
        with open(mark, "x") as file:
            file.write(claim_id)
    finally:
        scratch.unlink(missing_ok=True)


def _set_free(claims: Path, mark: Path) -> bool:
    """Remove the mark of a dead process; say whether the name may be tried again."""
    holder = _holder(mark)
    if holder is None:
        return not mark.exists()
    with looking_after(claims, holder) as standing:
        # Looked at again: while nobody looked after the dead, somebody else may have taken it.
        if standing is Standing.DEAD and _holder(mark) == holder:
            mark.unlink(missing_ok=True)
            return True
    return not mark.exists()


def _holder(mark: Path) -> str | None:
    try:
        status = mark.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_MARK_BYTES:
            return None
        return mark.read_text(encoding="ascii") or None
    except (OSError, UnicodeDecodeError):
        return None
