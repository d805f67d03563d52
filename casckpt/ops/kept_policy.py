"""Retention policies that a store keeps: one for all its runs in its settings file, and one for a run in its journal.

What a run keeps is laid over what the store keeps. How long a drop can be undone is asked whenever something is to go
for good, so it is a matter of these policies alone: one that a call gives is forgotten when the call ends.
"""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from casckpt.errors import InvalidRetention
from casckpt.odb.database import Database
from casckpt.ops.settings import store_layer
from casckpt.plan.policy import Retention, effective, grace_of
from casckpt.plan.settings import Settings

SETTING = "retention"
"""The setting of a run that holds its policy."""


@dataclass(frozen=True, slots=True)
class KeptPolicies:
    """The policies that a store keeps."""

    store: Retention | None
    """For all runs."""
    runs: Mapping[str, Retention]
    """For single runs, by name."""

    @property
    def layers(self) -> tuple[Retention, ...]:
        """Those to be laid over each other, the stronger last."""
        # A run is a pattern that fits nothing else, so one policy can say what all of them keep.
        exact = {glob.escape(name): policy for name, policy in self.runs.items()}
        return (*(() if self.store is None else (self.store,)), *((Retention(runs=exact),) if exact else ()))

    def of(self, run: str) -> Retention:
        """What holds for a run; nothing but its grace if neither the store nor the run keeps a policy.

        Raises:
            InvalidRetention: laid over each other they keep nothing.
        """
        return effective(self.layers, run)

    def grace_ns(self, run: str) -> int:
        """How long a drop of a commit of a run can be undone, in nanoseconds."""
        return grace_of(self.layers, run)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "store": None if self.store is None else self.store.to_dict(),
            "runs": {name: policy.to_dict() for name, policy in sorted(self.runs.items())},
        }


def kept_policies(database: Database) -> KeptPolicies:
    """The policies that a store keeps now.

    Raises:
        UnknownSetting, InvalidSetting, DamagedSettings: the one in its settings file cannot be read.
        InvalidRetention: that of a run cannot be meant, as only other programs write it.

    Cost: reads the settings file and the settings of all runs.
    """
    return KeptPolicies(store_policy(database), run_policies(database))


def store_policy(database: Database) -> Retention | None:
    """The policy that a store keeps for all runs.

    Raises:
        UnknownSetting, InvalidSetting, DamagedSettings: it cannot be read.
    """
    return Settings([store_layer(database.storage)]).policy()


def run_policies(database: Database) -> dict[str, Retention]:
    """The policies that a store keeps for single runs.

    Raises:
        InvalidRetention: one cannot be meant.
    """
    settings = ((name, settings.get(SETTING)) for name, settings in database.all_run_settings())
    return {name: _policy_of(name, table) for name, table in settings if table is not None}


def _policy_of(run: str, table: Any) -> Retention:
    """The policy that a setting of a run is."""
    try:
        policy = Retention.from_dict(table)
        if policy.runs:
            raise InvalidRetention(key="runs", problem="the policy of one run says nothing of others")
    except InvalidRetention as error:
        key = f"the policy kept for the run {run!a}, {error.facts['key']}"
        raise InvalidRetention(key=key, problem=error.facts["problem"]) from None
    return policy
