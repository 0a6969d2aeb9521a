"""What a page asks for, as it stands in an address: filters, search, order. All of it is hostile.

For example::

    ?q=lander&is=env_id=LunarLander-v3&is=mode=eval&in=episode_return=100..&sort=-episode_return
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from rollcam.errors import SettingError
from rollcam.store.columns import COLUMNS

FOLDER = "folder"
"""Not a column of the index: which of the folders shown an episode lies in."""

_MAX_TEXT = 500
_MAX_CONDITIONS = 100
_WORDS: dict[str, Any] = {"": None, "null": None, "true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Question:
    """Which episodes, in which order."""

    where: dict[str, Any] = field(default_factory=dict)
    """As of `rollcam.Catalog.select`."""
    text: str | None = None
    """Words that must all be found."""
    sort: tuple[str, ...] = ("-started_at",)
    """Columns; `-` in front for largest first."""
    folders: frozenset[str] | None = None
    """Labels; `None`: all."""

    @property
    def key(self) -> str:
        """Names it in a cache."""
        return repr((self.where, self.text, self.sort, sorted(self.folders or ["\0"])))

    def without(self, column: str) -> Question:
        """Return the question without its condition on a column."""
        if column == FOLDER:
            return replace(self, folders=None)
        return replace(self, where={k: v for k, v in self.where.items() if k != column})


def read_question(pairs: Iterable[tuple[str, str]]) -> Question:
    """Read the parameters of an address; those that are none of ours are left alone.

    Args:
        pairs: Names and values.

    Raises:
        SettingError: One of them says nothing that can be asked.
    """
    where: dict[str, Any] = {}
    text: str | None = None
    sort: list[str] = []
    folders: set[str] = set()
    for n, (name, value) in enumerate(pairs, start=1):
        if n > _MAX_CONDITIONS or len(value) > _MAX_TEXT:
            raise SettingError(f"that is more than can be asked at once ({name:.40})")
        if name == "q":
            text = value or None
        elif name == "sort" and value:
            sort.append(value)
        elif name == "is":
            column, wanted = _parted(value)
            if column == FOLDER:
                folders.add(wanted)
            else:
                chosen = where.get(column)
                chosen = chosen if isinstance(chosen, list) else []
                where[column] = [*chosen, value_of(column, wanted)]
        elif name == "in":
            column, wanted = _parted(value)
            if column == FOLDER:
                raise SettingError("folders have no range; ask for them by is=folder=...")
            where[column] = _range(column, wanted)
    return Question(where, text, tuple(sort or ["-started_at"]), frozenset(folders) or None)


def value_of(column: str, text: str) -> Any:
    """Return text as what a column may hold: text in a column of text, else a number or a word."""
    if text == "" or COLUMNS.get(column) == "TEXT":
        return text or None
    if text in _WORDS:
        return _WORDS[text]
    try:
        number = float(text)
    except ValueError:
        return text
    is_whole = text.removeprefix("-").isdecimal() and abs(number) < 2**63
    return int(text) if is_whole else number


def _parted(text: str) -> tuple[str, str]:
    column, equals, wanted = text.partition("=")
    if not equals or not column:
        raise SettingError(f"{text!r:.100} is no column=value")
    return column, wanted


def _range(column: str, text: str) -> tuple[Any, Any]:
    low, dots, high = text.partition("..")
    if not dots:
        raise SettingError(f"{text!r:.100} is no range low..high")
    return value_of(column, low), value_of(column, high)
