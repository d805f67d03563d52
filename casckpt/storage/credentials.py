"""Who we are to a service: found in the environment and in configuration files, never kept and never shown.

obstore finds keys, tokens and roles in the environment by itself. What it does not know are the profiles of the AWS
configuration, with single sign-on, assumed roles and programs that give credentials: botocore knows them, where it
is installed (`pip install casckpt[aws]`). The metadata address of a cloud is asked only by who chose it: elsewhere
that address is nobody, or somebody else.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from casckpt.errors import RemoteDenied, UsageError

NOWHERE = "http://127.0.0.1:1/no-metadata"
"""A port of this machine where nobody listens: the metadata address where that is not to be asked."""

_AWS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_GOOGLE = (
    *("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH"),
    "GOOGLE_SERVICE_ACCOUNT_KEY",
)
_GOOGLE_FILE = "~/.config/gcloud/application_default_credentials.json"
_CERTIFICATES = ("AWS_CA_BUNDLE", "SSL_CERT_FILE")
_CERTIFICATES_MAX = 4 << 20
# Those of botocore's sources that ask an address of the network for who this machine is.
_OF_INSTANCES = ("iam-role",)

Provider = Callable[[], dict[str, Any]]


def aws_provider(profile: str) -> tuple[Provider | None, str]:
    """What gives obstore its AWS credentials, and the region of the profile; None if obstore finds them itself.

    Args:
        profile: of the AWS configuration; empty for the environment, then the default profile.

    Raises:
        UsageError: a profile is named, and there is none of that name, or botocore is not installed.
    """
    if not profile and any(os.environ.get(name) for name in _AWS):
        return None, ""
    try:
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session
    except ImportError:
        if not profile:
            return None, ""
        raise UsageError(problem=f"the profile {profile} needs botocore: pip install 'casckpt[aws]'") from None
    try:
        session = Session(profile=profile or None)
        resolver = session.get_component("credential_provider")
        for name in _OF_INSTANCES:
            resolver.remove(name)
        credentials = session.get_credentials()
        region = os.environ.get("AWS_REGION") or session.get_config_variable("region") or ""
    except BotoCoreError as error:
        raise UsageError(problem=f"the AWS configuration gives no credentials: {error}") from None
    if credentials is None:
        if profile:
            raise UsageError(problem=f"the profile {profile} gives no credentials")
        return None, region
    return lambda: _frozen(credentials), region


def _frozen(credentials: Any) -> dict[str, Any]:
    """Credentials of this moment. botocore renews them before they expire; obstore asks again once they have.

    With their real expiry: with a later one, keys would run out in the middle of a push.
    """
    found = credentials.get_frozen_credentials()
    expiry: datetime | None = getattr(credentials, "_expiry_time", None)
    return {
        "access_key_id": found.access_key,
        "secret_access_key": found.secret_key,
        "token": found.token,
        "expires_at": expiry and expiry.astimezone(UTC),  # obstore takes this very object only
    }


def certificates() -> bytes | None:
    """What the environment says to trust beside what the system trusts, as PEM: a private authority, say.

    Raises:
        UsageError: the file that it names cannot be read.
    """
    path = next((found for name in _CERTIFICATES if (found := os.environ.get(name))), None)
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            return file.read(_CERTIFICATES_MAX)
    except OSError as error:
        raise UsageError(problem=f"the certificates of {path} cannot be read: {error.strerror}") from error


def check_google(remote: str) -> None:
    """Let obstore look for Google credentials only where it will not have to ask the metadata address.

    Raises:
        RemoteDenied: neither the environment nor the user's configuration has any.
    """
    if any(os.environ.get(name) for name in _GOOGLE) or os.path.exists(os.path.expanduser(_GOOGLE_FILE)):
        return
    problem = (
        "no credentials were found: set GOOGLE_APPLICATION_CREDENTIALS, log in with gcloud auth application-default "
        "login, or set credentials to instance on a machine that has its own"
    )
    raise RemoteDenied(remote=remote, operation="sign in", problem=problem)
