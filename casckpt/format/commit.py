"""The commit object: a tree and its story. Apart from the other objects, since reading history needs only this one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from casckpt.format import limits
from casckpt.format.canonical import Fields, decode, decode_known, encode
from casckpt.format.ids import CommitId, ObjectId, TreeId


@dataclass(frozen=True, slots=True)
class Commit:
    """One checkpoint: which tree, in which run, at which step, from which parents.

    Times are nanoseconds since the Unix epoch, UTC. `epoch` counts passes over the data and may be fractional.
    `config`, `environment`, `code` and `data` are ids of metadata objects shared between commits.
    """

    tree: TreeId
    parents: tuple[CommitId, ...]
    run: str
    time_ns: int
    step: int | None = None
    epoch: int | float | None = None
    kind: str = "step"
    status: str = "completed"
    metrics: Mapping[str, int | float] = field(default_factory=dict)
    message: str = ""
    author: str = ""
    schema: tuple[str, int] | None = None
    required: tuple[str, ...] = ()
    """Patterns of paths that the schema promises, ascending; each matches something in the tree."""
    config: ObjectId | None = None
    environment: ObjectId | None = None
    code: ObjectId | None = None
    data: ObjectId | None = None
    nbytes: int = 0
    """Plain bytes of all blobs of the tree."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Fields of newer releases, kept as they are."""

    def encode(self) -> bytes:
        optional = {
            "step": self.step,
            "epoch": self.epoch,
            "config": self.config,
            "environment": self.environment,
            "code": self.code,
            "data": self.data,
            "schema": self.schema,
            "required": self.required or None,
            "metrics": self.metrics or None,
            "message": self.message or None,
            "author": self.author or None,
        }
        value: dict[str, Any] = {
            **self.extra,
            **{key: item for key, item in optional.items() if item is not None},
            "tree": self.tree,
            "parents": self.parents,
            "run": self.run,
            "time": self.time_ns,
            "kind": self.kind,
            "status": self.status,
            "bytes": self.nbytes,
        }
        return encode(value)

    @classmethod
    def decode(cls, data: bytes) -> Commit:
        what = "a commit object"
        fields = Fields(decode(data, what), what)
        tree = fields.id("tree")
        if tree is None:
            raise fields.error("no tree")
        parents = fields.ids("parents")
        metrics = fields.get("metrics", dict, {})
        schema = fields.get("schema", list)
        if not all(type(key) is str and type(value) in (int, float) for key, value in metrics.items()):
            raise fields.error("a metric is not a number with a text name")
        if schema is not None and [type(item) for item in schema] != [str, int]:
            raise fields.error("the schema is not a name and a version")
        required = fields.get("required", list)
        if required is not None and not (schema and required and all(type(item) is str and item for item in required)):
            raise fields.error("the required paths are not patterns of a schema")
        if any(first >= second for first, second in pairwise(required or ())):
            raise fields.error("the required paths are not in order")
        commit = cls(
            tree=TreeId(ObjectId(tree)),
            parents=tuple(CommitId(ObjectId(parent)) for parent in parents),
            run=fields.need("run", str),
            time_ns=fields.need("time", int),
            step=fields.get("step", int),
            epoch=fields.get("epoch", (int, float)),
            kind=fields.need("kind", str),
            status=fields.need("status", str),
            metrics=metrics,
            message=fields.get("message", str, ""),
            author=fields.get("author", str, ""),
            schema=None if schema is None else (schema[0], schema[1]),
            required=tuple(required or ()),
            config=_optional(fields.id("config")),
            environment=_optional(fields.id("environment")),
            code=_optional(fields.id("code")),
            data=_optional(fields.id("data")),
            nbytes=fields.get("bytes", int, 0),
            extra=fields.unknown(_COMMIT_FIELDS),
        )
        excess = commit.excess()
        if excess is not None:
            raise fields.error(f"{excess[0]} is larger than the format allows")
        return commit

    @classmethod
    def decode_known(cls, data: bytes) -> Commit:
        """Like `decode`, of bytes that it accepted before and that were compared with their id since.

        Fields that this release does not know are looked at anew: another one may have accepted them.
        """
        value = decode_known(data, "a commit object")
        if not value.keys() <= _COMMIT_FIELDS:
            return cls.decode(data)
        get = value.get
        schema = get("schema")
        return cls(
            value["tree"],
            tuple(value["parents"]),
            value["run"],
            value["time"],
            get("step"),
            get("epoch"),
            value["kind"],
            value["status"],
            get("metrics", {}),
            get("message", ""),
            get("author", ""),
            None if schema is None else (schema[0], schema[1]),
            tuple(get("required", ())),
            get("config"),
            get("environment"),
            get("code"),
            get("data"),
            get("bytes", 0),
        )

    def excess(self) -> tuple[str, int, int] | None:
        """(field, its size, what the format allows) of a field that is too large, None if all are within limits."""
        names = (self.run, self.author, self.kind, self.status, *self.metrics, *(self.schema or ())[:1])
        sizes = (
            ("parents", len(self.parents), limits.MAX_PARENTS),
            ("metrics", len(self.metrics), limits.MAX_METRICS),
            ("message", len(self.message.encode()), limits.MAX_MESSAGE_BYTES),
            ("required", len(self.required), limits.MAX_REQUIRED),
            (
                "a required path",
                max((len(path.encode()) for path in self.required), default=0),
                limits.MAX_PATTERN_BYTES,
            ),
            ("a name", max(len(str(name).encode()) for name in names), limits.MAX_NAME_BYTES),
        )
        return next((found for found in sizes if found[1] > found[2]), None)


_COMMIT_FIELDS = frozenset(
    (
        *("tree", "parents", "run", "time", "step", "epoch", "kind", "status", "metrics", "message", "author"),
        *("schema", "required", "config", "environment", "code", "data", "bytes"),
    )
)


def _optional(identity: bytes | None) -> ObjectId | None:
    return None if identity is None else ObjectId(identity)
