"""Whether a place can be a remote, found out by doing what a remote relies on: no claim of a server is believed.

Some services ignore "only if it is not there yet" without a word, and the second of two writers would destroy what
the first one has. So an object is created twice, and the first bytes must have stayed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from casckpt.errors import RemoteDenied, RemoteUnavailable, RemoteUnfit
from casckpt.storage.objects import Objects, Outcome

_FIRST, _SECOND = b"casckpt tries out what came first", b"casckpt tries out what came later"
_WAY_OUT = "use a service that has conditional writes (AWS, R2, GCS, Azure, MinIO, Ceph, SeaweedFS), or a folder"


@dataclass(frozen=True, slots=True)
class Fitness:
    """What was found out.

    Attributes:
        creates_once: whether of two writers of one key the second one is told so.
        deletes: whether these credentials may delete; pushing does not need it, gc of the remote does.
        leftover: key of the trial object that could not be deleted; empty if none. A later gc removes it.
    """

    creates_once: bool
    deletes: bool
    leftover: str


def probe(objects: Objects, *, single_writer: bool = False) -> Fitness:
    """Try out a place that can be written.

    Args:
        single_writer: accept a place where a key can be written twice, as only one machine ever writes there.

    Raises:
        RemoteUnfit: it cannot be a remote; says why and what to do instead.
        RemoteNotFound: there is no such bucket or folder.
        RemoteDenied: the credentials do not allow what a push does.
        RemoteUnavailable: it could not be reached.
    """
    # Of the form that packs have, since credentials may be limited to that, and gc removes packs that nobody knows.
    random = os.urandom(36).hex()
    key = f"packs/{random[:2]}/{random[:64]}.{random[64:]}"
    folder = key.rpartition("/")[0] + "/"
    next(iter(objects.list(folder)), None)  # says whether the bucket is there; to ask for a key would not
    _create(objects, key, _FIRST, Outcome.CREATED, "an object that was not there could not be created")
    try:
        stored = _create_again(objects, key, single_writer=single_writer)
        _compare(objects, key, folder, stored)
    except BaseException:
        _delete(objects, key)
        raise
    deletes = _delete(objects, key)
    if deletes and objects.size(key) is not None:
        raise _unfit(objects, "it says that an object was deleted, and still has it")
    return Fitness(stored == _FIRST, deletes, "" if deletes else key)


def _create_again(objects: Objects, key: str, *, single_writer: bool) -> bytes:
    """Create the object a second time; what is to be there then."""
    if single_writer:
        objects.create(key, _SECOND)
        return _SECOND if objects.get(key, limit=len(_SECOND)) == _SECOND else _FIRST
    _create(objects, key, _SECOND, Outcome.EXISTS, "it stores an object over one that is there")
    return _FIRST


def _create(objects: Objects, key: str, data: bytes, wanted: Outcome, otherwise: str) -> None:
    outcome = objects.create(key, data)
    if outcome is Outcome.UNKNOWN:
        raise RemoteUnavailable(remote=objects.url, operation="store a trial object", problem="no answer came")
    if outcome is not wanted:
        raise _unfit(objects, otherwise)


def _compare(objects: Objects, key: str, folder: str, stored: bytes) -> None:
    """Read the object in every way."""
    size = len(stored)
    if objects.get(key, limit=size) != stored:
        raise _unfit(objects, "it stores an object over one that is there, and says it did not")
    if objects.get(key, 8, 20, limit=size) != stored[8:20] or objects.get(key, 8, limit=size) != stored[8:]:
        raise _unfit(objects, "it does not give the part of an object that it is asked for")
    if objects.get(key, size, size + 1, limit=size) != b"":
        raise _unfit(objects, "it gives more of an object than there is")
    if objects.size(key) != size:
        raise _unfit(objects, "it does not know the length of an object")
    found = [one for one in objects.list(folder) if one.key == key]
    if [one.nbytes for one in found] != [size]:
        raise _unfit(objects, "its listing does not show an object that was just created")
    if any(one.key == key for one in objects.list(folder, key)):
        raise _unfit(objects, "its listing does not begin where it is asked to")


def _delete(objects: Objects, key: str) -> bool:
    try:
        objects.delete([key])
    except RemoteDenied:
        return False
    return True


def _unfit(objects: Objects, problem: str) -> RemoteUnfit:
    return RemoteUnfit(remote=objects.url, problem=problem, way_out=_WAY_OUT)
