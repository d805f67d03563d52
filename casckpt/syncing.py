"""The part of `Store` that moves commits between this store and remotes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from casckpt.odb.repository import Repository
    from casckpt.ops.remotes import Remote
    from casckpt.ops.settings import StoreSettings


class Syncing:
    """Remotes, for `Store` alone; every method delegates to one operation."""

    _repository: Repository
    _settings: StoreSettings

    def remotes(self) -> list[Remote]:
        """The remotes of this store, in the order of its settings file.

        Raises:
            UnknownSetting, InvalidSetting, SecretInUrl, DamagedSettings: something that is said of them cannot be read.
        """
        from casckpt.ops.remotes import remotes

        return list(remotes(self._repository.storage, self._settings.remotes).values())

    def add_remote(self, name: str, url: str, *, dry_run: bool = False, **options: Any) -> Remote:
        """Make a remote known under a name.

        Args:
            url: `s3://BUCKET/PREFIX`, or the path of a folder that machines share. Never with a secret in it.
            options: what else is known of it: `profile`, `endpoint`, `region`, `limit_rate` and so on, as of the
                settings `remote.NAME.KEY`.

        Raises:
            RemoteExists: one has that name.
            InvalidName, UnknownSetting, InvalidSetting, SecretInUrl: what is said of it cannot be.
        """
        from casckpt.ops.remote_changes import add_remote

        return add_remote(self._repository.storage, name, url, options, dry_run=dry_run)

    def set_remote(self, name: str, key: str, value: Any, *, dry_run: bool = False) -> Remote:
        """Change one thing that is known of a remote; None for what holds if nothing is said.

        Raises:
            RemoteNotFound: there is no such remote.
            UnknownSetting, InvalidSetting, SecretInUrl: it cannot be.
        """
        from casckpt.ops.remote_changes import set_remote

        return set_remote(self._repository.storage, name, key, value, dry_run=dry_run)

    def remove_remote(self, name: str, *, dry_run: bool = False) -> Remote:
        """Know a remote no more, nor what was fetched of its refs; it keeps what it holds, and this store its commits.

        Raises:
            RemoteNotFound: there is no such remote.
        """
        from casckpt.ops.remote_changes import remove_remote

        return remove_remote(self._repository, name, dry_run=dry_run)[0]
