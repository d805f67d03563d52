"""retain: ask a retention policy about the commits of a store, and drop what it lets go, as one operation.

facts of all commits -> decision -> what goes, as drops -> one entry under the journal lock
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from casckpt.errors import InvalidRetention
from casckpt.format.entry import Entry
from casckpt.format.ids import CommitId
from casckpt.format.marks import DAMAGED, NONFINITE
from casckpt.odb.database import Database
from casckpt.odb.repository import Repository, writer_name
from casckpt.ops.kept_policy import kept_policies
from casckpt.ops.lifetime_reports import Fate, RetainReport
from casckpt.ops.lookup import marked, no_such_run, pinned
from casckpt.ops.losses import Components, Loss, Records, held, records_of
from casckpt.ops.publishing import publish
from casckpt.ops.pushed import pushed
from casckpt.ops.values import Progress, counted
from casckpt.plan.decision import FOREVER, CommitFacts, Plan
from casckpt.plan.names import HEADS, run_of
from casckpt.plan.policy import Retention
from casckpt.plan.retention import decide

THIN = "thin"
"""The rule in the record of a thinned commit."""
Policy = Retention | Mapping[str, Any]
_GRACE = "a call cannot say how long a drop can be undone; keep it with casckpt retain --save --grace or set_retention"
_NONE = "none is given and the store keeps none; say one, or keep one with casckpt retain --save or set_retention"


def apply(
    repository: Repository,
    policy: Policy | Sequence[Policy] | None = None,
    *,
    run: str | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> RetainReport:
    """Drop and thin what the policies that are kept let go, of all runs or of one.

    Args:
        policy: to be laid over what is kept, for this call; or several, in this order.
        progress: called with the commits looked at, and in all.

    Raises:
        InvalidRetention: the policy is empty, or cannot be meant; or none is given and none kept.
        UnknownSetting, InvalidSetting, DamagedSettings: the policy that the store keeps cannot be read.
        RevisionNotFound: there is no such run.

    Cost: about 50 us for each commit; a policy that thins reads the trees too. A commit made meanwhile doubles it.
    """
    layers = layers_of(policy)
    database = repository.database
    database.refresh()
    decided = _decided(database, layers, run, progress)
    made: list[Records] = []

    def settle() -> Entry:
        nonlocal decided
        # What was decided holds as long as nothing happened; else a tag given meanwhile would not save its commit.
        if decided.place != database.tail.position.seq:
            decided = _decided(database, layers, run, None)
        now_ns = time.time_ns()
        made.append(records_of(database, _losses(decided.plan), now_ns))
        return Entry("retain", now_ns, drops=made[-1].drops, by=writer_name())

    number: int | None = None
    if settle().drops:
        number, _ = publish(repository, settle, dry_run=dry_run)
    return RetainReport(
        plan=decided.plan,
        fates=tuple(Fate(one, *decided.places[one.id]) for one in decided.plan.decisions),
        left=made[-1].left,
        operation=None if dry_run else number,
        dry_run=dry_run,
    )


def carry_out(repository: Repository, decided: Plan) -> None:
    """Drop and thin what a plan lets go, but for what a name or a pin has come to hold since it was made."""
    database = repository.database

    def settle() -> Entry:
        holding = held(database)
        now_ns = time.time_ns()
        losses = (loss for loss in _losses(decided) if loss.commit not in holding and database.has_commit(loss.commit))
        return Entry("retain", now_ns, drops=records_of(database, losses, now_ns).drops, by=writer_name())

    database.refresh()
    if settle().drops:
        publish(repository, settle, dry_run=False)


def layers_of(policy: Policy | Sequence[Policy] | None) -> list[Retention]:
    """What a call says, to be laid over each other.

    Raises:
        InvalidRetention: it cannot be meant; or says for how long drops can be undone, of which a call cannot decide.
    """
    given = [policy] if isinstance(policy, Retention | Mapping) else list(policy or ())
    layers = [one if isinstance(one, Retention) else Retention.from_dict(one) for one in given]
    for layer in layers:
        if layer.says_grace():
            # Whether a drop is final is asked long after the call, and then only what is kept can say.
            raise InvalidRetention(key="grace", problem=_GRACE)
    return layers


class _Decided:
    """A plan, and the place in the journal that it is about."""

    def __init__(self, plan: Plan, facts: Sequence[CommitFacts], place: int) -> None:
        self.plan = plan
        self.places = {one.id: (one.step, one.time_ns) for one in facts}
        self.place = place


def _decided(database: Database, layers: Sequence[Retention], run: str | None, progress: Progress | None) -> _Decided:
    place = database.tail.position.seq
    layers = (*kept_policies(database).layers, *layers)
    if not layers:
        raise InvalidRetention(key="retention", problem=_NONE)
    components = Components(database) if any(layer.thins() for layer in layers) else None
    there = pushed(database) if any(layer.protect_unpushed for layer in layers) else None
    facts = list(_facts(database, run, components, there, progress))
    if run is not None and not facts and database.ref(f"runs/{run}/last") is None:
        raise no_such_run(database, run)
    best = {name: database.run_settings(name).get("best") for name in {one.run for one in facts}}
    own = {name: (rule[0], rule[1]) for name, rule in best.items() if type(rule) is list and len(rule) == 2}
    return _Decided(decide(facts, layers, time.time_ns(), best=own), facts, place)


def _facts(
    database: Database,
    run: str | None,
    components: Components | None,
    there: Collection[CommitId] | None,
    progress: Progress | None,
) -> Iterator[CommitFacts]:
    """What is known of the commits of all runs, or of one; of remotes by those that are `there`, if anybody asks."""
    heads: dict[CommitId, set[str]] = {}
    tags: dict[CommitId, list[str]] = {}
    for name, identity in database.own_refs().items():
        head = run_of(name)
        if head is None:
            tags.setdefault(identity, []).append(name.removeprefix("tags/"))
        else:
            heads.setdefault(identity, set()).add(head[1])
    pins = pinned(database)
    damaged = marked(database, DAMAGED)
    nonfinite = marked(database, NONFINITE) if database.health_gate else {}
    drops = database.drops()
    advance = counted(progress, sum(count for count, _ in database.totals().values()))
    for identity, commit in database.commits():
        advance(1)
        if run is not None and commit.run != run:
            continue
        drop = drops.get(identity)
        yield CommitFacts.of(
            identity,
            commit,
            heads=tuple(head for head in HEADS if head in heads.get(identity, ())),
            tags=tuple(tags.get(identity, ())),
            damaged=identity in damaged,
            nonfinite=identity in nonfinite,
            unpushed=there is not None and identity not in there,
            pinned_until=(pins[identity] or FOREVER) if identity in pins else None,
            dropped_ns=drop.time_ns if drop is not None and drop.parts is None else None,
            components=() if components is None else components.left(identity, commit),
        )


def _losses(plan: Plan) -> Iterator[Loss]:
    for one in plan.decisions:
        if one.by is not None:
            yield Loss(one.id, None, one.by.rule)
        elif one.thin:
            yield Loss(one.id, one.thin, THIN)
