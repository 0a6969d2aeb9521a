"""Write `constraints.txt`, or the file that is named: the version of everything in the running environment.

Versions only. What was installed from a folder or a URL is on no package index and is left out; local
parts such as torch's ``+cpu`` are cut off, so that the same line serves every system. Run it with the
interpreter of an environment that holds all groups: `make pin`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / (sys.argv[1:] or ["constraints.txt"])[0]
# The installer's own, and what only the build of an editable install wants: pip finds those itself.
LEFT_OUT = {"pip", "wheel", "editables", "hatchling", "tomlkit", "trove-classifiers"}


def canonical(name: str) -> str:
    """The name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(installed: Iterable[Distribution]) -> list[str]:
    """Sorted `name==version` lines for what came from a package index."""
    versions = {
        canonical(package.metadata["Name"]): package.version.partition("+")[0]
        for package in installed
        if package.read_text("direct_url.json") is None
    }
    return [f"{name}=={versions[name]}" for name in sorted(versions.keys() - LEFT_OUT)]


def main() -> None:
    """Write the file and say how many pins it holds."""
    lines = pins(distributions())
    TARGET.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    print(f"{TARGET.name}: {len(lines)} pins")


if __name__ == "__main__":
    main()
