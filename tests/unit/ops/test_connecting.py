"""A remote that is open: what it is asked is counted and priced, and a trial of it tells what it can do."""

from __future__ import annotations

from pathlib import Path

import pytest

import casckpt
from casckpt.errors import RemoteNotFound, RemoteUnfit, UsageError
from casckpt.ops.connecting import access, connect, cost, probe_remote
from casckpt.ops.remotes import Remote
from casckpt.storage.local_objects import FolderObjects
from casckpt.storage.objects import Buffer, Outcome


@pytest.fixture
def nas(tmp_path: Path) -> Remote:
    (tmp_path / "nas").mkdir()
    return Remote("nas", str(tmp_path / "nas"))


def test_everything_that_is_known_of_a_remote_is_how_it_is_reached() -> None:
    remote = Remote("x", "s3://bbb", "lab", "eu", "https://h", False, True, "none", "COLD", None, 4, "sha256", 12.0)
    found = access(remote)
    assert (found.profile, found.region, found.endpoint, found.storage_class) == ("lab", "eu", "https://h", "COLD")
    assert (found.path_style, found.allow_http, found.credentials) == (False, True, "none")
    assert (found.checksum, found.timeout_s) == ("sha256", 12.0)
    with pytest.raises(UsageError, match="endpoint"):
        access(Remote("x", "s3://bbb", endpoint="minio:9000"))


@pytest.mark.parametrize(
    ("remote", "dollars"),
    [
        (Remote("x", "/srv/x"), None),
        (Remote("x", "s3://bbb"), (0.005 * 3 + 0.0004 * 3) / 1000 + 0.09 * 2),
        (Remote("x", "s3://bbb", endpoint="https://minio:9000"), None),
        (Remote("x", "/srv/x", cost=(("put", 1.0), ("egress", 0.5))), 3 / 1000 + 0.5 * 2),
        (Remote("x", "s3://bbb", cost=(("egress", 0.0),)), (0.005 * 3 + 0.0004 * 3) / 1000),
    ],
)
def test_requests_and_bytes_have_a_price_where_one_is_known(remote: Remote, dollars: float | None) -> None:
    found = cost(remote, {"put": 2, "list": 1, "get": 2, "head": 1, "delete": 7}, 2 * 10**9)
    assert found is None if dollars is None else found == pytest.approx(dollars)


def test_what_is_asked_is_counted_and_a_report_tells_it(tmp_path: Path, nas: Remote) -> None:
    with casckpt.init(tmp_path / "s") as store:
        store.commit({"w": 1}, run="gpt")
        store.add_remote("nas", nas.url, probe=False)
        report = store.push("nas")
        assert report.requests == {"put": report.packs + 3, "list": 2}
        assert report.up > report.nbytes > 0
        assert store.push("nas").requests == {"list": 1}
        assert store.fetch("nas").requests == {"list": 1}
        assert report.to_dict()["cost"] is None
        store.set_remote("nas", "cost.put", 5)
        assert store.push("nas").cost == pytest.approx(0.005)
        assert store.push("nas", dry_run=True).cost == pytest.approx(0.005)


def test_a_trial_leaves_nothing_behind_and_a_rehearsed_one_writes_nothing(nas: Remote) -> None:
    found = probe_remote(nas, dry_run=True)
    assert (found.writes, found.creates_once, found.deletes, found.requests) == (True, None, None, {"list": 1})
    found = probe_remote(nas)
    assert (found.writes, found.creates_once, found.deletes, found.leftover) == (True, True, True, "")
    assert not [path for path in Path(nas.url).rglob("*") if path.is_file()]


def test_a_place_that_overwrites_is_for_one_writer_alone(nas: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    def overwriting(self: FolderObjects, key: str, data: Buffer) -> Outcome:
        path = Path(self.url, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return Outcome.CREATED

    monkeypatch.setattr(FolderObjects, "create", overwriting)
    with pytest.raises(RemoteUnfit, match="over one that is there"):
        probe_remote(nas)
    assert probe_remote(Remote("nas", nas.url, single_writer=True)).creates_once is False


@pytest.mark.parametrize("rate", ["fast", "0", 0, "1.5MB"])
def test_a_rate_that_is_none_is_refused(nas: Remote, rate: object) -> None:
    with pytest.raises(UsageError, match="bytes a second"):
        connect(nas, limit_rate=rate)  # type: ignore[arg-type]


def test_a_policy_is_that_of_the_call_else_that_of_the_remote(nas: Remote) -> None:
    at = connect(Remote("nas", nas.url, policy="newest"))
    assert at.policy(None, "ff", "newest") == "newest"
    assert at.policy("ff", "ff", "newest") == "ff"
    with pytest.raises(UsageError, match="lease"):
        at.policy("lease", "ff", "newest")


def test_a_folder_that_is_not_there_is_no_remote(tmp_path: Path) -> None:
    with pytest.raises(RemoteNotFound, match="mounted"):
        connect(Remote("nas", str(tmp_path / "nas")))
