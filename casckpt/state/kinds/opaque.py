"""What a stored value of a class is that this process does not have."""

from __future__ import annotations

from typing import Any


class Opaque:
    """A value of an unknown class: its contents without its behaviour. Committed again, it is what it was.

    Fields that are no attributes of this class itself can be read as attributes: `config.lr`.

    Attributes:
        kind: how it was stored, as "dataclass".
        param: the class, as "train:Config".
        fields: what it was made of: a dict of fields, a tuple, a text.
    """

    __slots__ = ("fields", "kind", "param")

    def __init__(self, kind: str, param: str | None, fields: Any) -> None:
        self.kind = kind
        self.param = param
        self.fields = fields

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__") and isinstance(self.fields, dict) and name in self.fields:
            return self.fields[name]
        raise AttributeError(f"this {self.param or self.kind} has no field {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return Opaque, (self.kind, self.param, self.fields)

    def __repr__(self) -> str:
        return f"<Opaque {self.kind} {self.param or ''}: {self.fields!r:.200}>"
