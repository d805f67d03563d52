"""Chunks handed out without being read: pieces of packs laid side by side in one range of memory."""

from __future__ import annotations

from collections.abc import Iterable

from casckpt.errors import CasckptError
from casckpt.format.codec import Codec
from casckpt.format.ids import Kind
from casckpt.odb.database import Database
from casckpt.odb.fetch import Want, runs
from casckpt.odb.locator import Locator
from casckpt.storage.mapping import Mapping


def map_chunks(
    database: Database, locator: Locator, mapping: Mapping, wants: Iterable[Want]
) -> tuple[list[Want], list[Want]]:
    """Lay raw chunks where they are wanted; (those that were laid, those that are to be read instead).

    Args:
        wants: chunks of one leaf, whose memory is that of the mapping. What was laid is not compared with its id.
    """
    laid: list[Want] = []
    left: list[Want] = []
    for run in runs([(want, locator.find(want.chunk, Kind.CHUNK, want.length)) for want in wants]):
        first, place = run[0]
        mine = [want for want, _ in run]
        nbytes = sum(want.length for want in mine)
        raw = all(at is not None and at.row.codec == Codec.RAW and at.row.stored == at.row.length for _, at in run)
        try:
            fits = place is not None and place.pack is not None and raw
            if fits and place is not None:
                fits = database.packs.open(place.name).map_into(mapping, place.row.offset, nbytes, first.at)
        except (CasckptError, FileNotFoundError):  # reading it finds a copy, or says what is wrong
            fits = False
        (laid if fits else left).extend(mine)
    return laid, left
