"""Links between the documents lead somewhere, and every peer and integration is in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page, as both GitHub and Sphinx make them of headings."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", CODE.sub("", text), re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in headings}
    return slugs | set(re.findall(r'<a id="([^"]+)">', text))


def broken(page: Path) -> list[str]:
    found = []
    for link in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        has_anchor = not anchor or (target.is_file() and anchor in anchors(target))
        if not target.exists() or not has_anchor:
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A b\n[1](gone.md) [2](#a-b) [3](#c) [4](page.md#a-b) ![5](x.png) [6](http://x)\n"
    )
    assert broken(page) == ["gone.md", "#c", "x.png"]


@pytest.mark.parametrize(
    "argument",
    # Of each peer, what its users write most.
    ["step_trigger", "video_callable", "capture_frame()", "record_video_trigger", "RecordVideoParallel",
     "capture_video", "dump_on_done", "physics.render", "add_video", "monitor_gym", "log_artifact",
     "record_env"],
)  # fmt: skip
def test_the_migration_table_has_every_peer(argument: str) -> None:
    assert argument in (ROOT / "docs" / "migrate.md").read_text(encoding="utf-8")
