"""A store keeps a retention policy, for all its runs or for one, or keeps it no more."""

from __future__ import annotations

from casckpt.errors import InvalidRetention
from casckpt.format.canonical import encode
from casckpt.odb.repository import Repository
from casckpt.ops.kept_policy import KeptPolicies, run_policies, store_policy
from casckpt.ops.run_changes import keep_run_policy
from casckpt.ops.settings_edit import edit_policy
from casckpt.plan.names import run_of
from casckpt.plan.policy import Retention

MAX_RUN_POLICY_BYTES = 4096
"""So that the settings of a thousand runs fit into one frame of the journal; a policy of all keys takes some 600."""


def keep_policy(
    repository: Repository, policy: Retention | None, run: str | None = None, *, dry_run: bool = False
) -> bool:
    """Keep a policy in place of the one that is kept, or none any more; whether that changes anything.

    That of all runs stands in the settings file of the store, which the journal knows nothing of. That of one run is
    in the journal, so it can be taken back, and goes with the run when that gets another name.

    Raises:
        InvalidRetention: together with what else is kept it would keep nothing of a run, or it is too long; or it is
            one run's and speaks of others.
        RevisionNotFound: there is no such run.
        DamagedSettings, ReadOnlyStore, BusyError, StorageError: the settings file cannot be changed, and is as it was.
    """
    database = repository.database
    database.refresh()
    if run is None:
        if policy is not None:
            runs = {found[0] for found in map(run_of, database.refs("runs/")) if found is not None}
            _refuse_useless(KeptPolicies(policy, run_policies(database)), *sorted(runs | {"main"}))
        return edit_policy(repository.storage, policy, dry_run=dry_run)
    if policy is not None:
        if policy.runs:
            raise InvalidRetention(key="runs", problem="the policy of one run says nothing of others")
        if len(encode(policy.to_dict())) > MAX_RUN_POLICY_BYTES:
            problem = f"that of one run has at most {MAX_RUN_POLICY_BYTES} bytes"
            raise InvalidRetention(key="retention", problem=problem)
        _refuse_useless(KeptPolicies(store_policy(database), {run: policy}), run)
    table = None if policy is None else policy.to_dict()
    return keep_run_policy(repository, run, table, dry_run=dry_run)


def _refuse_useless(kept: KeptPolicies, *runs: str) -> None:
    """Raise InvalidRetention if nothing of one of the runs would be kept, as it would when the policies are used."""
    for run in runs:
        kept.of(run)
