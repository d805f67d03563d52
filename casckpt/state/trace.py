"""The walk over a live state: what it looks like, its small values, and what holds memory. Paths come later.

The look is a list of tokens, equal for states of the same structure and no others, so that everything that follows
from it can be looked up instead of made (`outline`). Per container there are:

    dict, OrderedDict    type, kind of the keys, whether there is a `_metadata`, keys, forms of the children
    list, tuple          type, forms of the children

A child's form is its type; `("str", nbytes)` and its like for what is a blob though it is no array or tensor;
`("numbers", element, count)` for a packed list; `("reduced", kind, param)` for what is stored as something simpler, of
which the one token is the form of that, in a list. A container's tokens follow those of its parent, children in order.
Types in tokens are compared by identity and keys within one type, so that True is never taken for 1.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any, NoReturn

from casckpt import errors
from casckpt.state import paths
from casckpt.state.flat import DEPTH_MAX, INLINE_MAX_BYTES, LOOSE_MAX, PARTS_MAX
from casckpt.state.kinds import pickled, registry, table
from casckpt.state.kinds.reduced import CannotReduce, IsDistributed, Reduce, Reduced
from casckpt.state.numbers import pack_numbers
from casckpt.state.values import encode_key, encode_value, type_name

Selects = Callable[[str], bool]

CONTAINERS = (dict, OrderedDict, list, tuple)
TEXT_KEYS, INT_KEYS, OTHER_KEYS = "text", "int", "other"
"""Keys that are all exactly str or all exactly int are their own tokens; the tokens of others are path elements."""

_ROOT, _INSIDE, _METADATA = object(), object(), object()
"""Stand for keys: of the state itself, of what a value is stored as, and of an OrderedDict's `_metadata`."""


def nothing(_path: str) -> bool:
    """Selects no path."""
    return False


class Trace:
    """One walk over a state. The lists are in walk order.

    Args:
        skips: entries of dicts at these paths are left out, as if they were not there.
        pickles: values at these paths may be stored as pickles if nothing else can store them.
        careful: look at every tensor, for those that are not strided memory. Only states that have such need it: to
            look costs as much as all else.

    Attributes:
        tokens: see above; the first two are whether the root is split into components, and its form.
        entries: the encoded keys of each container of `OTHER_KEYS`; they follow from the tokens.
        values: small values, encoded, for the root and each component.
        tensors, arrays: as they are in the state.
        texts: bytes and bytearrays that are blobs; texts and numbers are packed into new bytes.
        held: the types of `tensors`.
    """

    def __init__(
        self, state: object, skips: Selects = nothing, pickles: Selects = nothing, *, careful: bool = False
    ) -> None:
        self._careful = careful
        self._skips = skips
        self._pickles = pickles
        self.tokens: list[Any] = []
        self.entries: list[list[object]] = []
        self.values: list[list[object]] = [[]]
        self.tensors: list[Any] = []
        self.arrays: list[Any] = []
        self.texts: list[bytes | bytearray] = []
        self.held: set[type] = set()
        self._small = self.values[0]
        self._open: dict[int, object] = {}
        self._handlers: dict[type, _Handler] = dict(_HANDLERS)
        self._root(state)

    def _root(self, state: Any) -> None:
        state = self._plain(state)
        forms: list[Any] = [type(state)]
        self.tokens += (False, forms)
        if type(state) in (dict, OrderedDict):
            self._mapping(state, _ROOT)
        else:
            self._children(forms, [_ROOT], [state])

    def _plain(self, value: Any) -> Any:
        """The state dict of a value that has one and nothing that stores it better; any other value itself."""
        kind = type(value)
        handler = self._handlers.get(kind)
        if handler is None:
            handler = self._handlers[kind] = self._handler(kind)
        return value.state_dict() if handler is _HANDLERS[_Stateful] else value

    def _children(self, forms: list[Any], keys: Sequence[object], values: Sequence[Any]) -> None:
        """Walk values of which `forms` are the types; those that are more than their type are entered there."""
        types = set(forms)
        if not types <= self.held:
            for kind in types - self._handlers.keys():
                self._handlers[kind] = self._handler(kind)
        if types <= self.held and not self._careful:
            self.tensors += values
            return
        for index, value in enumerate(values):
            form = self._handlers[forms[index]](self, value, keys[index])
            if form is not None:
                forms[index] = form

    def _handler(self, kind: type) -> _Handler:
        """What handles a type that is not builtin; a library not imported yet cannot have made the value."""
        own = registry.reducer(kind)
        if own is not None:
            return _reducing(own)
        torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
        if torch is not None and issubclass(kind, torch.Tensor):
            if kind is not torch.Tensor and kind is not torch.nn.Parameter:
                return Trace._tensor
            self.held.add(kind)
            return Trace._tensor if self._careful else Trace._strided
        if numpy is not None and issubclass(kind, numpy.ndarray):
            return Trace._array
        if numpy is not None and issubclass(kind, numpy.generic):
            return Trace._scalar
        if table.is_stateful(kind):
            return _HANDLERS[_Stateful]
        reduce = table.reducer(kind)
        if reduce is not None:
            return _reducing(reduce)
        base = next((base.__name__ for base in CONTAINERS if issubclass(kind, base)), None)
        problem = table.UNKNOWN if base is None else f"subclasses of {base} are not kept"
        return lambda walk, value, key: walk._unsupported(value, key, problem)

    def _native(self, value: object, _key: object) -> None:
        self._small.append(value)

    def _number(self, value: int | complex, _key: object) -> None:
        self._small.append(encode_value(value))

    def _strided(self, value: Any, _key: object) -> None:
        self.tensors.append(value)

    def _tensor(self, value: Any, key: object) -> object:
        from casckpt.state.kinds import tensor_objects

        if not tensor_objects.is_plain(value):
            return self._reduce(tensor_objects.reduce_tensor, value, key)
        self.tensors.append(value)
        return None

    def _array(self, value: Any, key: object) -> object:
        from casckpt.state.kinds import array_objects

        try:
            reduced = array_objects.reduce_array(value)
        except CannotReduce as error:
            return self._unsupported(value, key, str(error))
        if reduced is not None:
            return self._reduced(reduced, value, key)
        self.arrays.append(value)
        return None

    def _scalar(self, value: Any, key: object) -> object:
        from casckpt.state import arrays
        from casckpt.state.kinds import array_objects

        entry, problem = arrays.describe_scalar(value)
        if not problem:
            self._small.append(entry)
            return None
        try:
            reduced = array_objects.reduce_scalar(value)
        except CannotReduce as error:
            return self._unsupported(value, key, str(error))
        assert reduced is not None
        return self._reduced(reduced, value, key)

    def _text(self, value: str | bytes | bytearray, _key: object) -> object:
        if len(value) * (4 if isinstance(value, str) else 1) <= INLINE_MAX_BYTES:
            self._small.append(value if isinstance(value, bytes) else encode_value(value))
            return None
        data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        if len(data) <= INLINE_MAX_BYTES:
            self._small.append(value if isinstance(value, bytes) else encode_value(value))
            return None
        self.texts.append(data)
        return type(value).__name__, len(data)

    def _mapping(self, value: Any, key: object) -> None:
        self._enter(value, key)
        keys, children = list(value), list(value.values())
        if self._skips is not nothing:
            kept = [not self._skips(self._path(one)) for one in keys]
            keys, children = list(compress(keys, kept)), list(compress(children, kept))
        split = False
        if key is _ROOT:
            children = list(map(self._plain, children))
            split = self.tokens[0] = 1 <= sum(type(child) in CONTAINERS for child in children) <= PARTS_MAX
        types = set(map(type, keys))
        tag = TEXT_KEYS if types == {str} else INT_KEYS if types == {int} else OTHER_KEYS
        names = keys if tag is not OTHER_KEYS else self._names(keys)
        metadata = type(value) is OrderedDict and "_metadata" in vars(value)
        if metadata:
            children.append(vars(value)["_metadata"])
            keys = [*keys, _METADATA]
        forms: list[Any] = list(map(type, children))
        self.tokens += (type(value), tag, metadata, names, forms)
        if split:
            self._components(forms, keys, children, len(names))
        else:
            self._children(forms, keys, children)
        del self._open[id(value)]

    def _components(self, forms: list[Any], keys: Sequence[object], values: list[Any], count: int) -> None:
        for index, (key, value) in enumerate(zip(keys, values, strict=True)):
            if index < count and forms[index] in CONTAINERS:
                self._small = []
                self.values.append(self._small)
            form = forms[index : index + 1]
            self._children(form, [key], [value])
            forms[index] = form[0]
            self._small = self.values[0]

    def _names(self, keys: list[object]) -> list[str]:
        entries = [encode_key(key, paths.shown(self._path()), len(self._open)) for key in keys]
        names = [paths.element(key) for key in keys]
        if len(set(names)) != len(names):  # only NaN is a key twice
            problem = "float that are the same NaN twice"
            raise errors.UnsupportedKey(path=paths.shown(self._path()), type=problem)
        self.entries.append(entries)
        return names

    def _sequence(self, value: Sequence[Any], key: object) -> object:
        self._enter(value, key)
        form = self._packed(value) if type(value) is list and len(value) > LOOSE_MAX else None
        if form is None:
            children = list(value)
            forms: list[Any] = list(map(type, children))
            self.tokens += (type(value), forms)
            self._children(forms, range(len(children)), children)
        del self._open[id(value)]
        return form

    def _stateful(self, value: Any, key: object) -> object:
        """Walk an object as its state dict, so that `model` and `model.state_dict()` are the same state."""
        self._enter(value, key)
        inner = value.state_dict()
        forms: list[Any] = [type(inner)]
        self._children(forms, (_INSIDE,), (inner,))
        del self._open[id(value)]
        return forms[0]

    def _set(self, value: Any, key: object) -> object:
        return self._reduced(Reduced(type(value).__name__, None, self._sorted(value, key)), value, key)

    def _sorted(self, members: Any, key: object) -> list[Any]:
        """The members of a set in an order that is the same in every process."""
        types = set(map(type, members))
        if types <= {int} or types <= {str}:
            return sorted(members)
        return sorted(members, key=lambda member: self._rank(member, key))

    def _rank(self, member: Any, key: object) -> tuple[int, str]:
        try:
            return 0, paths.element(member)
        except errors.UnsupportedKey:
            alone = Trace(member, self._skips, self._pickles)
        if alone.tensors or alone.arrays:
            self._refuse(member, key, "members of a set that are arrays or tensors have no order")
        return 1, repr((alone.tokens, alone.entries, alone.values, alone.texts))

    def _reduce(self, reduce: Reduce, value: Any, key: object) -> object:
        try:
            reduced = reduce(value)
        except IsDistributed as error:
            path = paths.shown(self._path(key))
            raise errors.DistributedState(path=path, type=type_name(type(value))) from error
        except CannotReduce as error:
            return self._unsupported(value, key, str(error))
        return self._reduced(reduced, value, key)

    def _unsupported(self, value: Any, key: object, problem: str) -> object:
        """Store a value as a pickle, if that is allowed here."""
        if not self._pickles(self._path(key)):
            self._refuse(value, key, problem)
        try:
            return self._reduced(pickled.reduce(value), value, key)
        except CannotReduce as error:
            self._refuse(value, key, str(error))

    def _reduced(self, reduced: Reduced, value: Any, key: object) -> object:
        self._enter(value, key)
        forms: list[Any] = [type(reduced.inner)]
        self.tokens.append(forms)
        self._children(forms, (_INSIDE,), (reduced.inner,))
        del self._open[id(value)]
        return "reduced", reduced.kind, reduced.param

    def _packed(self, value: list[Any]) -> object:
        found = pack_numbers(value)
        if found is None:
            return None
        element, column = found
        self.texts.append(column)
        return "numbers", element, len(value)

    def _enter(self, value: object, key: object) -> None:
        if id(value) in self._open:
            inner = self._path(key)
            outer = list(self._open)[: list(self._open).index(id(value)) + 1]
            raise errors.StateCycle(path=inner, outer=paths.shown(_joined([self._open[one] for one in outer])))
        if len(self._open) >= DEPTH_MAX:
            raise errors.StateTooDeep(path=self._path(key), limit=DEPTH_MAX)
        self._open[id(value)] = key

    def _path(self, *keys: object) -> str:
        """The path of a child of the innermost open container, or of that container itself."""
        return _joined([*self._open.values(), *keys])

    def _refuse(self, value: object, key: object, problem: str) -> NoReturn:
        path = paths.shown(self._path(key))
        raise errors.UnsupportedType(path=path, type=type_name(type(value)), problem=problem)


def _joined(keys: Sequence[object]) -> str:
    named = [key for key in keys if key is not _ROOT and key is not _INSIDE]
    return "/".join([paths.METADATA if key is _METADATA else paths.element(key) for key in named])


_Handler = Callable[[Trace, Any, object], object]


class _Stateful:
    """Stands for all types that have a state dict."""


def _reducing(reduce: Reduce) -> _Handler:
    return lambda walk, value, key: walk._reduce(reduce, value, key)


# Functions, not bound methods: a walk that refers to itself would keep the state's memory until the next collection.
_HANDLERS: dict[type, _Handler] = {
    type(None): Trace._native,
    bool: Trace._native,
    float: Trace._native,
    int: Trace._number,
    complex: Trace._number,
    str: Trace._text,
    bytes: Trace._text,
    bytearray: Trace._text,
    dict: Trace._mapping,
    OrderedDict: Trace._mapping,
    list: Trace._sequence,
    tuple: Trace._sequence,
    set: Trace._set,
    frozenset: Trace._set,
    memoryview: lambda walk, value, key: walk._text(value.tobytes(), key) or bytes,
    _Stateful: Trace._stateful,
}
