"""Errors, and how a call's status becomes one. Nothing here does I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

if TYPE_CHECKING:
    from ._types import Job

_DETAIL_TYPES: tuple[type[Message], ...] = (
    error_details_pb2.ErrorInfo,
    error_details_pb2.BadRequest,
    error_details_pb2.RetryInfo,
    error_details_pb2.QuotaFailure,
    error_details_pb2.PreconditionFailure,
    error_details_pb2.ResourceInfo,
)


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field that is wrong: its path ("jobs[3].kind"), and what is wrong with it.

    `reason` says it for programs ("REQUIRED"); empty if the service did not say.
    """

    field: str
    description: str
    reason: str = ""


class SignalboxError(Exception):
    """Whatever this package raises."""


class ServiceError(SignalboxError):
    """A call that did not end with OK."""

    def __init__(self, code: grpc.StatusCode, message: str, details: Sequence[Message] = ()) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message
        #: Those messages of google.rpc that came with it and that this package knows.
        self.details = tuple(details)

    def _detail(self, kind: type[Message]) -> Any:
        return next((detail for detail in self.details if isinstance(detail, kind)), None)

    @property
    def reason(self) -> str:
        """Why the call failed, for programs ("JOB_NOT_FOUND"); empty if the service did not say.

        docs/errors.md of the service lists the reasons.
        """
        info = self._detail(error_details_pb2.ErrorInfo)
        return info.reason if info is not None else ""

    @property
    def metadata(self) -> Mapping[str, str]:
        """The variable parts of the message, as in {"jobId": "…"}."""
        info = self._detail(error_details_pb2.ErrorInfo)
        return MappingProxyType(dict(info.metadata) if info is not None else {})

    @property
    def retry_after(self) -> timedelta | None:
        """The delay before another try that the service asks for."""
        info = self._detail(error_details_pb2.RetryInfo)
        return info.retry_delay.ToTimedelta() if info is not None else None

    @property
    def resource_name(self) -> str:
        """The job (or node) that the error is about; empty if the service did not say."""
        info = self._detail(error_details_pb2.ResourceInfo)
        return info.resource_name if info is not None else ""


class InvalidArgument(ServiceError):
    """The request is wrong; `violations` names each field."""

    @property
    def violations(self) -> tuple[FieldViolation, ...]:
        found = self._detail(error_details_pb2.BadRequest)
        if found is None:
            return ()
        # Old releases of googleapis-common-protos do not have the field.
        return tuple(
            FieldViolation(item.field, item.description, getattr(item, "reason", "")) for item in found.field_violations
        )


class AlreadyExists(ServiceError):
    """The id or key is taken by a job with other content: `job_id`."""

    @property
    def job_id(self) -> str:
        return self.resource_name


class NotFound(ServiceError):
    """There is no such job."""


class FailedPrecondition(ServiceError):
    """The job is not in this state, or no node handles its kind; `reason` says which."""


class OutOfRange(ServiceError):
    """A sequence is beyond the job's own."""


class Aborted(ServiceError):
    """The job's sequence is not the expected one (`metadata`: expected, actual), and nothing was done."""


class ResourceExhausted(ServiceError):
    """Too large, or too many; over a quota see `retry_after`. None there: it never fits."""


class Unavailable(ServiceError):
    """The service or its database cannot be reached now; see `retry_after`."""


class DeadlineExceeded(ServiceError):
    """No answer in time. Whether the call took effect is not known."""


class Cancelled(ServiceError):
    """The call was given up."""


class Unauthenticated(ServiceError):
    """The call has no valid credentials."""


class PermissionDenied(ServiceError):
    """The caller does not have the permission for this call."""


class Unimplemented(ServiceError):
    """The server does not know this call."""


class JobUnsuccessful(SignalboxError):
    """A job became final without success; `job` is how it ended."""

    def __init__(self, job: Job) -> None:
        why = ""
        if job.error:
            # The handler's word says more, if it chose one.
            why = f" ({job.error.reason or job.error.cause.name.lower()}: {job.error.message})"
        super().__init__(f"job {job.id} is {job.state.name}{why}")
        self.job = job


class JobFailed(JobUnsuccessful):
    """Out of attempts, or failed for good."""


class JobCancelled(JobUnsuccessful):
    """Cancelled before or while it ran."""


_BY_CODE: dict[grpc.StatusCode, type[ServiceError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.OUT_OF_RANGE: OutOfRange,
    grpc.StatusCode.ABORTED: Aborted,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.UNIMPLEMENTED: Unimplemented,
}


def decode_details(metadata: Any) -> tuple[Message, ...]:
    """The google.rpc messages in a call's trailing metadata; what cannot be read is left out."""
    found: list[Message] = []
    for key, value in metadata or ():
        if key != "grpc-status-details-bin":
            continue
        try:
            status = status_pb2.Status.FromString(value)
        except (DecodeError, TypeError):
            continue
        for packed in status.details:
            for kind in _DETAIL_TYPES:
                if packed.Is(kind.DESCRIPTOR):
                    try:
                        found.append(kind.FromString(packed.value))
                    except DecodeError:
                        pass
    return tuple(found)


def make_error(code: grpc.StatusCode, message: str, details: Sequence[Message] = ()) -> ServiceError:
    """The error class that stands for a status code."""
    return _BY_CODE.get(code, ServiceError)(code, message, details)


def from_rpc_error(error: Any) -> ServiceError:
    """From a grpc.RpcError of a finished call, blocking or asyncio."""
    return make_error(error.code(), error.details() or "", decode_details(error.trailing_metadata()))
