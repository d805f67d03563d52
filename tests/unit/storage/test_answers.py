"""What the errors of obstore say, in the few words that decide."""

from __future__ import annotations

import pytest

from casckpt.errors import RemoteDenied, RemoteNotFound, RemoteUnavailable, RemoteUnfit, RemoteUntrusted
from casckpt.storage.answers import Answer, error_of, read

STATUS = (
    "Generic S3 error: Error performing PUT http://127.0.0.1/bkt/k in 1ms - Server returned non-2xx status code: "
    '{status} Some Words: <?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message>'
    "<AWSAccessKeyId>AKIASECRETSECRETSECR</AWSAccessKeyId></Error>\n\nDebug source:\nGeneric {{ source: Http( }}"
)
BROKEN = (
    "Generic S3 error: HTTP error: error sending request\n\n"
    "Debug source:\n inner: Http(\n HttpError {{\n kind: {kind},\n"
)


def status(number: int, code: str, message: str = "words") -> Exception:
    return OSError(STATUS.format(status=number, code=code, message=message))


def test_status_code_and_message_are_read_and_nothing_else() -> None:
    assert read(status(503, "SlowDown", "Please slow down")) == Answer(
        503, "SlowDown", "503 SlowDown Please slow down", ""
    )
    assert "SECRET" not in read(status(403, "AccessDenied", "key AKIASECRETSECRETSECR token=SECRET")).says
    assert read(FileNotFoundError("Object at location k not found")).status == 404


@pytest.mark.parametrize("kind", ["Timeout", "Interrupted", "Connect", "Builder", "Body"])
def test_what_happened_to_the_connection_is_read(kind: str) -> None:
    answer = read(OSError(BROKEN.format(kind=kind)))
    assert (answer.status, answer.kind) == (0, kind)
    assert answer.may_have_happened == (kind in ("Timeout", "Interrupted", "Body"))


@pytest.mark.parametrize(("code", "number"), [("AccessDenied", 403), ("InternalError", 503), ("NoSuchKey", 404)])
def test_one_of_many_deletions_that_failed_is_told_by_its_code(code: str, number: int) -> None:
    text = (
        f"Generic S3 error: DeleteObjects request failed for key a (code: b): No way (code: {code})\n\nDebug source:\n"
    )
    assert read(OSError(text)) == Answer(number, code, f"{number} {code} No way", "")


def test_a_text_that_nobody_knows_may_mean_anything() -> None:
    answer = read(OSError("something new"))
    assert (answer.status, answer.may_have_happened) == (0, True)
    assert isinstance(error_of(answer, "s3://b", "read"), RemoteUnavailable)


@pytest.mark.parametrize(
    ("number", "code", "happened"),
    [(500, "InternalError", True), (503, "SlowDown", True), (504, "", True), (501, "NotImplemented", False),
     (403, "AccessDenied", False), (400, "BadDigest", False), (429, "", False), (409, "", False)],
)  # fmt: skip
def test_only_a_failing_service_may_have_done_it(number: int, code: str, happened: bool) -> None:
    assert read(status(number, code)).may_have_happened == happened


@pytest.mark.parametrize(("number", "code"), [(412, "PreconditionFailed"), (409, "BlobAlreadyExists"), (412, "")])
def test_a_key_that_is_taken_is_known(number: int, code: str) -> None:
    assert Answer(number, code, "", "").is_taken
    assert not Answer(409, "ConditionalRequestConflict", "", "").is_taken


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(404, "NoSuchBucket", "", ""), RemoteNotFound),
        (Answer(404, "ContainerNotFound", "", ""), RemoteNotFound),
        (Answer(400, "ExpiredToken", "", ""), RemoteDenied),
        (Answer(403, "AccessDenied", "", ""), RemoteDenied),
        (Answer(401, "", "", ""), RemoteDenied),
        (Answer(0, "", "", "Builder"), RemoteDenied),
        (Answer(0, "", "", "Certificate"), RemoteDenied),
        (Answer(301, "PermanentRedirect", "", ""), RemoteUnfit),
        (Answer(0, "", "", "BareRedirect"), RemoteUnfit),
        (Answer(501, "NotImplemented", "", ""), RemoteUnfit),
        (Answer(0, "", "", "NotPartial"), RemoteUntrusted),
        (Answer(400, "BadDigest", "", ""), RemoteUnavailable),
        (Answer(400, "RequestTimeout", "", ""), RemoteUnavailable),
        (Answer(429, "", "", ""), RemoteUnavailable),
        (Answer(503, "SlowDown", "", ""), RemoteUnavailable),
        (Answer(0, "", "", "Timeout"), RemoteUnavailable),
    ],
)
def test_each_answer_has_its_error(answer: Answer, error: type[Exception]) -> None:
    assert type(error_of(answer, "s3://bucket", "store root/1")) is error
