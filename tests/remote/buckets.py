"""A bucket on a test server: what casckpt is told of it, and what boto3 sees in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from casckpt.storage.addresses import Access, parse
from casckpt.storage.object import ServiceObjects
from tests.remote.servers import KEY, REGION, SECRET, Server


@dataclass(frozen=True)
class Bucket:
    """A bucket, and the prefix in it below which a remote lies."""

    server: Server
    name: str
    prefix: str

    @classmethod
    def make(cls, server: Server, name: str) -> Bucket:
        """A new bucket, without a prefix."""
        server.client().create_bucket(Bucket=name)
        return cls(server, name, "")

    @property
    def url(self) -> str:
        return f"s3://{self.name}/{self.prefix}".rstrip("/")

    def access(self, endpoint: str = "", **options: Any) -> Access:
        """How it is reached: directly, or through a proxy."""
        return Access(**{"endpoint": endpoint or self.server.endpoint, "region": REGION, **options})

    def objects(self, endpoint: str = "", **options: Any) -> ServiceObjects:
        """The objects below the prefix, with nothing around them. The environment must have `keys`."""
        return ServiceObjects(parse(self.url), self.access(endpoint, **options))

    def contents(self) -> dict[str, bytes]:
        """Everything below the prefix by key, as boto3 sees it."""
        client, found = self.server.client(), {}
        below = self.prefix and f"{self.prefix}/"
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=below):
            for one in page.get("Contents", ()):
                data = client.get_object(Bucket=self.name, Key=one["Key"])["Body"].read()
                found[one["Key"].removeprefix(below)] = data
        return found


def set_keys(patch: pytest.MonkeyPatch, key: str = KEY, secret: str = SECRET) -> None:
    """Let the environment have the keys of an identity."""
    patch.setenv("AWS_ACCESS_KEY_ID", key)
    patch.setenv("AWS_SECRET_ACCESS_KEY", secret)
