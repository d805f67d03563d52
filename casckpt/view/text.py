"""Lines of text: foreign words made harmless, columns by display width, colours by role.

A line is built from `Cell`s, so that widths are counted before colours go in. Which colour a role has, or none, is
decided by whoever supplies `Look.paint`.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple

from casckpt.units import DECIMAL_BITS_MAX, format_age, format_bytes, format_count, local_time, rfc3339

PLAIN, ID, REF, LABEL, MUTED, GOOD, BAD, ADDED, REMOVED, CHANGED = (
    "", "id", "ref", "label", "muted", "good", "bad", "added", "removed", "changed",
)  # fmt: skip
"""Roles: what a piece of text is, never how it looks."""

LINES = ("line1", "line2", "line3", "line4", "line5")
"""Roles of curves and lanes side by side, and of what belongs to them: they only need to differ."""

WEEK_S = 7 * 86400
ID_DIGITS = 12
CUT_MIN = 12
"""A text is never cut to fewer columns."""
BAR_MIN, BAR_MAX = 8, 30
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def unpainted(_role: str, text: str) -> str:
    """A text without colour."""
    return text


@dataclass(frozen=True, slots=True)
class Look:
    """How lines are to be drawn: the time it is, the characters that may be used, the colours, the room there is.

    Args:
        width: columns of the terminal; None if nothing needs to be cut.
        time: how times are written: `relative`, `local`, `utc` or `iso`.
        full_id: whether ids are written with all their digits.
    """

    now_ns: int
    ascii: bool = False
    paint: Callable[[str, str], str] = unpainted
    width: int | None = None
    time: str = "relative"
    full_id: bool = False

    @property
    def arrow(self) -> str:
        return "->" if self.ascii else "→"

    @property
    def ellipsis(self) -> str:
        return "..." if self.ascii else "…"

    def id(self, identity: str) -> str:
        """An id as it is shown: its first 12 digits, or all."""
        return identity if self.full_id else identity[:ID_DIGITS]

    def when(self, time_ns: int) -> str:
        """A time as was asked for; `relative` is its age, from a week on a date in UTC."""
        if self.time == "iso":
            return rfc3339(time_ns)
        if self.time == "local":
            return local_time(time_ns)
        age_s = (self.now_ns - time_ns) / 1e9
        if self.time == "relative" and age_s < WEEK_S:
            return format_age(age_s)
        return f"{rfc3339(time_ns)[:16].replace('T', ' ')} UTC"


class Cell(NamedTuple):
    """A piece of text with its role.

    Args:
        right: it is aligned to the right of its column.
        cut: in a row too long for the terminal its middle may go.
    """

    text: str
    role: str = PLAIN
    right: bool = False
    cut: bool = False


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


def cut(text: str, size: int, ellipsis: str) -> str:
    """A text in at most `size` columns: of a longer one the middle is left out."""
    if width(text) <= size:
        return text
    room = max(0, size - width(ellipsis))
    head, tail = _head(text, room - room // 2), _head(text[::-1], room // 2)[::-1]
    return f"{head}{ellipsis}{tail}"


def _head(text: str, size: int) -> str:
    """The longest start of a text that takes at most `size` columns."""
    used = 0
    for at, char in enumerate(text):
        used += width(char)
        if used > size:
            return text[:at]
    return text


def columns(
    rows: Iterable[Sequence[Cell]],
    look: Look,
    *,
    indent: str = "",
    gap: str = "  ",
    least: list[int] | None = None,
) -> Iterator[str]:
    """Rows of cells as aligned lines without trailing spaces. Columns that are empty in every row vanish.

    Where a row is wider than the terminal, the widest columns that may be cut are.

    Args:
        least: how wide each column was in blocks of rows before; grows to what it is in this one.
    """
    table = [list(row) for row in rows]
    sizes = [[width(cell.text) for cell in row] for row in table]
    widths = [max(column) for column in zip_longest(*sizes, fillvalue=0)]
    if least is not None:
        least[:] = map(max, zip_longest(widths, least, fillvalue=0))
        widths = list(least)
    if look.width is not None:
        may_cut = [any(row[at].cut for row in table if at < len(row)) for at in range(len(widths))]
        fit(widths, may_cut, look.width - len(indent), len(gap))
    shown = [at for at, size in enumerate(widths) if size]
    for row, own in zip(table, sizes, strict=True):
        last = next((at for at in reversed(shown) if at < len(row) and row[at].text), -1)
        pieces = []
        for at in shown:
            if at > last:
                break
            cell, room = row[at], widths[at] - own[at]
            text = cell.text
            if room < 0 and cell.cut:
                text = cut(text, widths[at], look.ellipsis)
                room = widths[at] - width(text)
            painted = look.paint(cell.role, text)
            pieces.append(" " * room + painted if cell.right else painted if at == last else painted + " " * room)
        yield indent + gap.join(pieces)


def fit(widths: list[int], may_cut: Sequence[bool], room: int, gap: int) -> None:
    """Shrink the columns that may be cut, the widest first, until all fit into the room or none can shrink more."""
    excess = sum(widths) + gap * (sum(map(bool, widths)) - 1) - room
    while excess > 0:
        candidates = [at for at, size in enumerate(widths) if may_cut[at] and size > CUT_MIN]
        if not candidates:
            return
        widest = max(candidates, key=lambda at: widths[at])
        others = max((widths[at] for at in candidates if at != widest), default=CUT_MIN)
        # Down to the next one, at least by one column, so that equal ones take turns.
        step = min(excess, max(1, widths[widest] - max(others, CUT_MIN)))
        widths[widest] -= step
        excess -= step


def fields(pairs: Iterable[tuple[str, Cell | str]], look: Look) -> Iterator[str]:
    """Label and value a line; pairs whose value is empty are left out."""
    rows = [(label, Cell(value) if isinstance(value, str) else value) for label, value in pairs]
    yield from columns(([Cell(label, LABEL), value] for label, value in rows if value.text), look)


def would(dry_run: bool) -> str:
    """What ends the line of an answer that only says what would be done."""
    return "  (dry run: nothing was changed)" if dry_run else ""


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
    """How far something is: bytes, share, rate."""
    rate = f"  {format_bytes(int(done / elapsed_s))}/s" if elapsed_s > 0 else ""
    if not total:
        return f"{what} {format_bytes(done)}{rate}"
    return f"{what} {format_bytes(done)} of {format_bytes(total)}  {_percent(done, total)} %{rate}"


def progress_bar(
    what: str, done: int, total: int | None, elapsed_s: float, room: int, *, ascii_only: bool = False
) -> str:
    """The same with a bar and the time that is left, as far as there is room for them; never wider than the room."""
    line = progress(what, done, total, elapsed_s)
    if total and 0 < done < total and elapsed_s > 0:
        left_s = math.ceil((total - done) * elapsed_s / done)
        line += f"  {left_s // 60}:{left_s % 60:02d} left"
    size = min(BAR_MAX, room - width(line) - 1)
    if total and size >= BAR_MIN:
        full = size * _percent(done, total) // 100
        filled, empty = ("#", "-") if ascii_only else ("━", "╌")
        line = line.replace(what, f"{what} {filled * full}{empty * (size - full)}", 1)
    return cut(line, max(room, 0), "")


def _percent(done: int, total: int) -> int:
    return min(100, 100 * done // total)
