"""The part of `Store` that looks after it: its settings, its condition, and that of the machine below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from casckpt.odb.coder import Compress
    from casckpt.odb.repository import Repository
    from casckpt.ops.background import Background
    from casckpt.ops.checks import DoctorReport
    from casckpt.ops.reports import FsckReport
    from casckpt.ops.settings import StoreSettings


class Upkeep:
    """Settings and checks, for `Store` alone; every method delegates to one operation."""

    _repository: Repository
    _background: Background
    _settings: StoreSettings

    def settings(self) -> StoreSettings:
        """What holds where a call does not say otherwise: the settings of the store, or those given to `open`."""
        return self._settings

    def doctor(self) -> DoctorReport:
        """What is unusual about this machine and this store, and how to mend it; changes nothing in the store."""
        from casckpt.ops.doctor import doctor

        return doctor(self._repository.storage.path)

    def fsck(self, depth: str = "quick", *, repair: bool = False) -> FsckReport:
        """Verify the store: `quick` (journal, tables of contents, structure) or `full` (every byte); may heal it."""
        from casckpt.ops.fsck import fsck

        if repair:
            self._background.turn()
        return fsck(self._repository, depth, repair=repair)

    def _run(self, run: str | None) -> str:
        """The run of a commit, which a call may name."""
        return run if run is not None else self._settings.run or "main"

    def _compress(self, compress: Compress | None) -> Compress:
        return compress if compress is not None else self._settings.compress
