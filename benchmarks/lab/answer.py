"""What a question of the benchmarks answers with."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One measured figure, held against its limit."""

    what: str
    """What is measured."""
    limit: str
    """What was promised; empty where nothing was."""
    measured: str
    """What came out."""
    holds: bool | None = None
    """Whether the promise holds; `None` where nothing was promised."""


@dataclass(frozen=True)
class Table:
    """Measured numbers, ready to print."""

    title: str
    """What it shows."""
    columns: list[str]
    """Heads; the first column is text, the others are numbers."""
    rows: list[list[str]]
    """Cells."""


@dataclass(frozen=True)
class Answer:
    """The answer to one question."""

    title: str
    """The question, short."""
    how: str
    """How it was measured, in plain English."""
    figures: list[Figure] = field(default_factory=list)
    """Against the limits."""
    tables: list[Table] = field(default_factory=list)
    """The numbers behind them."""
    notes: list[str] = field(default_factory=list)
    """What a reader has to know to read them right."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON can say it."""
        return asdict(self)
