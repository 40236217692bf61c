"""GetServerInfo by the official client: with and without tokens, and whether the limits are those that hold."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import grpc
import pytest
from google.protobuf.message import Message
from harness import Api, Cluster, Server, unique
from signalbox.v1 import info_service_pb2, info_service_pb2_grpc, job_pb2, job_service_pb2

INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
RESOURCE_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


def server_info(channel: grpc.Channel, token: str | None = None) -> info_service_pb2.GetServerInfoResponse:
    metadata = [("authorization", f"Bearer {token}")] if token else []
    stub = info_service_pb2_grpc.InfoServiceStub(channel)
    return stub.GetServerInfo(info_service_pb2.GetServerInfoRequest(), timeout=20, metadata=metadata)


def code(call: Callable[[Message], Message], request: Message) -> grpc.StatusCode:
    try:
        call(request, timeout=60)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_without_credentials(api: Api, server: Server):
    info = server_info(api.channel)
    assert info.version and info.node == server.name and list(info.api_packages) == ["signalbox.v1"]
    assert abs(info.at.ToDatetime(timezone.utc) - datetime.now(timezone.utc)) < timedelta(minutes=1)
    assert info.caller == info_service_pb2.CallerInfo(
        source="none", scopes=["admin", "jobs.cancel", "jobs.enqueue", "jobs.read"], all_users=True
    )
    # There is nothing yet that not every server has.
    assert not info.features and not info.limits.HasField("max_wait")


def test_the_limits_are_those_that_hold(api: Api, user):
    limits = server_info(api.channel).limits
    enqueue, batch = api.jobs.Enqueue, api.jobs.EnqueueBatch

    def job(**fields) -> job_pb2.JobSpec:
        return job_pb2.JobSpec(
            kind="test.noop", user_id=user, content_type="application/octet-stream", **fields
        )

    def payload(size: int) -> Message:
        return job_service_pb2.EnqueueRequest(job=job(payload=bytes(size)))

    def labels(count: int) -> Message:
        return job_service_pb2.EnqueueRequest(job=job(labels={f"k{n}": "" for n in range(count)}))

    def jobs(count: int) -> Message:
        # They are not due yet, so that they take no time from other tests.
        return job_service_pb2.EnqueueBatchRequest(jobs=[job(delay={"seconds": 3600})] * count)

    assert code(enqueue, payload(limits.max_payload_bytes)) is grpc.StatusCode.OK
    assert code(enqueue, payload(limits.max_payload_bytes + 1)) is RESOURCE_EXHAUSTED
    assert code(enqueue, labels(limits.max_labels)) is grpc.StatusCode.OK
    assert code(enqueue, labels(limits.max_labels + 1)) is INVALID_ARGUMENT
    assert code(batch, jobs(limits.max_batch_jobs)) is grpc.StatusCode.OK
    assert code(batch, jobs(limits.max_batch_jobs + 1)) is INVALID_ARGUMENT

    # Each of the payloads is allowed.
    half = job_service_pb2.EnqueueBatchRequest(jobs=[job(payload=bytes(1_000_000))] * 2)
    assert half.ByteSize() < limits.max_batch_bytes and code(batch, half) is grpc.StatusCode.OK
    large = job_service_pb2.EnqueueBatchRequest(jobs=[job(payload=bytes(1_000_000))] * 5)
    assert large.ByteSize() > limits.max_batch_bytes and code(batch, large) is RESOURCE_EXHAUSTED

    def watch(count: int) -> grpc.StatusCode:
        jobs = [job_service_pb2.WatchedJob(job_id=f"00000000-0000-4000-8000-{n:012}") for n in range(count)]
        call = api.jobs.Watch(job_service_pb2.WatchRequest(jobs=jobs), timeout=60)
        try:
            removed = [message for message in call if message.HasField("removed")]
        except grpc.RpcError as error:
            return error.code()
        assert len(removed) == count
        return call.code()

    # The jobs do not exist.
    assert watch(limits.max_watched_jobs) is grpc.StatusCode.OK
    assert watch(limits.max_watched_jobs + 1) is INVALID_ARGUMENT


def test_a_page_has_at_most_as_many_jobs_as_the_limit(api: Api, user):
    limits = server_info(api.channel).limits
    size = limits.max_page_size
    spec = job_pb2.JobSpec(kind="test.noop", user_id=user, delay={"seconds": 3600})
    api.jobs.EnqueueBatch(job_service_pb2.EnqueueBatchRequest(jobs=[spec] * (size + 1)), timeout=60)
    page = api.jobs.ListJobs(job_service_pb2.ListJobsRequest(filter={"user_id": user}, page_size=size), timeout=20)
    assert len(page.jobs) == size and page.next_page_token
    # A larger one is cut.
    more = job_service_pb2.ListJobsRequest(filter={"user_id": user}, page_size=size + 1)
    assert len(api.jobs.ListJobs(more, timeout=20).jobs) == size


def test_with_tokens(cluster: Cluster, tmp_path):
    many = [f"user-{n:03}" for n in range(120)]
    entries = {
        "operator": "scopes: [admin], users: all",
        "reporter": "scopes: [jobs.cancel, jobs.read], users: [zoë, ada]",
        "importer": f"scopes: [jobs.enqueue], users: [{', '.join(many)}]",
    }
    tokens = {name: "sbx_" + secrets.token_urlsafe(32) for name in entries}
    file = tmp_path / "tokens.yaml"
    file.write_text(
        "tokens:\n"
        + "".join(
            f"  - {{name: {name}, hash: 'sha256:{hashlib.sha256(tokens[name].encode()).hexdigest()}', {rest}}}\n"
            for name, rest in entries.items()
        )
    )
    server = Server(
        cluster.database(),
        name=unique("node"),
        arguments=["--auth-tokens", str(file), "--insecure", "--retention", "90m"],
    )
    api = Api(server.address)
    try:
        for token in (None, "sbx_" + secrets.token_urlsafe(32)):
            with pytest.raises(grpc.RpcError) as refused:
                server_info(api.channel, token)
            assert refused.value.code() is UNAUTHENTICATED

        operator = server_info(api.channel, tokens["operator"])
        assert operator.node == server.name
        assert operator.limits.retention.ToTimedelta() == timedelta(minutes=90)
        assert operator.caller == info_service_pb2.CallerInfo(
            name="operator", source="token", scopes=["admin"], all_users=True
        )

        # Other callers do not see the name of the node.
        reporter = server_info(api.channel, tokens["reporter"])
        assert reporter.node == "" and reporter.version == operator.version
        assert reporter.caller == info_service_pb2.CallerInfo(
            name="reporter", source="token", scopes=["jobs.cancel", "jobs.read"], users=["ada", "zoë"]
        )
        importer = server_info(api.channel, tokens["importer"]).caller
        assert list(importer.users) == many[:100] and not importer.all_users
    finally:
        api.close()
        server.close()
