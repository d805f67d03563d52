"""commit: a state becomes durable, with its place in history.

flatten -> chunks, trees (session) -> packs durable -> parents and refs settled under the journal lock
        -> commit object and ref moves in one frame -> durable -> return
"""

from __future__ import annotations

import contextlib
import operator
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict

from casckpt.errors import TooLarge, UsageError
from casckpt.format import limits
from casckpt.format.canonical import decode, encode
from casckpt.format.commit import Commit
from casckpt.format.entry import Entry, Mark
from casckpt.format.ids import CommitId, Kind, ObjectId, object_id
from casckpt.format.marks import NONFINITE, leaves_mark
from casckpt.odb.coder import MEASURED_FROM, ChunkCoder, Compress, keeps_up
from casckpt.odb.database import Database
from casckpt.odb.pipeline import Coder
from casckpt.odb.renames import listed
from casckpt.odb.repository import Repository, writer_name
from casckpt.odb.session import Session
from casckpt.ops.history import finished, info
from casckpt.ops.lookup import best_commit, is_sound
from casckpt.ops.publishing import settings_changed
from casckpt.ops.resolve import resolve
from casckpt.ops.save import plain_bytes, save_state
from casckpt.ops.values import CommitInfo, Progress
from casckpt.plan.names import check_name, is_text
from casckpt.plan.schema import Schema, SchemaLike
from casckpt.plan.settle import parse_best, ref_moves, settle_parents
from casckpt.state.flat import FlatState

if TYPE_CHECKING:
    from casckpt.remote.locks import RemoteLock

KINDS = ("step", "recovery", "final")
STATUSES = ("completed", "started", "running", "failed", "cancelled", "preempted")
_METADATA = ("config", "environment", "code", "data")


@dataclass(frozen=True, slots=True)
class CommitOptions:
    """What a commit says besides its state. Checked when made.

    `config`, `environment`, `code` and `data` are JSON-like values kept once for all commits that share them.
    """

    run: str = "main"
    step: int | None = None
    epoch: int | float | None = None
    kind: str = "step"
    status: str = "completed"
    metrics: Mapping[str, int | float] = field(default_factory=dict)
    message: str = ""
    author: str = ""
    parents: tuple[str, ...] | None = None
    expect: str | None = None
    best: str | None = None
    schema: SchemaLike | None = None
    config: Any = None
    environment: Any = None
    code: Any = None
    data: Any = None

    def __post_init__(self) -> None:
        check_name("run", self.run)
        for name in ("message", "author"):
            if not is_text(getattr(self, name)):
                raise UsageError(problem=f"{name} must be a text, not {getattr(self, name)!a}")
        if not (self.epoch is None or _is_number(self.epoch)):
            raise UsageError(problem=f"epoch must be a number, not {self.epoch!r}")
        if self.schema is not None:
            object.__setattr__(self, "schema", Schema.of(self.schema))
        if not all(map(is_text, self.metrics)):
            raise UsageError(problem="names of metrics must be texts")
        if self.kind not in KINDS or self.status not in STATUSES:
            allowed = f"kinds are {', '.join(KINDS)}; statuses are {', '.join(STATUSES)}"
            raise UsageError(problem=f"kind {self.kind!r} with status {self.status!r} is not allowed: {allowed}")
        if self.step is not None and type(self.step) is not bool and hasattr(self.step, "__index__"):
            with contextlib.suppress(TypeError):  # a float tensor has the method and refuses
                object.__setattr__(self, "step", operator.index(self.step))
        if self.step is not None and (type(self.step) is not int or not 0 <= self.step < 1 << 63):
            raise UsageError(problem=f"step must be a whole number of 0 or more, not {self.step!r}")
        if len(self.message.encode("utf-8", "replace")) > limits.MAX_MESSAGE_BYTES:
            raise UsageError(problem=f"the message has more than {limits.MAX_MESSAGE_BYTES} bytes")
        if self.best is not None:
            parse_best(self.best)


class CommitWords(TypedDict, total=False):
    """The arguments of `Store.commit` that mean the same in the background."""

    run: str | None
    step: int | None
    epoch: int | float | None
    metrics: Mapping[str, int | float] | None
    message: str
    author: str
    kind: str
    status: str
    best: str | None
    parents: tuple[str, ...] | None
    expect: str | None
    schema: SchemaLike | None
    config: Any
    environment: Any
    code: Any
    data: Any
    compress: Compress | None
    progress: Progress | None
    skip: str | Sequence[str] | None
    allow_pickle: bool | str | Sequence[str]
    lock: RemoteLock | None


def commit_state(
    repository: Repository,
    flat: FlatState,
    options: CommitOptions,
    compress: Compress = "auto",
    progress: Progress | None = None,
    *,
    dry_run: bool = False,
    lock: RemoteLock | None = None,
) -> CommitInfo:
    """Commit a flat state; returns when it is durable.

    Args:
        compress: policy for its new chunks.
        progress: what it raises ends the commit without effect.
        dry_run: store nothing; the commit that is returned is what would be made at this moment.
        lock: of a remote, which must still be held when the commit becomes part of the store; renewed as it goes on.

    Raises:
        ConflictError: `expect` was given and the run's last is another commit; nothing was changed.
        LockLost: the lock is somebody else's, or may be; nothing was changed.
        StateChanged: another thread wrote to the state meanwhile; nothing was changed.
        StorageError: the disk failed or is full, or the remote of the lock does not answer; nothing was changed.
    """
    database = repository.database
    lock = None if dry_run else lock
    progress = progress if lock is None else lock.renewing(progress)
    given = None if options.parents is None else tuple(_known(repository, text) for text in options.parents)
    expect = None if options.expect is None else resolve(database, options.expect)
    metrics = {name: _number(name, value) for name, value in options.metrics.items()}
    schema = None if options.schema is None else Schema.of(options.schema)
    coder = _coder(repository, flat, compress)
    with repository.session(dry_run=dry_run) as session:
        session.hints = {"run": options.run, "step": options.step, "metrics": metrics, "time": time.time_ns()}
        tree, nbytes, unsound = save_state(session, flat, repository.threads, coder, progress)
        session.hints["tree"] = tree
        draft = Commit(
            tree=tree,
            parents=(),
            run=options.run,
            time_ns=0,
            step=options.step,
            epoch=options.epoch,
            kind=options.kind,
            status=options.status,
            metrics=metrics,
            message=options.message,
            author=options.author,
            schema=None if schema is None else (schema.name, schema.version),
            required=() if schema is None else tuple(schema.required),
            nbytes=nbytes,
            **_metadata(session, options),
        )
        mark = leaves_mark(unsound) if unsound else None
        if lock is not None:
            lock.hold()  # Not under the journal lock: all others would wait for the remote.
        commit, entry = _publish(database, session, draft, given, expect, options, mark, lock)
    identity = CommitId(object_id(Kind.COMMIT, commit.encode()))
    # The refs that just moved; looking through all refs would make every commit cost more as tags pile up.
    heads = tuple(sorted(move.name.rpartition("/")[2] for move in entry.refs if move.new == identity))
    return info(identity, commit, entry.added, heads, nonfinite=mark)


def _coder(repository: Repository, flat: FlatState, compress: Compress) -> Callable[[], Coder]:
    """What makes the coders of a commit's workers; measures the machine before the first large commit."""
    large = plain_bytes(flat) >= MEASURED_FROM
    fast = compress == "auto" and large and keeps_up(repository.storage, repository.threads)
    return partial(ChunkCoder, compress, keeps_up=fast)


def fixed(options: CommitOptions) -> CommitOptions:
    """Equal options that share nothing with the caller, who may go on and change what he gave.

    Raises:
        UsageError: a metric is no number, or a metadata value is not JSON-like.
    """
    given = {name: getattr(options, name) for name in _METADATA}
    own = {name: decode(_encoded(name, value), name) for name, value in given.items() if value is not None}
    metrics = {name: _number(name, value) for name, value in options.metrics.items()}
    parents = None if options.parents is None else tuple(options.parents)
    return replace(options, metrics=metrics, parents=parents, **own)


def _known(repository: Repository, text: str) -> CommitId:
    return resolve(repository.database, text)


def _is_number(value: Any) -> bool:
    """Whether a value is an int of 64 bits or a float, of exactly these types."""
    return type(value) is float or (type(value) is int and -(1 << 63) <= value < 1 << 63)


def _number(name: str, value: Any) -> int | float:
    """A metric as an int or float; 0-d tensors and numpy numbers are taken by value."""
    item = getattr(value, "item", None)
    number = item() if callable(item) else value
    if not _is_number(number):
        raise UsageError(problem=f"metric {name!r} must be a number of 64 bits, not {value!a} ({type(value).__name__})")
    return number  # type: ignore[no-any-return]


def _metadata(session: Session, options: CommitOptions) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in _METADATA:
        value = getattr(options, name)
        if value is not None:
            found[name] = session.put(Kind.META, _encoded(name, value))
    return found


def _encoded(name: str, value: Any) -> bytes:
    try:
        return encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UsageError(problem=f"{name} must be made of plain JSON-like values: {error}") from error


def _publish(
    database: Database,
    session: Session,
    draft: Commit,
    given: tuple[CommitId, ...] | None,
    expect: CommitId | None,
    options: CommitOptions,
    nonfinite: Mapping[str, Any] | None,
    lock: RemoteLock | None,
) -> tuple[Commit, Entry]:
    made: list[tuple[Commit, Entry]] = []

    def standing(best: CommitId, metric: str, mode: str) -> CommitId | None:
        return best if is_sound(database, best) else best_commit(database, draft.run, metric, mode)

    def settle() -> tuple[Entry, list[tuple[ObjectId, Kind, bytes]]]:
        parents = settle_parents(draft.run, given, expect, database.ref)
        settings = database.run_settings(draft.run)
        commit = replace(draft, parents=parents, time_ns=_time_after(database, parents, settings))
        excess = commit.excess()
        if excess is not None:
            raise TooLarge(object=excess[0], size=excess[1], limit=excess[2])
        data = commit.encode()
        identity = CommitId(object_id(Kind.COMMIT, data))
        while identity in database.forgotten():  # which is known no more, so this must be another one
            commit = replace(commit, time_ns=commit.time_ns + 1)
            data = commit.encode()
            identity = CommitId(object_id(Kind.COMMIT, data))
        rule = settings.get("best") if options.best is None else list(parse_best(options.best))
        runs, before = settings_changed(database, {draft.run: {"best": rule}})
        settings = {**settings, "best": rule}
        may_move = nonfinite is None or not database.health_gate
        moves = ref_moves(
            *(identity, commit, settings, database.ref, database.commit), is_sound=may_move, standing=standing
        )
        entry = Entry(
            "commit",
            time.time_ns(),
            refs=moves,
            runs=runs,
            before=before,
            marks=() if nonfinite is None else (Mark(identity, NONFINITE, None, nonfinite),),
            by=writer_name(),
            added=session.added + len(data),
        )
        made.append((commit, entry))
        if lock is not None:
            lock.check_time()
        return entry, [(identity, Kind.COMMIT, data)]

    session.publish(settle)
    return made[-1]


def _time_after(database: Database, parents: Sequence[CommitId], settings: Mapping[str, Any]) -> int:
    """Now, but after every parent: clocks of machines differ, history must not run backwards.

    And after what was said of the run up to now: that its name was given away, that it had ended.
    """
    times = [parent.time_ns for parent in map(database.commit, parents) if parent is not None]
    times += [at for at, _ in listed(settings.get("renamed"))]
    ended = finished(settings)
    return max(time.time_ns(), *(at + 1 for at in times), 0 if ended is None else ended[1] + 1)
