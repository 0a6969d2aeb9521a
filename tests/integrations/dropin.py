"""What it takes for changing the import to be enough."""

from __future__ import annotations

import inspect


def check_signature(ours: type, theirs: type) -> None:
    """Theirs can be called as before; what is new comes last, and by its name alone."""
    given = inspect.signature(ours.__init__).parameters
    wanted = inspect.signature(theirs.__init__).parameters
    assert list(given)[: len(wanted)] == list(wanted)
    for name, parameter in wanted.items():
        assert given[name].kind is parameter.kind
        if name != "gc_trigger":  # ours leaves no garbage to collect
            assert given[name].default == parameter.default
    by_name = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    assert all(p.kind in by_name for p in list(given.values())[len(wanted) :])
