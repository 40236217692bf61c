"""Who has changed what, from where: one row for each change, and nothing that is secret."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from harness import Server, is_event, unique, until
from signalbox import JobEventType, NewJob, Unauthenticated


def audit(cluster, url: str, condition: str = "true") -> list[dict]:
    """The view's rows, oldest first."""
    rows = cluster.query(
        url, f"SELECT coalesce(json_agg(a ORDER BY at), '[]') FROM audit a WHERE {condition}"
    )
    return json.loads(rows)


@pytest.fixture(scope="module")
def url(cluster):
    return cluster.database()


CONFIG = "queues: {limited: {user_limit: 7}}\n"


@pytest.fixture(scope="module")
def own(url):
    server = Server(url, config=CONFIG)
    yield server
    server.close()


def test_each_change_is_there_once(cluster, url, own, user):
    with own.client(timeout=20) as client:
        queue = unique("queue")
        client.pause(queue)
        client.pause(queue)
        job = client.enqueue("test.noop", user_id=user, queue=queue, idempotency_key="once")
        assert not client.enqueue("test.noop", user_id=user, queue=queue, idempotency_key="once").created
        client.cancel(job.id)
        client.cancel(job.id)
        client.retry(job.id)
        client.update_limit(user, 2, queue=queue)
        client.update_limit(user, None, queue=queue)
        client.resume(queue)
        with client.watch(job.id, timeout=30) as watch:
            until(watch, is_event(JobEventType.SUCCEEDED))
        # A final job is not cancelled any more.
        client.cancel(job.id)
    rows = audit(cluster, url, f"job = '{job.id}' OR queue = '{queue}'")
    assert [row["action"] for row in rows] == [
        *("pause_queue", "enqueue", "cancel", "retry"),
        *("set_user_limit", "set_user_limit", "resume_queue"),
    ]
    assert [row["job"] for row in rows if row["job"]] == [job.id] * 3
    limits = [(row["queue"], row["user_id"], row["user_limit"]) for row in rows if row["user_id"]]
    assert limits == [(queue, user, 2), (queue, user, None)]
    # The server requires no credentials, but it knows the addresses of its callers.
    assert {(row["caller"], row["source"]) for row in rows} == {("", "none")}
    assert all(row["address"].startswith("127.0.0.1:") for row in rows)


def test_a_batch_has_a_row_for_each_job(cluster, url, own, user):
    with own.client(timeout=20) as client:
        jobs = client.enqueue_batch([NewJob("test.noop", user_id=f"{user}-{n % 7}") for n in range(500)])
    rows = audit(cluster, url, f"job IN (SELECT id FROM job WHERE user_id LIKE '{user}-%')")
    assert sorted(row["job"] for row in rows) == sorted(job.job_id for job in jobs)
    assert {row["at"] for row in rows} == {rows[0]["at"]}


def test_what_the_settings_change(cluster, url, own):
    condition = "caller = 'settings'"
    row = audit(cluster, url, condition)[0]
    assert (row["action"], row["queue"], row["user_limit"]) == ("set_queue_limit", "limited", 7)
    assert (row["address"], row["source"]) == ("", "settings")
    # A second server with the same settings changes nothing.
    other = Server(url, config=CONFIG)
    other.close()
    assert len(audit(cluster, url, condition)) == 1


def test_old_rows_are_removed(cluster):
    url = cluster.database()
    server = Server(url, arguments=["--audit-retention", "1h"])
    server.terminate()
    cluster.query(
        url,
        "INSERT INTO audit_entry (at, caller, address, action, queue)"
        " SELECT now() - n * interval '50 minutes', 'c', '', 'pause_queue', 'q' FROM generate_series(1, 3) n",
    )
    server.start()
    try:
        with server.client(timeout=20) as client:
            # What is old is looked for when a server starts. Some jobs later it is gone.
            for _ in range(500):
                client.result(client.enqueue("test.noop", user_id="u").id, timeout=30)
                left = cluster.query(url, "SELECT count(*) FROM audit WHERE caller = 'c'")
                if left == "1":
                    break
            assert left == "1"
    finally:
        server.close()


def test_neither_payloads_nor_credentials_are_kept(cluster, tmp_path):
    url = cluster.database()
    token = "sbx_canary" + base64.urlsafe_b64encode(bytes(32)).decode().rstrip("=")
    digest = hashlib.sha256(token.encode()).hexdigest()
    tokens = tmp_path / "tokens.yaml"
    tokens.write_text(
        "tokens:\n"
        f"  - {{name: importer, hash: 'sha256:{digest}', users: all,\n"
        "      scopes: [jobs.enqueue, jobs.read, jobs.cancel]}\n"
    )
    server = Server(url, arguments=["--auth-tokens", str(tokens), "--insecure"])
    try:
        with server.client(timeout=20, token=token) as client:
            payload = {"text": "payload-canary"}
            done = client.enqueue("test.echo", payload, user_id="u")
            client.result(done.id, timeout=30)
            wrong = {"permanent": True, "secret": "payload-canary"}
            failed = client.enqueue("test.fail", wrong, user_id="u")
            with client.watch(failed.id, timeout=30) as watch:
                until(watch, is_event(JobEventType.FAILED))
            waiting = client.enqueue("test.echo", payload, user_id="u", idempotency_key="k")
            client.cancel(waiting.id, note="note-canary")
        with server.client(timeout=20, token="bad-canary") as client:
            with pytest.raises(Unauthenticated):
                client.enqueue("test.echo", payload, user_id="u")
        rows = audit(cluster, url)
        assert {row["caller"] for row in rows} == {"importer"} and len(rows) >= 3
    finally:
        server.terminate()
        log = server.log()
        kept = cluster.query(url, "SELECT e::text FROM audit_entry e")
        server.close()
    assert log and "canary" not in log and "canary" not in kept
