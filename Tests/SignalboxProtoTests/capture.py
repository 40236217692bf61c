"""Prints the hex in PythonBytesTests.swift: the same messages as Python's protobuf writes them.

    PYTHONPATH=clients/python/src python3 Tests/SignalboxProtoTests/capture.py
"""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from signalbox.v1 import job_pb2 as job
from signalbox.v1 import job_service_pb2 as service

ID = "0199aaaa-bbbb-7ccc-8ddd-eeeeffff0001"


def at(seconds: int, nanos: int = 0) -> Timestamp:
    return Timestamp(seconds=seconds, nanos=nanos)


spec = job.JobSpec(
    kind="speech/make",
    user_id="ué",
    queue="night",
    payload=b'{"a":1}',
    content_type="application/json",
    job_id=ID,
    idempotency_key="k1",
    priority=-7,
    run_at=at(1700000000, 123456000),
    max_attempts=5,
    retry_policy=job.RetryPolicy(
        initial_delay=Duration(seconds=1, nanos=500000000), factor=3, max_delay=Duration(seconds=60), jitter=0.25
    ),
    timeout=Duration(seconds=90),
    soft_timeout=Duration(nanos=250000000),
    labels={"a": "1", "b": "2"},
)
record = job.Job(
    id=ID,
    kind="speech/make",
    user_id="ué",
    queue="night",
    priority=-7,
    state=job.JOB_STATE_FAILED,
    sequence=6,
    created_at=at(1700000000, 123456000),
    due_at=at(1700000060),
    started_at=at(1700000061),
    finished_at=at(-1, 750000000),
    attempt=2,
    attempts_used=1,
    max_attempts=2,
    labels={"a": "1", "b": "2"},
    idempotency_key="k1",
    cancel_requested=True,
    progress=job.Progress(stage="mix", fraction=0.5, message="half", done=1, total=2, updated_at=at(1700000062)),
    result=job.JobResult(data=b"\0\xff", content_type="application/octet-stream"),
    error=job.JobError(message="too slow", cause=job.FAILURE_CAUSE_TIMEOUT),
    content_type="application/json",
    retry_policy=job.RetryPolicy(initial_delay=Duration(seconds=5), factor=2, max_delay=Duration(seconds=3600), jitter=0),
    timeout=Duration(seconds=90),
    soft_timeout=Duration(seconds=80),
    attempts=[
        job.Attempt(
            number=1,
            node="n1",
            started_at=at(1700000001),
            ended_at=at(1700000002),
            outcome=job.ATTEMPT_OUTCOME_INTERRUPTED,
            error=job.JobError(message="gone", cause=job.FAILURE_CAUSE_INTERRUPTED),
            counted=True,
        ),
        job.Attempt(number=2, node="n2", started_at=at(1700000061), outcome=job.ATTEMPT_OUTCOME_TIMED_OUT, counted=True),
    ],
    log=[job.LogLine(number=1, at=at(1700000001), attempt=1, level=job.LOG_LEVEL_WARNING, message="hm")],
    payload=b'{"a":1}',
)
for message in (service.EnqueueRequest(job=spec), service.GetJobResponse(job=record)):
    text = message.SerializeToString(deterministic=True).hex()
    print("\n".join(text[start : start + 96] for start in range(0, len(text), 96)), end="\n\n")
