"""Where bytes of no known structure are cut: content-defined, so that an insertion moves only the cuts near it.

FastCDC with normalised chunking (Xia et al., IEEE TPDS 2020): a rolling hash over the last bytes decides. Chunks have
at least `LEAST` and at most `MOST` bytes, on the average about 300 KiB. The figures behind the numbers are in
docs/decisions/0012-content-defined-chunks.md. Readers do not need this rule, since the lengths are stored; but equal
bytes share chunks only where they were cut alike, so whoever changes it costs every store the chunks it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from pyfastcdc import FastCDC

LEAST = 128 << 10
AVERAGE = 256 << 10
MOST = 1 << 20
NORMALIZATION: Literal[2] = 2
_WINDOW = 4 << 20


class Cut(NamedTuple):
    """The end of a chunk; or of several that have `MOST` bytes each and lie in a hole, which `is_hole` says."""

    stop: int
    is_hole: bool


def cut_points(
    fill: Callable[[int, memoryview], None],
    start: int,
    stop: int,
    data_from: Callable[[int], int] = int,
) -> Iterator[Cut]:
    """Cut bytes `start` to `stop` of a file by their content; the last cut is at `stop`.

    Args:
        fill: reads the bytes at an offset into memory, as many as that has.
        data_from: the least offset, from a given one on, at which there may be something else than a zero. Of what it
            skips nothing is read. The cuts do not depend on it: a run of zeros is cut at every `MOST` bytes.

    Memory: one window of 4 MiB.
    """
    cutter = FastCDC(AVERAGE, min_size=LEAST, max_size=MOST, normalized_chunking=NORMALIZATION)
    window = memoryview(bytearray(min(_WINDOW, stop - start)))
    at, reach = start, MOST
    while at < stop:
        hole = min(data_from(at), stop) - at
        if hole >= MOST:
            at += hole - hole % MOST
            yield Cut(at, is_hole=True)
            reach = MOST  # what follows may be an island in the next hole
            continue
        end = min(at + reach, at + len(window), stop)
        reach = min(2 * reach, len(window))
        fill(at, window[: end - at])
        for chunk in cutter.cut_buf(window[: end - at]):
            # The rule looks at `MOST` bytes ahead: what is left of the window may end too early.
            if end < stop and end - at < MOST:
                break
            at += chunk.length
            yield Cut(at, is_hole=False)
            if data_from(at) - at >= MOST:
                break
