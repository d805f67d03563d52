"""Markdown pages: which lines are prose, which names a link may point at, and which links lead nowhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

LINK = re.compile(r"(?:\]\(|^ {0,3}\[[^\]^]+\]:)\s*(?:<([^<>]*)>|([^()<>\s]+(?:\([^()\s]*\))?))")
"""The target of an inline link or of a reference definition, within angle brackets or bare."""


def dead_links(page: Path) -> Iterator[tuple[int, str]]:
    """Line and fault of every relative link of a page that leads to no file or no heading."""
    for number, line in prose(page.read_text(encoding="utf-8", errors="replace")):
        text = re.sub(r"(`+).+?\1", "", line)
        for link in ("".join(match) for match in LINK.findall(text)):
            if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:|//", link):
                continue
            name, _, anchor = unquote(link).partition("#")
            target = page.parent / name if name else page
            if not target.exists():
                yield number, f"{link} does not exist"
            elif anchor and target.suffix == ".md" and anchor not in anchors(target):
                yield number, f"{link} names no heading of {target.name}"


def prose(text: str) -> Iterator[tuple[int, str]]:
    """The numbered lines of a Markdown page outside code fences."""
    fence = ""
    for number, line in enumerate(text.splitlines(), 1):
        mark = re.match(r"\s*(`{3,}|~{3,})", line)
        if mark and not fence:
            fence = mark[1]
        elif fence:
            if line.strip().startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
        else:
            yield number, line


def anchors(page: Path) -> set[str]:
    """The names that links into a Markdown page may use, as GitHub derives them from its headings."""
    names: set[str] = set()
    for _, line in prose(page.read_text(encoding="utf-8", errors="replace")):
        names.update(re.findall(r"<a\s+(?:id|name)=[\"']([^\"']+)", line))
        heading = re.match(r" {0,3}#{1,6}\s+(.*?)(?:\s+#+)?\s*$", line)
        if heading:
            shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])
            slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
            count, name = 0, slug
            while name in names:
                count += 1
                name = f"{slug}-{count}"
            names.add(name)
    return names
