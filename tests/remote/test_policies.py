"""The policies of the documentation allow what they say, and no more, on a server that enforces them."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from casckpt.errors import RemoteDenied
from casckpt.storage.fitness import Fitness, probe
from casckpt.storage.objects import Outcome
from tests.remote.buckets import Bucket, set_keys
from tests.remote.servers import KEY, REGION, SECRET, Server, running

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "set-up-a-remote.md"
BLOCK = re.compile(r"^```json (\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STATEMENTS = {name: json.loads(text) for name, text in BLOCK.findall(PAGE.read_text(encoding="utf-8"))}
BUCKET, PREFIX = "our-checkpoints", "vision"


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, dict[str, tuple[str, str]]]]:
    """A server of moto that enforces policies, with a user for each of the page and one that may everything."""
    with running("moto", tmp_path_factory.mktemp("strict")) as server:
        server.client().create_bucket(Bucket=BUCKET)
        everything = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
        keys = {name: _user(server, name, said) for name, said in {**STATEMENTS, "admin": everything}.items()}
        address = f"{server.endpoint}/moto-api/reset-auth"
        enforce = urllib.request.Request(address, b"0", {"Content-Type": "text/plain"}, method="POST")
        urllib.request.urlopen(enforce).close()
        yield server, keys


def _user(server: Server, name: str, statements: list[dict[str, Any]]) -> tuple[str, str]:
    import boto3

    if name == "collector":  # moto asks for the right to delete on the bucket, Amazon on each object
        resource = f"arn:aws:s3:::{BUCKET}"
        statements = [*statements, {"Effect": "Allow", "Action": "s3:DeleteObject", "Resource": resource}]
    client = boto3.client(
        "iam", endpoint_url=server.endpoint, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name=REGION
    )
    client.create_user(UserName=name)
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    client.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=document)
    made = client.create_access_key(UserName=name)["AccessKey"]
    return made["AccessKeyId"], made["SecretAccessKey"]


@pytest.fixture
def place(strict: tuple[Server, dict[str, tuple[str, str]]], monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """The remote of the page, which holds a root; the environment has the keys of the admin."""
    server, keys = strict
    place = Bucket(server, BUCKET, PREFIX)
    set_keys(monkeypatch, *keys["admin"])
    place.objects().create("root/1", b"x")
    return place


def test_the_page_has_the_three_roles() -> None:
    assert sorted(STATEMENTS) == ["collector", "pusher", "reader"]


@pytest.mark.parametrize("role", ["reader", "pusher", "collector"])
def test_each_role_may_what_it_must_and_no_more(
    role: str,
    place: Bucket,
    strict: tuple[Server, dict[str, tuple[str, str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_keys(monkeypatch, *strict[1][role])
    objects, elsewhere = place.objects(), Bucket(place.server, BUCKET, "other").objects()
    assert objects.get("root/1", limit=1) == b"x"
    assert "root/1" in [one.key for one in objects.list("root/")]
    with pytest.raises(RemoteDenied):
        elsewhere.create("root/1", b"x")
    if role == "reader":
        with pytest.raises(RemoteDenied):
            objects.create("root/2", b"x")
        return
    found = probe(objects)
    assert found == Fitness(creates_once=True, deletes=role == "collector", leftover=found.leftover)
    assert objects.create(f"root/{role}", b"x") is Outcome.CREATED
    if role == "pusher":
        with pytest.raises(RemoteDenied):
            objects.delete(["root/1"])
    else:
        objects.delete([f"root/{role}"])
    assert objects.get("root/1", limit=1) == b"x"
