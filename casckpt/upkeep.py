"""The part of `Store` that looks after it: its settings, its condition, and that of the machine below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from casckpt.odb.repository import Repository
    from casckpt.ops.checks import DoctorReport
    from casckpt.ops.settings import StoreSettings


class Upkeep:
    """Settings and self-check, for `Store` alone; every method delegates to one operation."""

    _repository: Repository
    _settings: StoreSettings

    def settings(self) -> StoreSettings:
        """What holds where a call does not say otherwise: the settings of the store, or those given to `open`."""
        return self._settings

    def doctor(self) -> DoctorReport:
        """What is unusual about this machine and this store, and how to mend it; changes nothing in the store."""
        from casckpt.ops.doctor import doctor

        return doctor(self._repository.storage.path)
