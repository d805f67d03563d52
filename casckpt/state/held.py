"""The memory of a state at one moment, and the blobs that lie in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

from casckpt.state.flat import Blob, Schema, Source
from casckpt.state.memory import RangeSource


@dataclass(frozen=True, slots=True)
class Held:
    """What keeps memory alive and where it begins, for the tensors of a state and then its arrays, in walk order.

    Args:
        tensors: as they are in the state, of which `owners` has the storages.
        owners: storages and arrays.
        addresses: of the first elements; one 0 more at the end.
        texts: blobs in plain Python memory, in walk order.
    """

    tensors: Sequence[Any] = field(repr=False)
    owners: Sequence[Any] = field(repr=False)
    addresses: Sequence[int]
    texts: Sequence[bytes | bytearray] = field(repr=False)


class HeldBlobs(Sequence[Blob]):
    """The blobs of one component. A state may have tens of thousands, so each is made when it is asked for.

    Args:
        schema: of the component.
        members: number in `owners` of each blob that is simply the memory of one leaf, -1 of the others.
        addresses: where each of the former begins; 0 for the others.
        owners: as in `Held`.
        sources: of the others, by blob number.

    Attributes:
        addresses: read by `join`, which must not make a blob for each.
    """

    __slots__ = ("_members", "_owners", "_sources", "addresses", "schema")

    def __init__(
        self,
        schema: Schema,
        members: Sequence[int],
        addresses: Sequence[int],
        owners: Sequence[Any],
        sources: dict[int, Source],
    ) -> None:
        self.schema = schema
        self.addresses = addresses
        self._members = members
        self._owners = owners
        self._sources = sources

    def __len__(self) -> int:
        return len(self.addresses)

    @overload
    def __getitem__(self, number: int) -> Blob: ...
    @overload
    def __getitem__(self, number: slice) -> tuple[Blob, ...]: ...
    def __getitem__(self, number: int | slice) -> Blob | tuple[Blob, ...]:
        if isinstance(number, slice):
            return tuple(self[one] for one in range(*number.indices(len(self))))
        if number < 0:
            number += len(self)
        source = self._sources.get(number)
        if source is None:
            # Kept, so that a source is the same object however often its blob is asked for, by any thread.
            made = RangeSource(self._owners[self._members[number]], self.addresses[number])
            source = self._sources.setdefault(number, made)
        schema = self.schema
        return Blob(schema.paths[number], schema.elements[number], schema.sizes[number], source)

    def __iter__(self) -> Iterator[Blob]:
        return (self[number] for number in range(len(self)))
