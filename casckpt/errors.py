"""The exception tree of casckpt, cut by what a caller can do next.

Every class names its facts once, in templates: `what` happened, `why`, and what to try (`hint`). The message is
built from the facts given to the constructor, so no message is assembled at the place that raises, every error
pickles, and the command line, `--json` and Python show the same words.

    UsageError      the call is wrong: change it            also ValueError
    NotFoundError   nothing has that name                   also LookupError
    ConflictError   someone else was first: read, retry
    BusyError       a lock was not free within the wait     also TimeoutError
    IntegrityError  stored bytes are not what was written
    FormatError     a version, feature or encoding this release does not know
    StorageError    the disk or the network failed; `.transient` says whether waiting may help   also OSError
    StateError      a value cannot be stored or restored    also ValueError
    CheckFailed     a run is worse than a check allows
"""

from __future__ import annotations

from typing import Any, ClassVar


class OpaqueWarning(UserWarning):
    """A stored value of a class that is not here was given as `casckpt.Opaque`."""


class _Facts(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "?"


def _rebuild(cls: type[CasckptError], facts: dict[str, Any]) -> CasckptError:
    return cls(**facts)


class CasckptError(Exception):
    """Base of everything casckpt raises on purpose.

    Args:
        facts: values named in the class's templates; kept in `.facts` and shown by `--json` as details.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 70
    what: ClassVar[str] = "casckpt failed"
    why: ClassVar[str] = ""
    hint: ClassVar[str] = ""

    def __init__(self, **facts: Any) -> None:
        self.facts = facts
        super().__init__(self.message)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.facts)

    def __str__(self) -> str:
        return self.message

    def _fill(self, template: str) -> str:
        return template.format_map(_Facts(self.facts))

    @property
    def summary(self) -> str:
        """What happened, one lower-case clause without a final period."""
        return self._fill(self.what)

    @property
    def reason(self) -> str:
        """Why it happened; empty if the summary says it all."""
        return self._fill(self.why)

    @property
    def advice(self) -> str:
        """What to do next; empty if nothing can be done."""
        return self._fill(self.hint)

    @property
    def message(self) -> str:
        return "; ".join(part for part in (self.summary, self.reason, self.advice) if part)


class UsageError(CasckptError, ValueError):
    code, exit_code = "usage", 2
    what = "{problem}"


class NotConfirmed(UsageError):
    code = "usage.not-confirmed"
    what = "{action} was not confirmed; nothing was changed"
    why = "{problem}"
    hint = "--yes confirms it beforehand; --dry-run shows what would be done"


class InvalidName(UsageError):
    code = "usage.name"
    what = "{kind} name {name!r} cannot be used"
    why = "{problem}"


class SecretInUrl(UsageError):
    code = "usage.secret"
    what = "the address of a remote must not hold a secret"
    why = "it would be kept in the configuration and shown in messages"
    hint = "leave credentials to the environment or to a profile (--profile)"


class InvalidRevision(UsageError):
    code = "rev.syntax"
    what = "cannot read {text!r} as a revision"
    why = "{problem}"
    hint = "casckpt help revisions"


class AmbiguousRevision(UsageError):
    code = "rev.ambiguous"
    what = "{text!r} matches {count} commits"
    why = "{candidates}"
    hint = "give more digits of the id"


class InvalidFilter(UsageError):
    code = "filter.syntax"
    what = "cannot read {text!r} as a filter"
    why = "at character {column}: {problem}"
    hint = "casckpt help filters"


class InvalidRetention(UsageError):
    code = "retention.invalid"
    what = "cannot use this retention policy"
    why = "{key}: {problem}"
    hint = "casckpt retain --help"


class InvalidCheck(UsageError):
    code = "check.syntax"
    what = "cannot read {text!r} as a check"
    why = "{problem}"
    hint = "casckpt compare --help"


class TooLarge(UsageError):
    code = "usage.too-large"
    what = "{object} is too large"
    why = "it has {size}, the format allows {limit}; nothing was committed"
    hint = "keep large values in the state itself, as tensors or bytes"


class NotUndoable(UsageError):
    code = "undo.kind"
    what = "operation {operation} ({op}) cannot be taken back"
    why = "{problem}"
    hint = "casckpt undo --list shows the operations with what they changed"


class SchemaMismatch(UsageError):
    code = "schema.mismatch"
    what = "commit {commit} does not hold a state of the schema {asked!r}"
    why = "it states {stored}"
    hint = "leave schema= out, or take the state as it is stored with migrate=False"


class PartialMigration(UsageError):
    code = "schema.part"
    what = "commit {commit} holds version {start} of the schema {name!r}, which only whole states are migrated from"
    why = "select= takes a part, mmap=True takes what is not verified"
    hint = "leave them out, or take what is stored with migrate=False"


class MigrationExists(UsageError):
    code = "schema.step-exists"
    what = "a step from version {start} of the schema {name!r} is registered already"
    why = "it leads to version {end}, by {function}"
    hint = "make one step from each version"


class CommitElsewhere(UsageError):
    code = "commit.elsewhere"
    what = "this commit is made by process {pid}, not by this one"
    why = "a forked child does not have the background work of its parent"
    hint = "ask for its result in that process"


class UnknownSetting(UsageError):
    code = "config.unknown-key"
    what = "no setting is called {key!r}"
    why = "{problem}"
    hint = "casckpt config lists the settings"


class InvalidSetting(UsageError):
    code = "config.value"
    what = "{key} cannot be {value!r}"
    why = "{place}: {problem}"
    hint = "casckpt help settings"


class DamagedSettings(UsageError):
    code = "config.file"
    what = "{file} cannot be read as settings"
    why = "{problem}"
    hint = "mend the file or take it away; casckpt help settings shows what it may say"


class NotFoundError(CasckptError, LookupError):
    code, exit_code = "not-found", 3
    what = "{thing} not found"


class StoreNotFound(NotFoundError):
    code = "store.not-found"
    what = "no casckpt store at {path}"
    why = "{problem}"
    hint = "casckpt init, or name a store with -C PATH or CASCKPT_STORE"


class TopicNotFound(NotFoundError):
    code = "help.unknown"
    what = "no help on {topic!r}"
    why = "{problem}"
    hint = "casckpt help lists the topics"


class RevisionNotFound(NotFoundError):
    code = "rev.not-found"
    what = "no revision named {text!r}"
    why = "{problem}"
    hint = "casckpt log --all lists the commits"


class MetricNotFound(NotFoundError):
    code = "metric.unknown"
    what = "none of these commits has the metric {metric!r}"
    why = "{problem}"
    hint = "casckpt log shows the metrics of each commit"


class NothingToUndo(NotFoundError):
    code = "undo.nothing"
    what = "there is nothing to take back"
    why = "{problem}"
    hint = "casckpt undo --list shows the operations with their numbers"


class CommitDropped(NotFoundError):
    code = "commit.dropped"
    what = "commit {commit} was dropped"
    why = "by the rule {rule!r} at {when}; {undo}; its log entry, metrics and parents are kept"
    hint = "{back}casckpt log shows its neighbours"


class CommitThinned(NotFoundError):
    code = "commit.thinned"
    what = "commit {commit} has been thinned of {parts}"
    why = "by the rule {rule!r} at {when}; {undo}; the rest of it is kept"
    hint = "{back}checkout and export give the rest with {left}"


class NotFetched(CommitDropped):
    code = "commit.not-fetched"
    what = "the content of commit {commit} is not here"
    why = "it was not fetched; its log entry, metrics and parents are here"
    hint = "casckpt fetch REMOTE {commit} brings it; casckpt log shows its neighbours"


class PartNotFetched(CommitThinned):
    code = "commit.part-not-fetched"
    what = "{parts} of commit {commit} are not here"
    why = "they were not fetched; the rest of it is here"
    hint = "casckpt fetch REMOTE {commit} brings them; checkout and export give the rest with {left}"


class MigrationNotFound(NotFoundError):
    code = "schema.no-step"
    what = "no step leads from version {at} of the schema {name!r} towards {end}"
    why = "commit {commit} holds version {start}; registered: {registered}"
    hint = "register it with casckpt.migration, or take the state as it is stored with migrate=False"


class ConflictError(CasckptError):
    code, exit_code = "ref.moved", 5
    what = "{ref} moved while this commit was being written"
    why = "expected {expected}, found {actual}; nothing was changed, the data is stored"
    hint = "read the ref again and retry"


class RefExists(ConflictError):
    code = "ref.exists"
    what = "{ref} exists already"
    why = "it names {actual} and never moves"
    hint = "choose another name"


class RunExists(RefExists):
    code = "run.exists"
    what = "run {run!r} exists already"
    why = "its last commit is {actual}"


class UndoConflict(ConflictError):
    code = "undo.moved"
    what = "operation {operation} ({op}) cannot be taken back"
    why = "{what} changed since: it left {expected}, now there is {actual}; nothing was changed"
    hint = "casckpt undo --list shows what came after; take that back first"


class AlreadyUndone(ConflictError):
    code = "undo.done"
    what = "operation {operation} ({op}) is taken back already"
    why = "by operation {by}"
    hint = "casckpt undo {by} does it again"


class CommitProtected(ConflictError):
    code = "commit.held"
    what = "{count} of these commits cannot be dropped"
    why = "a name or a pin holds {commits}; nothing was changed"
    hint = "casckpt tag -d and casckpt pin -d let go of tags and pins; the last, best and recovery of a run stay"


class CommitNamed(CommitProtected):
    code, what = "forget.held", "{count} of these commits cannot be forgotten"
    hint = "forget the whole run, or say --force: tags and pins go along then, and a run's last moves to what is left"


class RemoteExists(ConflictError):
    code = "remote.exists"
    what = "there is a remote {remote} already"
    why = "it is at {url}"
    hint = "choose another name, or change it: casckpt remote set {remote} url URL"


class StoreExists(ConflictError):
    code = "store.exists"
    what = "{path} is a casckpt store already"
    why = ""
    hint = "open it, or choose another folder"


class FolderNotEmpty(ConflictError):
    code = "init.not-empty"
    what = "{path} is not empty"
    why = "it holds {name!r}, and a store needs a folder of its own"
    hint = "choose a folder that is absent or empty"


class TargetExists(ConflictError):
    code = "checkout.exists"
    what = "{path} exists already"
    why = "checkout never overwrites what it cannot restore"
    hint = "choose another target, or replace it: casckpt checkout --replace, in Python replace=True"


class BusyError(CasckptError, TimeoutError):
    code, exit_code = "lock.busy", 6
    what = "lock {lock} was not free within {wait_s:g} s"
    why = "held by {holder}"
    hint = "wait for that process or end it, then repeat"


class LockHeld(BusyError):
    code = "lock.held"
    what = "the lock {lock} of {remote} is held by {holder}"
    why = "unless it is renewed, it can be taken over {left_s} s from now"
    hint = "wait for it (--wait), ask again then, or take it away: casckpt remote unlock --break"


class NotDurableYet(BusyError):
    code = "commit.unfinished"
    what = "a commit in the background did not end within {wait_s:g} s"
    why = "it goes on; nothing is lost"
    hint = "ask again later, or give it more time"


class ForgetUnfinished(BusyError):
    code, why, hint = "forget.unfinished", "{problem}", "casckpt forget without a name, or casckpt gc, goes on"
    what = "{count} commits are forgotten for good, but bytes of them are left"


class IntegrityError(CasckptError):
    code, exit_code = "data.damaged", 4
    what = "{object} is damaged"
    why = "{problem}"
    hint = "casckpt fsck names every commit hit; casckpt fsck --repair heals what has a second copy"


class DamagedObject(IntegrityError):
    what = "{kind} {id} is damaged or missing"
    why = "{problem} ({location})"


class DamagedLeaf(IntegrityError):
    code = "data.damaged-leaf"
    what = "{path} of commit {commit} cannot be read"
    why = "{problem}"


class UnreadableCommit(IntegrityError):
    code = "gc.unreadable-commit"
    what = "what commit {commit} needs cannot be read, so nothing was freed"
    why = "{problem}"
    hint = "casckpt fsck --repair heals what has a second copy; casckpt drop {commit} gives the commit up"


class LostFrames(IntegrityError):
    code = "gc.lost-frames"
    what = "frames of the journal are lost, so nothing was freed"
    why = "the commits in them may need anything"
    hint = "casckpt fsck --repair takes back what they named, and goes over the damage"


class PartialRestore(DamagedLeaf):
    code = "data.partial-restore"
    what = "{path} of commit {commit} cannot be read, and {count} leaves of the live state were overwritten before"
    why = "{problem}; overwritten, wholly or in part: {shown}"
    hint = "restore the live state from another commit; verify='first' reads everything before anything is overwritten"


class DamagedFile(IntegrityError):
    code = "data.damaged-file"
    what = "{file} is damaged"
    why = "{problem}"


class NotReadBack(IntegrityError):
    code = "data.not-read-back"
    what = "pack {pack} does not read back as it was written"
    why = "{problem}; it was removed, and what it was to replace is untouched"
    hint = "memory or disk fail: casckpt doctor looks at the machine, casckpt fsck --full at the store"


class FormatError(CasckptError):
    code, exit_code = "format.unsupported", 11
    what = "{object} cannot be read by this release"
    why = "{problem}"
    hint = "pip install -U casckpt"


class MissingLibrary(FormatError):
    code = "library.missing"
    what = "{purpose} needs {library}, which is not installed"
    hint = "pip install {install}"


class NewerFormat(FormatError):
    code = "store.newer-format"
    what = "this store needs a newer casckpt to {operation}"
    why = "{problem}; nothing was changed"


class NewerSchema(FormatError):
    code = "schema.newer"
    what = "commit {commit} holds version {start} of the schema {name!r}"
    why = "this program knows up to {end}"
    hint = "run a newer version of the program, or take the state as it is stored with migrate=False"


class StorageError(CasckptError, OSError):
    code, exit_code = "storage.failed", 9
    what = "cannot {operation} {path}"
    why = "{problem}"
    transient: ClassVar[bool] = False

    def __init__(self, **facts: Any) -> None:
        super().__init__(**facts)
        self.errno = facts.get("errno")


class StoreFull(StorageError):
    code = "space.low"
    what = "no space left to {operation} {path}"
    why = "{problem}; earlier commits are intact"
    hint = "free space on the disk, then repeat"
    transient = True


class ReadOnlyStore(StorageError):
    code, exit_code = "store.read-only", 5
    what = "cannot write to {path}"
    why = "{problem}"
    hint = "open a writable copy, or ask its owner"


class RemoteUnavailable(StorageError):
    code = "remote.unavailable"
    what = "the remote {remote} could not {operation}"
    why = "{problem}"
    hint = "repeat when it can be reached; what was transferred is not transferred again"
    transient = True


class RemoteDenied(StorageError):
    code = "remote.denied"
    what = "the remote {remote} refused to {operation}"
    why = "{problem}"
    hint = "check the credentials and what they allow"


class RemoteUnfit(StorageError):
    code = "remote.unfit"
    what = "{remote} cannot be a remote"
    why = "{problem}"
    hint = "{way_out}"


class OutcomeUnknown(StorageError):
    code, exit_code = "remote.unknown-outcome", 13
    what = "whether push {push} reached {remote} is not known"
    why = "{problem}"
    hint = "push again: it finds out, and sends nothing twice"
    transient = True


class RemoteNotFound(NotFoundError):
    code = "remote.missing"
    what = "there is no remote {remote}"
    why = "{problem}"
    hint = "casckpt remote list shows those that there are"


class NotOnRemote(NotFoundError):
    code = "remote.object"
    what = "{remote} does not hold {object}"
    why = "{problem}"
    hint = "casckpt fetch brings what is known of the remote up to date; another remote may have it"


class BundleNeeds(NotFoundError):
    code = "bundle.needs"
    what = "{bundle} builds on commits that are not here"
    why = "it needs {commits}; nothing was changed"
    hint = "apply the bundle before it first, or make one without --since"


class RemoteUntrusted(IntegrityError):
    code = "remote.untrusted"
    what = "what {remote} sent is not what a remote can hold"
    why = "{problem}; nothing of it was taken"
    hint = "try again; if it stays so, somebody or something has changed the remote"


class DamagedBundle(RemoteUntrusted):
    code = "bundle.damaged"
    what = "{remote} is not a whole bundle"
    hint = "copy it again from where it was made, or make it again"


class RolledBack(IntegrityError):
    code = "remote.rolled-back"
    what = "{remote} is older than it was"
    why = "{problem}; nothing was changed"
    hint = "if it was restored from a backup on purpose, --accept-rollback takes it as it is"


class NotFastForward(ConflictError):
    code = "push.not-fast-forward"
    what = "{ref}{also} on {remote} does not lead to what would be pushed"
    why = "it is at {theirs}; nothing was changed"
    hint = "casckpt fetch, look at both, then push with --force-with-lease or --on-conflict newest"

    def _fill(self, template: str) -> str:
        others = self.facts.get("others")  # refs of which the same is true
        return template.format_map(_Facts(self.facts, also=f" (and {others} more)" if others else ""))


class Diverged(NotFastForward):
    code = "pull.diverged"
    what = "{ref}{also} has gone on both here and on {remote}"
    why = "it is at {ours} here and at {theirs} there; what was fetched stays, and nothing else was changed"
    hint = "casckpt compare shows both; casckpt pull --on-conflict newest takes the newer and keeps the other"


class LeaseLost(ConflictError):
    code = "push.lease"
    what = "{ref} on {remote} is not at {expected}"
    why = "it is at {theirs}; nothing was changed"
    hint = "casckpt fetch, look at it, then push again"


class LockLost(ConflictError):
    code = "lock.lost"
    what = "the lock {lock} of {remote} is not held here any more"
    why = "{problem}; nothing was changed"
    hint = "look at what was pushed meanwhile, then take the lock again"


class UnsafePath(UsageError):
    code = "path.unsafe"
    what = "{path} cannot be stored or restored"
    why = "{problem}"


class UnsafeLink(UnsafePath):
    code = "path.link-outside"
    hint = "commit what it points to, or leave it out"


class UnsafeName(UnsafePath):
    code = "path.name"
    what = "{path} can never be checked out"
    hint = "give it another name, or leave it out"


class MalformedFile(UsageError):
    code = "file.malformed"
    what = "{path} cannot be read as a {kind} file"
    why = "{problem}"
    hint = "casckpt commit keeps any file byte for byte, whatever is in it"


class PickledObjects(UsageError):
    code = "file.pickle"
    what = "{path} holds pickled objects that are more than a plain state"
    why = "{problem}; nothing was executed"
    hint = (
        "keep the file byte for byte (--as files), or, if you trust who wrote it, allow_pickle=True or --allow-pickle"
    )


class LinkRefused(UnsafePath):
    code = "path.link"
    what = "{path} is not restored unasked"
    hint = "casckpt checkout --links, in Python links=True, makes links that stay inside the target folder"


class StateError(CasckptError, ValueError):
    code, exit_code = "state", 2
    what = "{path}: {problem}"


class UnsupportedType(StateError):
    code = "state.type"
    what = "{path}: values of type {type} cannot be stored"
    why = "{problem}"
    hint = "drop it, skip=[{path!r}], casckpt.register its class, or store a pickle with allow_pickle=[{path!r}]"


class DistributedState(StateError):
    code = "state.distributed"
    what = "{path}: a {type} holds only this process's share of a tensor"
    why = "to gather it here would wait for all other processes, which may not be committing"
    hint = "gather it on every rank (DTensor.full_tensor()) and commit on one"


class UnsupportedKey(StateError):
    code = "state.key"
    what = "{path}: keys of type {type} cannot be stored"
    hint = "allowed keys: str, int, bool, None, float, bytes and tuples of these"


class StateCycle(StateError):
    code = "state.cycle"
    what = "{path}: the container contains itself"
    why = "it is also at {outer}"


class StateTooDeep(StateError):
    code = "state.depth"
    what = "{path}: nested more than {limit} levels deep"


class UnknownType(StateError):
    code = "state.unknown-type"
    what = "a stored value is of class {type}, which is not here"
    why = "{problem}"
    hint = "import its module first, or check out without strict=True to get its fields as casckpt.Opaque"


class PickleBlocked(StateError):
    code = "state.pickle"
    what = "{path}: a pickle of {type} ({size} bytes) is not run"
    why = "a pickle runs whatever code its writer wanted; this one came with commit {commit}"
    hint = "if you trust it, check out with allow_pickle=[{path!r}], else without it: select="


class RequiredPathMissing(StateError):
    code = "state.required"
    what = "the state has no {missing}"
    why = "version {version} of the schema {name!r} requires it; nothing was written"
    hint = "add it to the state, or take it out of required="


class MigrationFailed(StateError):
    code = "state.migration"
    what = "the step from version {start} to {end} of the schema {name!r} failed on commit {commit}"
    why = "{problem}; nothing was changed"
    hint = "take the state as it is stored with migrate=False and try the step on it"


class StateMismatch(StateError):
    code = "state.mismatch"
    what = "{path}: {problem}"
    why = "{count} places of the live state do not fit the commit; nothing was changed"
    hint = "check out without into=, or only what fits with select="


class StateRefused(StateError):
    code = "state.refused"
    what = "a live {type} did not load its stored state"
    why = "{problem}; what comes before it in the state was overwritten"
    hint = "make the object as it was when the state was committed, or check out without into= and load by hand"


class StateChanged(StateError):
    code = "state.changed"
    what = "{path}: changed while it was being committed"
    why = "another thread wrote to the memory; nothing was committed"
    hint = "commit between optimizer steps"


class FileChanged(StateChanged):
    code = "file.changed"
    why = "somebody wrote to the file or replaced it; nothing was committed"
    hint = "commit when its writer has finished"


class NotExportable(StateError):
    code = "export.values"
    what = "{shown} cannot be written as {format}"
    why = "{problem}; nothing was written"
    hint = "{way_out}"


class CheckFailed(CasckptError):
    code, exit_code = "check-failed", 12
    what = "the check {check!r} failed"
    why = "{problem}"
    hint = "look at both runs, or allow more"


class SchemaWarning(UserWarning):
    """A state of an older version of its schema was read and is migrated: names the commit, from and to."""


class RevisionWarning(UserWarning):
    """A bare word in a revision has several meanings: names the one that was taken, and how each is written."""
