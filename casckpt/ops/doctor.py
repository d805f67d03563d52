"""doctor: what is unusual about this machine and this store, why it matters, and how to mend it.

The store is opened read-only, so that looking at it changes nothing, and every check stands alone: one that cannot be
made says so and the others go on. A store that does not open is a finding among others.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterator

from casckpt.errors import CasckptError, StoreNotFound
from casckpt.odb.database import Database
from casckpt.odb.journal import file_name
from casckpt.odb.pack_writer import pack_name
from casckpt.odb.repository import FOLDERS, Repository
from casckpt.ops.checks import NOTE, OK, PROBLEM, WARNING, Check, DoctorReport
from casckpt.ops.machine import machine_checks
from casckpt.ops.settings import store_layer
from casckpt.plan.settings import Layer
from casckpt.storage.flock import holders_of, open_lockable, try_lock
from casckpt.storage.local import LocalStorage
from casckpt.storage.posix import OPEN_FLAGS
from casckpt.storage.probe import Trial, trials
from casckpt.units import format_bytes, format_count, rfc3339

NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse", "fuseblk", "lustre", "gpfs", "ceph", "beegfs", "afs")
SPACE_SHARE = 0.05
CLOCK_S = 60
_SHOWN = 5


def doctor(path: str | os.PathLike[str] | None = None) -> DoctorReport:
    """Check the machine and, if a path is given, the store there. Never raises for what it finds.

    Cost: opens the store, lists packs/ and tmp/, and tries its file system out on a few small files in tmp/.
    """
    checks = list(machine_checks())
    if path is None:
        return DoctorReport(None, tuple(checks))
    place = os.path.abspath(os.fspath(path))
    if not os.path.isdir(place):
        hint = "casckpt init, or name a store with -C PATH or CASCKPT_STORE"
        checks.append(Check(PROBLEM, "store.open", f"no casckpt store at {place}", "there is no such folder", hint))
        return DoctorReport(place, tuple(checks), StoreNotFound.exit_code)
    storage = LocalStorage(place, read_only=True)
    for check in (_folder_checks, _trial_checks, _leftovers, _locks):
        checks += _guarded(check.__name__.strip("_"), lambda check=check: check(place))  # type: ignore[misc]
    checks += settings_checks("store.settings", store_layer(storage))
    try:
        repository = Repository(storage)
    except CasckptError as error:
        checks.append(Check(PROBLEM, "store.open", error.summary, error.reason, error.advice))
        return DoctorReport(place, tuple(checks), error.exit_code)
    with contextlib.closing(repository):
        for look in (_journal, _index, _packs, _newest):
            checks += _guarded(look.__name__.strip("_"), lambda look=look: look(repository.database))  # type: ignore[misc]
    return DoctorReport(place, tuple(checks))


def _guarded(name: str, make: Callable[[], Iterator[Check]]) -> list[Check]:
    """The checks that could be made, and a note about the one that could not."""
    found: list[Check] = []
    try:
        for check in make():  # what came before a failure counts
            found.append(check)
    except (OSError, CasckptError) as error:
        says = error.summary if isinstance(error, CasckptError) else str(error)
        found.append(Check(NOTE, "doctor.unknown", f"{name.replace('_', ' ')}: could not be looked at", says))
    return found


def settings_checks(code: str, layer: Layer) -> list[Check]:
    """What is wrong with a settings file; nothing if it is absent or right."""
    if not layer.problems:
        keys = ", ".join(sorted(layer.values))
        return [Check(OK, code, f"{layer.place}: {keys}")] if keys else []
    return [Check(WARNING, code, error.summary, error.reason, error.advice) for error in layer.problems]


def _folder_checks(place: str) -> Iterator[Check]:
    yield _file_system(place)
    found = os.statvfs(place)
    free, whole = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    says = f"{format_bytes(free)} free of {format_bytes(whole)}"
    low = free < SPACE_SHARE * whole
    why = "a commit that finds no room fails and changes nothing; the store does not make room by itself"
    little = Check(WARNING, "store.space", says, why, "free space on that disk")
    yield little if low else Check(OK, "store.space", says)
    if found.f_files:
        share = found.f_favail / found.f_files
        says = f"{format_count(found.f_favail)} inodes free"
        why = "every pack is a file, and without inodes none can be made"
        few = Check(WARNING, "store.inodes", says, why, "remove small files on that disk")
        yield few if share < SPACE_SHARE else Check(OK, "store.inodes", says)
    yield _permissions(place)


def _file_system(place: str) -> Check:
    kind = _kind_of(place)
    if kind in NETWORK or kind.startswith("fuse."):
        why = "there locks, flushes and mapped files may promise more than they keep; the trials below tell what works"
        hint = "keep the store on a local disk if you can"
        return Check(NOTE, "store.filesystem", f"{place} is on {kind}", why, hint)
    return Check(OK, "store.filesystem", f"{place} is on {kind or 'a file system that does not say its name'}")


def _kind_of(place: str) -> str:
    """The type of the file system that holds a folder, empty where the system does not tell."""
    device = os.stat(place).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with contextlib.suppress(OSError), open("/proc/self/mountinfo", "rb") as file:
        for line in file.read(1 << 20).decode(errors="replace").splitlines():
            # `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`; what is before the dash varies.
            words, _, rest = line.partition(" - ")
            if words.split()[2:3] == [wanted] and rest:
                return rest.split()[0]
    return ""


def _permissions(place: str) -> Check:
    found = os.stat(place)
    if found.st_uid != os.geteuid():
        why = "files that you write belong to you, and their owner may not be able to read them"
        says = f"the store belongs to user {found.st_uid}, and you are {os.geteuid()}"
        return Check(WARNING, "store.owner", says, why, "let one user write to a store")
    open_to = stat.S_IMODE(found.st_mode) & 0o077
    if open_to:
        says = f"the folder has mode {stat.S_IMODE(found.st_mode):03o}"
        return Check(NOTE, "store.owner", says, "others of this machine may enter it", f"chmod 700 {place}")
    wrong = [name for name in (*FOLDERS, "index") if not _is_usable(os.path.join(place, name))]
    if wrong:
        says, why = f"no permission for {', '.join(wrong)}", "commits and reads there will be refused"
        return Check(WARNING, "store.owner", says, why, f"chmod -R u+rwX {place}")
    return Check(OK, "store.owner", "the store is yours alone")


def _is_usable(path: str) -> bool:
    return not os.path.lexists(path) or os.access(path, os.R_OK | os.W_OK | os.X_OK)


_TRIALS = {
    "flock": (PROBLEM, "two commits at once could spoil each other", "keep the store on a file system with flock"),
    "clock": (WARNING, "ages of commits and files are told by clocks", "set both clocks by NTP"),
    "flush": (PROBLEM, "what was committed could be lost with the power", "keep the store on another disk"),
    "direct": (NOTE, "large reads and writes go through the page cache, which is slower", ""),
    "mmap": (NOTE, "checkout(mmap=True) copies instead of mapping, and the index may not work", ""),
    "rename": (PROBLEM, "packs get their names by renaming", "keep the store on another file system"),
}
"""How bad it is if a trial fails, why, and what to do."""


def _trial_checks(place: str) -> Iterator[Check]:
    folder = os.path.join(place, "tmp")
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        why = "nothing can be written to tmp/, so the file system was not tried out"
        yield Check(NOTE, "store.trials", "the store cannot be written", why, "ask its owner, if you want to commit")
        return
    went_well: list[Trial] = []
    for trial in trials(folder):
        if trial.ok:
            went_well.append(trial)
        else:
            level, why, hint = _TRIALS[trial.name]
            yield Check(level, f"store.{trial.name}", f"{trial.name} does not work there: {trial.says}", why, hint)
    flush = next((f", a flush takes {trial.seconds * 1e3:.1f} ms" for trial in went_well if trial.name == "flush"), "")
    yield Check(OK, "store.trials", f"{', '.join(trial.name for trial in went_well)} work there{flush}")


def _leftovers(place: str) -> Iterator[Check]:
    folder = os.path.join(place, "tmp")
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    dead = [name for name in names if not name.startswith("index-") and _is_abandoned(os.path.join(folder, name))]
    size = sum(_size(os.path.join(folder, name)) for name in dead)
    if dead:
        says = f"{len(dead)} unfinished files in tmp/, {format_bytes(size)}"
        why = "their writers were killed; they belong to no commit"
        yield Check(NOTE, "store.leftovers", says, why, "the next commit removes them")
    trash = os.path.join(place, "trash")
    moved = sorted(os.listdir(trash)) if os.path.isdir(trash) else []
    if moved:
        says = f"{len(moved)} damaged files in trash/, {format_bytes(sum(_size(f'{trash}/{name}') for name in moved))}"
        why = "a repair put them aside; the store does not use them"
        yield Check(NOTE, "store.trash", says, why, "remove them when casckpt fsck --full finds no damage")


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def _is_abandoned(path: str) -> bool:
    """Whether nobody holds an unfinished file: its writer has it locked for as long as it lives."""
    try:
        descriptor = open_lockable(lambda: os.open(path, os.O_RDONLY | OPEN_FLAGS))
    except OSError:
        return False
    try:
        # Shared, and let go at once: whoever would remove it tries again.
        return try_lock(descriptor, exclusive=False)
    finally:
        descriptor.close()


def _locks(place: str) -> Iterator[Check]:
    folder = os.path.join(place, "lock")
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        with contextlib.suppress(OSError):
            fd = os.open(os.path.join(folder, name), os.O_RDONLY | OPEN_FLAGS)
            try:
                pids = holders_of(fd)
            finally:
                os.close(fd)
            stopped = [pid for pid in pids if _is_stopped(pid)]
            who = f"lock {name} is held by process {', '.join(map(str, pids[:_SHOWN]))}"
            if stopped:
                why = f"process {stopped[0]} is stopped, and others wait for what it holds"
                yield Check(WARNING, "store.locks", who, why, f"kill -CONT {stopped[0]}, or end it")
            elif pids:
                yield Check(OK, "store.locks", who)


def _is_stopped(pid: int) -> bool:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
        return file.read(4096).rpartition(b")")[2].split()[:1] in ([b"T"], [b"t"])
    return False


def _journal(database: Database) -> Iterator[Check]:
    database.refresh()
    gaps = database.gaps()
    numbers = database.journal.files()
    size = sum(database.storage.size(file_name(number)) or 0 for number in numbers)
    frames = database.tail.position.seq + 1
    if gaps:
        where = ", ".join(f"{file_name(file)} at {start}" for file, start, _ in gaps[:_SHOWN])
        why = "what these frames said is not known; commits behind them are"
        yield Check(PROBLEM, "store.journal", f"{len(gaps)} gaps in the journal: {where}", why, "casckpt fsck --full")
    if database.tail.kind == "torn":
        why = "a writer was killed or the power failed in the middle of a write that was never acknowledged"
        says = f"the end of {file_name(numbers[-1])} is torn"
        yield Check(NOTE, "store.tail", says, why, "nothing: the next commit cuts it off")
    elif database.tail.kind not in ("clean", "torn"):
        says = f"the end of {file_name(numbers[-1])} is {database.tail.kind}"
        why = "bytes there hold no frame, and no crash explains them"
        yield Check(PROBLEM, "store.tail", says, why, "casckpt fsck")
    if not gaps:
        says = f"journal: {format_count(frames)} frames, {len(numbers)} files, {format_bytes(size)}"
        yield Check(OK, "store.journal", says)


def _index(database: Database) -> Iterator[Check]:
    size = _size(os.path.join(str(database.storage.path), "index", "data.mdb"))
    if not database.has_index:
        says = "the index is not there" if not size else f"the index ({format_bytes(size)}) does not fit the journal"
        why = "every command reads the whole journal instead"
        yield Check(NOTE, "store.index", says, why, "the next commit builds it anew")
    else:
        says = f"index of {format_bytes(size)}, {format_count(database.pending)} frames behind the journal"
        yield Check(OK, "store.index", says)


def _packs(database: Database) -> Iterator[Check]:
    storage = database.storage
    listed = {pack_name(pack.id): pack.nbytes for pack in database.pack_set()}
    there = {f"packs/{name}" for name in storage.list("packs")}
    missing = sorted(name for name in listed if name not in there)
    if missing:
        says = f"{len(missing)} packs are missing: {', '.join(missing[:_SHOWN])}"
        yield Check(PROBLEM, "store.packs", says, "commits need what they held", "casckpt fsck --full --repair")
    short = sorted(name for name in listed if name in there and storage.size(name) != listed[name])
    if short:
        says = f"{len(short)} packs have the wrong length: {', '.join(short[:_SHOWN])}"
        yield Check(PROBLEM, "store.packs", says, "commits need what they held", "casckpt fsck --full --repair")
    orphans = sorted(there - listed.keys())
    if orphans:
        size = sum(storage.size(name) or 0 for name in orphans)
        says = f"{len(orphans)} files in packs/ that no journal entry names, {format_bytes(size)}"
        why = "a commit that was interrupted, or is being made, leaves such packs; no commit needs them"
        yield Check(NOTE, "store.orphans", says, why, "nothing: they do no harm")
    if not (missing or short):
        yield Check(OK, "store.packs", f"{len(listed)} packs, {format_bytes(sum(listed.values()))}")


def _newest(database: Database) -> Iterator[Check]:
    times = [commit.time_ns for identity in database.refs().values() if (commit := database.commit(identity))]
    ahead_s = (max(times, default=0) - time.time_ns()) / 1e9
    if ahead_s > CLOCK_S:
        says = f"the newest commit is of {rfc3339(max(times))}, {ahead_s:.0f} s in the future"
        why = "the clock of this machine is behind, or that of its writer was ahead; the log is in order of time"
        yield Check(WARNING, "store.clock", says, why, "set the clock by NTP")
