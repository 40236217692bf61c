"""From Python's types to requests. Nothing here does I/O."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from signalbox.v1 import admin_service_pb2, job_pb2, job_service_pb2

from ._errors import make_error
from ._types import JobState, NewJob, RetryPolicy

#: The most jobs that one Watch call may name.
WATCHED_JOBS_MAX = 1_000


def uuid7() -> str:
    """A new UUID of version 7 (RFC 9562, section 5.7): ids sort by the time at which they were made."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def timestamp(value: datetime) -> Timestamp:
    """Raises ValueError for a time without a zone, because it does not name one moment."""
    if value.tzinfo is None:
        raise ValueError("a datetime must be aware (have a tzinfo)")
    message = Timestamp()
    message.FromDatetime(value)
    return message


def duration(value: timedelta) -> Duration:
    message = Duration()
    message.FromTimedelta(value)
    return message


def encode_payload(payload: Any, content_type: str | None) -> tuple[bytes, str]:
    """The payload's bytes and its media type.

    Bytes are sent unchanged (as application/octet-stream by default), None is empty, and anything else is encoded as
    JSON.
    """
    if payload is None:
        return b"", content_type or ""
    if isinstance(payload, (bytes, bytearray, memoryview)):
        return bytes(payload), content_type or "application/octet-stream"
    return json.dumps(
        payload, ensure_ascii=False, separators=(",", ":")
    ).encode(), content_type or "application/json"


def retry_policy(policy: RetryPolicy) -> job_pb2.RetryPolicy:
    # None leaves a field unset, which is not the same as 0.
    message = job_pb2.RetryPolicy(factor=policy.factor, jitter=policy.jitter)
    if policy.initial_delay is not None:
        message.initial_delay.CopyFrom(duration(policy.initial_delay))
    if policy.max_delay is not None:
        message.max_delay.CopyFrom(duration(policy.max_delay))
    return message


def job_spec(job: NewJob) -> job_pb2.JobSpec:
    """Makes a new id if the job has neither an id nor a key, so that the call can be repeated."""
    if job.run_at is not None and job.delay is not None:
        raise ValueError("run_at and delay exclude each other")
    payload, content_type = encode_payload(job.payload, job.content_type)
    message = job_pb2.JobSpec(
        kind=job.kind,
        user_id=job.user_id,
        queue=job.queue,
        payload=payload,
        content_type=content_type,
        job_id=job.job_id or ("" if job.idempotency_key else uuid7()),
        idempotency_key=job.idempotency_key or "",
        priority=job.priority,
        max_attempts=job.max_attempts or 0,
        labels=job.labels,
    )
    if job.run_at is not None:
        message.run_at.CopyFrom(timestamp(job.run_at))
    if job.delay is not None:
        message.delay.CopyFrom(duration(job.delay))
    if job.retry_policy is not None:
        message.retry_policy.CopyFrom(retry_policy(job.retry_policy))
    if job.timeout is not None:
        message.timeout.CopyFrom(duration(job.timeout))
    if job.soft_timeout is not None:
        message.soft_timeout.CopyFrom(duration(job.soft_timeout))
    return message


def list_request(
    user_id: str | None,
    queue: str | None,
    kinds: str | Iterable[str],
    states: Iterable[JobState],
    labels: Mapping[str, str] | None,
    created_from: datetime | None,
    created_to: datetime | None,
    page_size: int,
    page_token: str,
) -> job_service_pb2.ListJobsRequest:
    # The stubs know only their own enum.
    numbers: Any = [int(state) for state in states]
    selected = job_pb2.JobFilter(
        user_id=user_id or "",
        queue=queue or "",
        kinds=[kinds] if isinstance(kinds, str) else kinds,
        states=numbers,
        labels=labels or {},
    )
    if created_from is not None:
        selected.created_from.CopyFrom(timestamp(created_from))
    if created_to is not None:
        selected.created_to.CopyFrom(timestamp(created_to))
    return job_service_pb2.ListJobsRequest(filter=selected, page_size=page_size, page_token=page_token)


def limit_request(user_id: str, max_running: int | None, queue: str) -> admin_service_pb2.UpdateUserLimitRequest:
    """Sets the user's own limit, or removes it if `max_running` is None: the mask names a field that is not set."""
    limit = admin_service_pb2.UserLimit(user_id=user_id, queue=queue, max_running=max_running)
    return admin_service_pb2.UpdateUserLimitRequest(limit=limit, update_mask=FieldMask(paths=["max_running"]))


def watch_ids(job_ids: str | Iterable[str] | None) -> Sequence[str]:
    """Each id once, in order."""
    if job_ids is None:
        return ()
    ids = [job_ids] if isinstance(job_ids, str) else list(dict.fromkeys(job_ids))
    if not ids:
        raise ValueError("no job to watch")
    if len(ids) > WATCHED_JOBS_MAX:
        raise ValueError(f"a watch takes at most {WATCHED_JOBS_MAX:,} jobs")
    return ids


def check_page_token(asked: str, next_token: str) -> None:
    """Raises ServiceError if a page names itself as its next page, because the list would never end."""
    if asked == next_token:
        raise make_error(grpc.StatusCode.INTERNAL, "the server returned the token of the same page again")
