"""What follows from the look of a state alone, made once for all states that look alike: nodes, paths, blobs.

An outline is made from a trace's tokens, the forms of its views, and which of them share memory how. Bound to a trace
and its memory it gives a flat state. It holds no memory itself. Outlines are never changed once they are made.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

from casckpt.state import paths
from casckpt.state.blobs import Leaves, number_blobs
from casckpt.state.flat import PARAMETER, FlatComponent, FlatState, Node, Schema, Source
from casckpt.state.held import Held, HeldBlobs
from casckpt.state.leaves import Form
from casckpt.state.sharing import Cluster, Ranges
from casckpt.state.trace import CONTAINERS, INT_KEYS, TEXT_KEYS, Trace
from casckpt.state.values import encode_key


class Outline:
    """All of a flat state but values and memory.

    Attributes:
        tokens, forms, clusters: what it was made from.
        ranges: of the forms; None if there are none.
    """

    def __init__(self, trace: Trace, forms: list[Form], ranges: Ranges | None, clusters: tuple[Cluster, ...]) -> None:
        self.tokens = trace.tokens
        self.forms = forms
        self.ranges = ranges
        self.clusters = clusters
        nodes = _Nodes(trace, forms)
        columns, self._layouts, self._links = number_blobs(
            nodes.leaves, forms, [len(text) for text in trace.texts], clusters, len(nodes.parts)
        )
        self._names = [name for name, _ in nodes.parts]
        self._schemas = [
            Schema(node, column.paths, column.elements, column.sizes)
            for (_, node), column in zip(nodes.parts, columns, strict=True)
        ]
        self._columns = [(column.members, column.layouts) for column in columns]

    def fits(self, trace: Trace, forms: list[Form]) -> bool:
        """Whether a state of this look has this outline, if its views share memory as they do here."""
        return self.tokens == trace.tokens and self.forms == forms

    def bind(self, trace: Trace, held: Held) -> FlatState:
        """The flat state of a trace that fits, its memory and values; sources of linked blobs are one object."""
        sources = [layout.source(held) for layout in self._layouts]
        parts = [self._component(number, trace.values[number], held, sources) for number in range(len(self._schemas))]
        return FlatState(parts[0], tuple(parts[1:]), self._links)

    def _component(self, number: int, values: list[object], held: Held, sources: Sequence[Source]) -> FlatComponent:
        members, layouts = self._columns[number]
        schema = self._schemas[number]
        addresses = list(map(held.addresses.__getitem__, members))
        mine = {blob: sources[layout] for blob, layout in layouts.items()}
        blobs = HeldBlobs(schema, members, addresses, held.owners, mine)
        return FlatComponent(self._names[number], schema.node, values, blobs, schema)


class _Nodes:
    """Nodes and leaves of a trace: follows its tokens as the walk laid them.

    Attributes:
        parts: name and node of the root and each component.
        leaves: of all of them.
    """

    def __init__(self, trace: Trace, forms: Sequence[Form]) -> None:
        count, texts = len(forms), len(trace.texts)
        self.parts: list[tuple[str, Node]] = [("", None)]
        self.leaves = Leaves([0] * (count + texts), [""] * (count + texts), [[]] * (count + texts))
        self._forms = forms
        self._tokens: Iterator[Any] = iter(trace.tokens)
        self._entries = iter(trace.entries)
        self._held = trace.held
        self._part = 0
        self._tensor, self._array, self._text = 0, len(trace.tensors), count
        split, (form,) = next(self._tokens), next(self._tokens)
        self.parts[0] = ("", self._mapping("", split=True) if split else self._node(form, ""))

    def _node(self, form: Any, path: str) -> Node:
        if form in self._held:
            index = self._tensor
            self._tensor = index + 1
            return self._view(index, form, path)
        if form in CONTAINERS:
            return self._mapping(path) if form is dict or form is OrderedDict else self._sequence(path)
        if isinstance(form, tuple) and form[0] == "reduced":
            (inner,) = next(self._tokens)
            return [*form, self._node(inner, path)]
        if isinstance(form, tuple):
            node: list[Any] = ["numbers", form[1], form[2], None] if form[0] == "numbers" else [form[0], None]
            self._leaf(self._text, path, node)
            self._text += 1
            return node
        if form.__name__ == "ndarray":  # the one type of the kind that a trace lets pass
            index = self._array
            self._array = index + 1
            return self._view(index, form, path)
        return None

    def _view(self, index: int, kind: type, path: str) -> Node:
        node = self._forms[index].node(PARAMETER if kind.__name__ == "Parameter" else 0)
        self._leaf(index, path, node)
        return node

    def _leaf(self, index: int, path: str, node: list[Any]) -> None:
        self.leaves.parts[index] = self._part
        self.leaves.paths[index] = path
        self.leaves.nodes[index] = node

    def _mapping(self, path: str, *, split: bool = False) -> Node:
        kind, tag, metadata = next(self._tokens), next(self._tokens), next(self._tokens)
        keys, forms = next(self._tokens), next(self._tokens)
        entries, names = keys, keys
        if tag is TEXT_KEYS or tag is INT_KEYS:
            entries = [encode_key(key, path, 0) for key in keys]
            names = [paths.element(key) for key in keys]
        else:
            entries = next(self._entries)
        prefix = f"{path}/" if path else ""
        children = []
        for name, form in zip(names, forms, strict=False):  # the form of a `_metadata` comes last and has no name
            if split and (form in CONTAINERS or (type(form) is tuple and form[0] == "numbers")):
                children.append(self._component(form, name))
            else:
                children.append(self._node(form, prefix + name))
        node: list[Any] = ["odict" if kind is OrderedDict else "dict", entries, children]
        if metadata:
            node.append(self._node(forms[-1], prefix + paths.METADATA))
        return node

    def _component(self, form: Any, name: str) -> Node:
        number = len(self.parts)
        self.parts.append((name, None))
        self._part = number
        self.parts[number] = (name, self._node(form, name))
        self._part = 0
        return ["part", number - 1]

    def _sequence(self, path: str) -> Node:
        kind, forms = next(self._tokens), next(self._tokens)
        prefix = f"{path}/" if path else ""
        return [kind.__name__, [self._node(form, f"{prefix}{index}") for index, form in enumerate(forms)]]
