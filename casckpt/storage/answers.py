"""What a service meant when it did not do what it was asked, read from the text of obstore's errors.

obstore has classes of errors for some answers only, and they mix what must be told apart: a status and S3's code
word decide. Of its text only those and the service's one line for humans are taken: it may repeat the whole request.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from casckpt.errors import CasckptError, RemoteDenied, RemoteNotFound, RemoteUnavailable, RemoteUnfit, RemoteUntrusted
from casckpt.storage.addresses import redacted
from casckpt.storage.credentials import NOWHERE

_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9._-]{1,100})</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,1000})</Message>")
_KIND = re.compile(
    r"(?:kind|inner|source): "
    r"(Connect|Timeout|Interrupted|Builder|Body|BareRedirect|NotPartial|UnexpectedRange|StartTooLarge)\b"
)
# A deletion of many is answered with 200 whatever became of each; this is said of the first that failed.
_DELETION = re.compile(r"DeleteObjects request failed for key .*: (.*) \(code: ([A-Za-z0-9]{1,100})\)", re.DOTALL)
_STATUS_OF = {"AccessDenied": 403, "NoSuchKey": 404, "NoSuchBucket": 404, "NotImplemented": 501}
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"})
# What arrived was not what was sent, or not all of it in time: another try may do.
_DAMAGED = frozenset(
    {
        *("BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch", "Md5Mismatch"),
        *("IncompleteBody", "RequestTimeout"),
    }
)
_ELSEWHERE = frozenset({"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"})
_BUCKETS = frozenset({"NoSuchBucket", "ContainerNotFound", "InvalidBucketName"})
_NONE_FOUND = "NoCredentials"
_NO_CREDENTIALS = (
    "no credentials were found: set them in the environment, name a profile, or set credentials to instance (those of "
    "the machine) or none (a public bucket)"
)
_TAKEN = frozenset({"BlobAlreadyExists", "PreconditionFailed", "ConditionNotMet"})


class Answer(NamedTuple):
    """A refusal or a failure.

    Attributes:
        status: of HTTP; 0 if no answer came.
        code: the service's word for it, empty if it gave none.
        says: what it said, in one line that can be shown.
        kind: what happened to the connection if no answer came: `Connect`, `Timeout`, `Interrupted` ...
    """

    status: int
    code: str
    says: str
    kind: str

    @property
    def is_expired(self) -> bool:
        """Whether fresh credentials may do."""
        return self.code in _EXPIRED

    @property
    def is_taken(self) -> bool:
        """Whether an upload found its key taken."""
        return self.status == 412 or self.code in _TAKEN

    @property
    def is_missing_bucket(self) -> bool:
        """Whether not the object is missing but the place of all."""
        return self.code in _BUCKETS

    @property
    def may_have_happened(self) -> bool:
        """Whether the service may have done it, or may still do it, although it did not say so."""
        if self.status:
            return self.status >= 500 and self.status != 501
        return self.kind not in ("Connect", "Certificate", "Builder", "BareRedirect")


def read(error: Exception) -> Answer:
    """The answer that an error of obstore tells of."""
    head, _, debug = str(error).partition("\n\nDebug source:")
    status, code, message = _STATUS.search(head), _CODE.search(head), _MESSAGE.search(head)
    kind = found[1] if (found := _KIND.search(debug)) else ""
    if "InvalidCertificate" in debug:
        kind = "Certificate"
    if found := _DELETION.search(head):
        number = _STATUS_OF.get(found[2], 503)
        return Answer(number, found[2], redacted(f"{number} {found[2]} {found[1]}"), "")
    number = int(status[1]) if status else 404 if isinstance(error, FileNotFoundError) else 0
    word = code[1] if code else ""
    if NOWHERE in head:  # it looked for the credentials of the machine, since it found no others
        return Answer(0, _NONE_FOUND, _NO_CREDENTIALS, "Connect")
    if kind == "StartTooLarge":  # found out by the client: a service may give the length for an empty part
        number = 416
    line = " ".join(part for part in (str(number) if number else "", word, message[1] if message else "") if part)
    if not number:
        line = _WORDS.get(kind, "no answer came")
    return Answer(number, word, redacted(line), kind)


_WORDS = {
    "Connect": "no connection could be made",
    "Timeout": "no answer came in time",
    "Interrupted": "the connection broke",
    "Body": "the connection broke",
    "Certificate": "its certificate is not trusted (AWS_CA_BUNDLE names a file with those of a private authority)",
    "BareRedirect": "it answers with a redirection",
    "NotPartial": "asked for a part, it gave something else",
    "UnexpectedRange": "asked for a part, it gave another",
    "Builder": "it would travel without encryption, which was not allowed (allow_http)",
}


def error_of(answer: Answer, remote: str, operation: str) -> CasckptError:
    """The error of casckpt that says what an answer means, for what was certainly not done."""
    if answer.is_missing_bucket:
        return RemoteNotFound(remote=remote, problem=f"the bucket is not there ({answer.says})")
    if answer.is_expired:
        problem = f"the credentials have expired, and fresh ones were not to be had ({answer.says})"
        return RemoteDenied(remote=remote, operation=operation, problem=problem)
    if answer.code == "RequestTimeTooSkewed":
        problem = f"the clock of this machine is wrong ({answer.says})"
        return RemoteDenied(remote=remote, operation=operation, problem=problem)
    if answer.code in _ELSEWHERE or answer.status in (301, 307, 308) or answer.kind == "BareRedirect":
        return RemoteUnfit(
            remote=remote, problem=f"its bucket is somewhere else ({answer.says})", way_out="set its region or endpoint"
        )
    if answer.status == 501:
        return RemoteUnfit(
            remote=remote,
            problem=f"the service cannot {operation} ({answer.says})",
            way_out="use a service that has conditional writes: AWS, R2, GCS, Azure, MinIO, Ceph, SeaweedFS, a folder",
        )
    if answer.kind in ("NotPartial", "UnexpectedRange"):
        return RemoteUntrusted(remote=remote, problem=answer.says)
    if answer.code in _DAMAGED or answer.status in (0, 408, 409, 429) or answer.status >= 500:
        if answer.kind in ("Builder", "Certificate") or answer.code == _NONE_FOUND:
            return RemoteDenied(remote=remote, operation=operation, problem=answer.says)
        return RemoteUnavailable(remote=remote, operation=operation, problem=answer.says)
    return RemoteDenied(remote=remote, operation=operation, problem=answer.says)
