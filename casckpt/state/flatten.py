"""Take a state apart: `flatten`. One walk traces it; its outline says what follows from the look of it.

A training commits states that look alike over and over, so the outlines of the last ones are kept: then only values,
forms and addresses are read anew. Nothing is copied: blobs point at the state's memory and keep it alive. Types are
matched exactly, since a subclass that came back as its base would be a different state.
"""

from __future__ import annotations

from typing import Any

from casckpt.state.collector import paused
from casckpt.state.flat import FlatState
from casckpt.state.held import Held
from casckpt.state.leaves import Form
from casckpt.state.outline import Outline
from casckpt.state.sharing import Cluster, Ranges
from casckpt.state.trace import Selects, Trace, nothing

_KEPT_MAX = 4
_KEPT_LEAVES_MAX = 1 << 18
"""Most outlines kept, and most tensors and arrays in all of them; an outline takes about 500 bytes for each."""

_kept: tuple[Outline, ...] = ()
"""The outlines used last, the latest first. Replaced as a whole, so that any thread may read it."""


def flatten(state: object, skips: Selects = nothing, pickles: Selects = nothing) -> FlatState:
    """A state as structure, values and blobs, as `flat` describes.

    Args:
        state: nested values of the types docs/reference/values.md lists. Its containers and the shapes of its tensors
            must not change meanwhile; the values of its tensors may.
        skips, pickles: as of `Trace`.

    Raises:
        UnsupportedType, UnsupportedKey: something in it is not kept; names its path.
        DistributedState: a tensor of which this process holds a share only.
        StateCycle: a container contains itself.
        StateTooDeep: more than `DEPTH_MAX` containers inside each other.

    Cost: about 1.5 us per tensor if it looks like one of the last states, else 5 us; memory as the structure, none
    as the data (packed lists of numbers excepted).
    """
    with paused():
        return _flatten(state, skips, pickles)


def _flatten(state: object, skips: Selects, pickles: Selects) -> FlatState:
    trace = Trace(state, skips, pickles)
    forms = _forms(trace)
    kept = _kept
    alike = [outline for outline in kept if outline.fits(trace, forms)]
    if not alike and any(form.problem for form in forms):
        # Some tensors are not strided memory, which is rare: these are looked for now.
        trace = Trace(state, skips, pickles, careful=True)
        forms = _forms(trace)
        alike = [outline for outline in kept if outline.fits(trace, forms)]
    held = _hold(trace)
    ranges = alike[0].ranges if alike else Ranges(forms) if forms else None
    clusters: tuple[Cluster, ...] = ranges.clusters(held.addresses) if ranges else ()
    found = next((outline for outline in alike if outline.clusters == clusters), None)
    outline = found or Outline(trace, forms, ranges, clusters)
    if not kept or kept[0] is not outline:
        _keep(outline)
    return outline.bind(trace, held)


def forget() -> None:
    """Let go of all outlines that are kept."""
    global _kept
    _kept = ()


def _keep(outline: Outline) -> None:
    global _kept
    kept = [outline, *(other for other in _kept if other is not outline)][:_KEPT_MAX]
    while kept and sum(len(one.forms) for one in kept) > _KEPT_LEAVES_MAX:
        kept.pop()
    _kept = tuple(kept)


def _forms(trace: Trace) -> list[Form]:
    forms: list[Form] = []
    if trace.tensors:
        from casckpt.state import tensors

        forms += tensors.forms(trace.tensors)
    if trace.arrays:
        from casckpt.state import arrays

        forms += map(arrays.form, trace.arrays)
    return forms


def _hold(trace: Trace) -> Held:
    owners: list[Any] = []
    addresses: list[int] = []
    if trace.tensors:
        from casckpt.state import tensors

        owners, addresses = tensors.hold(trace.tensors)
        tensors.settle()
    if trace.arrays:
        from casckpt.state import arrays

        owners += trace.arrays
        addresses += map(arrays.address, trace.arrays)
    return Held(trace.tensors, owners, [*addresses, 0], trace.texts)
