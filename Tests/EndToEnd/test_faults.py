"""A database that goes away, and comes back."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import pytest
import signalbox
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2
from harness import (
    BINARY,
    PATIENCE_S,
    Api,
    Cluster,
    Server,
    clean_environment,
    detail_of,
    events_of,
    is_complete,
    is_event,
    unique,
    until,
)
from signalbox import JobEventType, JobState
from signalbox.v1 import job_pb2, job_service_pb2

#: Where no database is.
NOWHERE = "postgresql://127.0.0.1:1/none?connect_timeout=1"


@pytest.fixture
def own() -> Iterator[Cluster]:
    """A Postgres that may be harmed."""
    cluster = Cluster()
    yield cluster
    cluster.close()


@pytest.fixture
def node(own: Cluster) -> Iterator[Server]:
    node = Server(own.database(), name="node")
    yield node
    node.close()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["restarted", "crashed"])
def test_the_database_goes_away_and_comes_back(own: Cluster, node: Server, how):
    api, user = Api(node.address), unique()
    with node.client(timeout=PATIENCE_S) as client, ThreadPoolExecutor(4) as pool:
        done = client.enqueue("test.echo", "before", user_id=user).id
        client.wait(done, timeout=30)
        with client.watch(user_id=user, timeout=2 * PATIENCE_S) as watch:
            until(watch, is_complete)
            id = client.enqueue("test.sleep", {"ms": 3_000, "steps": 6}, user_id=user).id
            until(watch, is_event(JobEventType.STARTED, id))
            own.stop(how)
            # A call says so, and when to come again.
            job = job_pb2.JobSpec(kind="test.noop", user_id=user)
            with pytest.raises(grpc.RpcError) as caught:
                api.jobs.Enqueue(job_service_pb2.EnqueueRequest(job=job), timeout=30)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert detail_of(caught.value, error_details_pb2.RetryInfo) is not None
            assert node.is_running
            # The client goes on trying until it is back.
            waiting = [pool.submit(client.enqueue, "test.echo", n, user_id=user) for n in range(4)]
            own.start()
            later = [call.result(PATIENCE_S).id for call in waiting]
            assert [client.result(each, timeout=PATIENCE_S) for each in later] == [0, 1, 2, 3]
            final = client.wait(id, timeout=PATIENCE_S)
            assert final.state is JobState.SUCCEEDED
        # Every event is there once, in order, whatever the watch went through.
        with client.watch(id, after={id: 1}, timeout=30) as watch:
            assert [event.sequence for event in events_of(watch)] == list(range(2, final.sequence + 1))
        assert client.result(done, timeout=30) == "before"
        status = api.health.Check(health_pb2.HealthCheckRequest(), timeout=20).status
        assert status == health_pb2.HealthCheckResponse.SERVING
    api.close()


def test_a_watch_through_a_restart_of_the_database(own: Cluster, node: Server):
    user = unique()
    with node.client(timeout=PATIENCE_S) as client:
        with client.watch(user_id=user, timeout=2 * PATIENCE_S) as watch:
            until(watch, is_complete)
            ids = [client.enqueue("test.sleep", {"ms": 2_000}, user_id=user).id for _ in range(3)]
            items = until(watch, is_event(JobEventType.STARTED))
            own.stop(signal.SIGQUIT)
            own.start()
            final: set[str] = set()
            while len(final) < 3:
                item = next(watch)
                items.append(item)
                if isinstance(item, signalbox.JobEvent) and item.state.is_final:
                    final.add(item.job_id)
        for id in ids:
            sequences = [event.sequence for event in events_of(items) if event.job_id == id]
            assert sequences == list(range(1, len(sequences) + 1)), "once, in order, none left out"


def test_connections_that_the_database_ends_are_made_again(own: Cluster):
    url = own.database()
    node = Server(url, name="node")
    try:
        with node.client(timeout=PATIENCE_S) as client:
            user = unique()
            for n in range(3):
                own.query(
                    url,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()",
                )
                assert client.result(client.enqueue("test.echo", n, user_id=user).id, timeout=30) == n
    finally:
        node.close()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BINARY), *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=clean_environment(),
    )


def test_a_database_newer_than_the_binary_is_refused(own: Cluster):
    url = own.database()
    assert run("migrate", "--database-url", url).returncode == 0
    assert run("migrate", "--database-url", url).returncode == 0, "it may be run again"
    tables = own.query(
        url,
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' "
        "AND table_name LIKE '%migration%' AND data_type IN ('integer', 'bigint', 'smallint')",
    )
    table, column = tables.splitlines()[0].split("|")
    own.query(
        url,
        f"INSERT INTO {table} SELECT (jsonb_populate_record(m, jsonb_build_object('{column}', 9999))).* "
        f"FROM {table} m ORDER BY {column} DESC LIMIT 1",
    )
    refused = run("serve", "--database-url", url, "--listen", "127.0.0.1:0")
    assert refused.returncode > 0 and "newer" in refused.stderr.lower()


def test_three_nodes_that_migrate_at_once(own: Cluster):
    url = own.database()
    with ExitStack() as stack:

        def start(n: int) -> Server:
            server = Server(url, name=f"n{n}")
            stack.callback(server.close)
            return server

        with ThreadPoolExecutor(3) as pool:
            servers = list(pool.map(start, range(3)))
        with servers[0].client() as client:
            assert {node.name for node in client.list_nodes() if node.alive} == {"n0", "n1", "n2"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config", "/no/such/file.yaml"], "/no/such/file.yaml"),
        (["--listen", "nonsense"], "nonsense"),
        (["--concurrency", "-1"], "concurrency"),
    ],
)
def test_a_wrong_setting_is_named(arguments, said):
    failed = run("serve", "--database-url", NOWHERE, *arguments)
    assert failed.returncode > 0 and said in failed.stderr


def test_a_database_that_is_not_there_is_named_and_can_be_waited_for_no_longer():
    command = [str(BINARY), "serve", "--listen", "127.0.0.1:0", "--database-url", NOWHERE]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=clean_environment())
    try:
        assert process.stderr
        said = next((line for line in process.stderr if '"127.0.0.1", port 1' in line), None)
        assert said is not None, "it ended without naming it"
        process.terminate()
        # What is left is read: a full pipe must not be what it waits for.
        process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait(30)


def test_an_unknown_key_in_the_file_is_named(tmp_path):
    path = tmp_path / "signalbox.yaml"
    path.write_text("concurency: 5\n")
    failed = run("serve", "--database-url", NOWHERE, "--config", str(path))
    assert failed.returncode > 0 and "concurency" in failed.stderr
