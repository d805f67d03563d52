"""From an address to objects, with what stands around them."""

from __future__ import annotations

import os
import threading
from typing import NamedTuple

from casckpt.errors import RemoteNotFound
from casckpt.storage.addresses import Access, Address
from casckpt.storage.limited import Bucket, Limited
from casckpt.storage.memory_objects import MemoryObjects
from casckpt.storage.metered import Metered, Traffic
from casckpt.storage.objects import Objects
from casckpt.storage.retrying import TRIES, Retrying

_in_memory: dict[str, MemoryObjects] = {}
_mutex = threading.Lock()


class Opened(NamedTuple):
    """A place of objects, ready for use, and the count of what it was asked."""

    objects: Objects
    traffic: Traffic


def open_objects(address: Address, access: Access, *, limit_rate: int = 0, tries: int = TRIES) -> Opened:
    """The objects at an address: retried, limited if so asked, counted.

    Args:
        address: where.
        access: how a service is reached; means nothing for a folder.
        limit_rate: most bytes a second, up and down together; 0 for no limit.
        tries: how often a request is made before it has failed.

    Raises:
        UsageError: a package is missing, or `access` names what is not there.
        RemoteNotFound: the folder does not exist.
        RemoteDenied: there are no usable credentials.
    """
    metered = Metered(open_bare(address, access))
    inner: Objects = metered
    if limit_rate:
        inner = Limited(inner, Bucket(limit_rate))
    return Opened(Retrying(inner, tries), metered.traffic)


def open_bare(address: Address, access: Access) -> Objects:
    """The objects at an address, with nothing around them; raises as `open_objects`."""
    if address.scheme == "memory":
        return _memory(address.host)
    if address.scheme == "file":
        from casckpt.storage.local_objects import FolderObjects

        if not os.path.isdir(address.path):
            problem = "the folder does not exist, or what it is on is not mounted"
            raise RemoteNotFound(remote=address.url, problem=problem)
        return FolderObjects(address.path)
    from casckpt.storage.object import ServiceObjects
    from casckpt.storage.published import Published

    objects = ServiceObjects(address, access)
    return Published(objects) if objects.read_only else objects


def _memory(name: str) -> MemoryObjects:
    """Those of a name are one for all who open them in this process; those without are new each time."""
    if not name:
        return MemoryObjects()
    with _mutex:
        return _in_memory.setdefault(name, MemoryObjects())
