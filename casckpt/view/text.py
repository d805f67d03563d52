"""Lines of text: foreign words made harmless, columns by display width, colours by role.

A line is built from `Cell`s, so that widths are counted before colours go in. Which colour a role has, or none, is
decided by whoever supplies `Look.paint`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from casckpt.units import DECIMAL_BITS_MAX, format_age, format_bytes, format_count, rfc3339

PLAIN, ID, REF, LABEL, MUTED, GOOD, BAD, ADDED, REMOVED, CHANGED = (
    "", "id", "ref", "label", "muted", "good", "bad", "added", "removed", "changed",
)  # fmt: skip
"""Roles: what a piece of text is, never how it looks."""

WEEK_S = 7 * 86400
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _unpainted(_role: str, text: str) -> str:
    return text


@dataclass(frozen=True, slots=True)
class Look:
    """How lines are to be drawn: the time it is, the characters that may be used, the colours."""

    now_ns: int
    ascii: bool = False
    paint: Callable[[str, str], str] = _unpainted

    @property
    def arrow(self) -> str:
        return "->" if self.ascii else "→"

    def when(self, time_ns: int) -> str:
        """A time as its age, from a week on as a date in UTC."""
        age_s = (self.now_ns - time_ns) / 1e9
        return format_age(age_s) if age_s < WEEK_S else f"{rfc3339(time_ns)[:16].replace('T', ' ')} UTC"


class Cell(NamedTuple):
    """A piece of text with its role; `right` aligns it to the right of its column."""

    text: str
    role: str = PLAIN
    right: bool = False


def safe(text: str) -> str:
    """Foreign text on one line that no terminal obeys: control and bidi characters are shown as `\\x1b`, `\\u202e`.

    What `str.isprintable` refuses is escaped: controls, formats, surrogates, unassigned and private characters, and
    all separators but the space. Line breaks become `\\n`, so the result never adds a line.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    code = ord(char)
    return _ESCAPES.get(char) or (
        f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    )


def width(text: str) -> int:
    """How many columns of a terminal a text takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def columns(rows: Iterable[Sequence[Cell]], look: Look, *, indent: str = "", gap: str = "  ") -> Iterator[str]:
    """Rows of cells as aligned lines without trailing spaces. Columns that are empty in every row vanish."""
    table = [list(row) for row in rows]
    count = max(map(len, table), default=0)
    widths = [max((width(row[at].text) for row in table if at < len(row)), default=0) for at in range(count)]
    for row in table:
        used = [(cell, widths[at]) for at, cell in enumerate(row) if widths[at]]
        while used and not used[-1][0].text:
            used.pop()
        pieces = []
        for number, (cell, size) in enumerate(used):
            padding = " " * (size - width(cell.text))
            painted = look.paint(cell.role, cell.text)
            last = number == len(used) - 1
            pieces.append(padding + painted if cell.right else painted if last else painted + padding)
        yield indent + gap.join(pieces)


def fields(pairs: Iterable[tuple[str, Cell | str]], look: Look) -> Iterator[str]:
    """Label and value a line; pairs whose value is empty are left out."""
    rows = [(label, Cell(value) if isinstance(value, str) else value) for label, value in pairs]
    yield from columns(([Cell(label, LABEL), value] for label, value in rows if value.text), look)


def plural(count: int, one: str, many: str = "") -> str:
    """A count with its noun, as `1 commit` or `2 commits`."""
    return f"{format_count(count)} {one if count == 1 else many or one + 's'}"


def number(value: int | float | None) -> str:
    """A metric in at most four digits; whole numbers in full."""
    if value is None:
        return "-"
    return format_count(value) if isinstance(value, int) else f"{value:.4g}"


def value(found: object) -> str:
    """A small value as Python writes it, a very long int in hexadecimal."""
    return hex(found) if isinstance(found, int) and found.bit_length() > DECIMAL_BITS_MAX else repr(found)


def metrics(values: Mapping[str, int | float], limit: int | None = None) -> str:
    """Metrics as `name value`, the first `limit` of them."""
    shown = [f"{safe(name)} {number(value)}" for name, value in values.items()]
    hidden = 0 if limit is None else len(shown) - limit
    return "  ".join([*shown[:limit], f"+{hidden} more"] if hidden > 0 else shown)


def progress(what: str, done: int, total: int | None, elapsed_s: float) -> str:
    """How far something is, in a line that fits any terminal: bytes, share, rate."""
    rate = f"  {format_bytes(int(done / elapsed_s))}/s" if elapsed_s > 0 else ""
    if not total:
        return f"{what} {format_bytes(done)}{rate}"
    return f"{what} {format_bytes(done)} of {format_bytes(total)}  {min(100, 100 * done // total)} %{rate}"
