"""Where a remote is, in one line of text, and how it is reached; never with a secret.

s3://bucket/prefix       S3 and whatever speaks its protocol, by `endpoint`
gs://bucket/prefix       Google Cloud Storage
az://container/prefix    Azure Blob Storage; the account by the environment or in `endpoint`
https://host/path        anything that serves files, to read only; http:// the same without encryption
file:///path, /path      a folder that several machines share
memory:, memory:name     nowhere, for tests; those of one name are one within a process
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from casckpt.errors import SecretInUrl, UsageError

SERVICES = ("s3", "gs", "az", "http", "https")
_ALIASES = {"gcs": "gs", "azure": "az", "s3a": "s3"}
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}|\$[a-z]{3,10}", re.ASCII)
_PART = re.compile(r"[A-Za-z0-9!_.*'()=@,+ -]{1,255}", re.ASCII)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):", re.ASCII)
# Whatever may stand in a query signs requests or names keys; nothing else has a place there.
_SECRETS = (
    re.compile(r"(?i)\b(sig|signature|token|sas|key|secret|password|passwd|credential)((?:%3d|=|:)\s*)[^\s&;,\"'<>]+"),
    re.compile(r"(?i)(x-(?:amz|goog|ms)-[a-z-]*(?:signature|credential|token|key)[a-z-]*)(=|:\s*)[^\s&;,\"'<>]+"),
    re.compile(r"\b()()(?:AKIA|ASIA)[A-Z0-9]{12,}\b"),
    re.compile(r"(?i)(authorization|bearer)(:?\s+)\S[^\r\n]*"),
)
_USER_INFO = re.compile(r"(?<=://)[^/@\s]*@")
_TEXT_MAX = 300


@dataclass(frozen=True, slots=True)
class Address:
    """A place of objects.

    Attributes:
        scheme: one of `SERVICES`, `file` or `memory`.
        host: the bucket, the container, the host with its port; of `memory`, the name; empty for a folder.
        path: what all keys begin with, without `/` at its ends; of a folder its absolute path.
        url: the address as it is shown and kept.
    """

    scheme: str
    host: str
    path: str
    url: str

    @property
    def is_service(self) -> bool:
        """Whether it is reached over a network protocol."""
        return self.scheme in SERVICES


def parse(text: str) -> Address:
    """The address that a text gives.

    Raises:
        SecretInUrl: it has a user name, a password, or anything behind `?` or `#`.
        UsageError: it is none.
    """
    if not text or not text.isprintable():
        raise UsageError(problem="the address of a remote is empty or holds characters that cannot be shown")
    scheme = match[1].lower() if (match := _SCHEME.match(text)) else "file"
    scheme = _ALIASES.get(scheme, scheme)
    if scheme == "memory":
        name = text.partition(":")[2].strip("/")
        return Address("memory", name, "", f"memory:{name}")
    if match is None or scheme == "file":
        return _folder(text)
    if scheme not in SERVICES:
        ways = ", ".join([*(f"{one}://" for one in SERVICES), "file://", "a path"])
        raise UsageError(problem=f"{scheme}: is no kind of remote; there are {ways}")
    return _service(scheme, text)


def _folder(text: str) -> Address:
    if _SCHEME.match(text):
        parts = urlsplit(text)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise UsageError(problem="the address of a folder is file:///path with three slashes")
        text = unquote(parts.path)
    path = os.path.abspath(os.path.expanduser(text))
    return Address("file", "", path, path)


def _service(scheme: str, text: str) -> Address:
    parts = urlsplit(text)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise SecretInUrl
    names = [part for part in unquote(parts.path).split("/") if part]
    if any(part in (".", "..") or not _PART.fullmatch(part) for part in names):
        raise UsageError(problem=f"the path {parts.path!r} has parts that keys cannot have")
    host = parts.netloc
    if scheme in ("http", "https"):
        if not parts.hostname:
            raise UsageError(problem=f"{scheme}:// needs a host")
    elif not _BUCKET.fullmatch(host):
        raise UsageError(problem=f"{host!r} cannot be the name of a bucket")
    path = "/".join(names)
    return Address(scheme, host, path, f"{scheme}://{host}/{path}".rstrip("/"))


CREDENTIALS = ("default", "instance", "none")
CHECKSUMS = ("auto", "sha256", "crc64nvme", "none")


@dataclass(frozen=True, slots=True)
class Access:
    """How a service is reached; all of it may be shown.

    Attributes:
        profile: name of a profile of the AWS configuration; needs botocore.
        region: of the bucket; without it the environment's, else that of AWS in Virginia.
        endpoint: URL of a service other than the provider's own.
        path_style: name the bucket in the path even where the endpoint's host begins with it. Otherwise such an
            endpoint is taken as the bucket's own; all others get the bucket in the path, as every service takes it.
        allow_http: whether a request may travel without encryption. An `endpoint` that says http:// says so too.
        credentials: `default`, the environment and configuration files; `instance`, the machine's own, asked for
            at the metadata address of the cloud; `none`, unsigned requests for public buckets.
        storage_class: of new objects; without it the bucket's.
        checksum: that the service checks uploads with; `auto`: sha256 over http, crc64nvme over https.
        timeout_s: how long an answer may stand still; uploads and whole answers get more by their length.
    """

    profile: str = ""
    region: str = ""
    endpoint: str = ""
    path_style: bool = False
    allow_http: bool = False
    credentials: str = "default"
    storage_class: str = ""
    checksum: str = "auto"
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if self.credentials not in CREDENTIALS:
            raise UsageError(problem=f"credentials are {', '.join(CREDENTIALS)}, not {self.credentials!r}")
        if self.checksum not in CHECKSUMS:
            raise UsageError(problem=f"a checksum is {', '.join(CHECKSUMS)}, not {self.checksum!r}")
        if not 1 <= self.timeout_s <= 3600:
            raise UsageError(problem=f"a timeout is 1 to 3600 seconds, not {self.timeout_s}")
        if self.endpoint:
            parts = urlsplit(self.endpoint)
            if "@" in parts.netloc or parts.query or parts.fragment:
                raise SecretInUrl
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise UsageError(problem=f"an endpoint is https://host or http://host, not {self.endpoint!r}")

    @property
    def is_plain(self) -> bool:
        """Whether the endpoint is asked without encryption."""
        return self.endpoint.lower().startswith("http://")


def redacted(text: str) -> str:
    """What a service said, as one short line that can be shown: no secrets, nothing that moves a cursor."""
    line = "".join(one if one.isprintable() else " " for one in text)
    line = _USER_INFO.sub("...@", line)
    for pattern in _SECRETS:
        line = pattern.sub(r"\1\2...", line)
    line = " ".join(line.split())
    return line if len(line) <= _TEXT_MAX else line[: _TEXT_MAX - 3] + "..."
