from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Stability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STABILITY_UNSPECIFIED: _ClassVar[Stability]
    STABILITY_EXPERIMENTAL: _ClassVar[Stability]
    STABILITY_STABLE: _ClassVar[Stability]
    STABILITY_DEPRECATED: _ClassVar[Stability]
STABILITY_UNSPECIFIED: Stability
STABILITY_EXPERIMENTAL: Stability
STABILITY_STABLE: Stability
STABILITY_DEPRECATED: Stability

class GetServerInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServerInfoResponse(_message.Message):
    __slots__ = ("version", "api_packages", "features", "limits", "at", "node", "caller")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    API_PACKAGES_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    version: str
    api_packages: _containers.RepeatedScalarFieldContainer[str]
    features: _containers.RepeatedCompositeFieldContainer[Feature]
    limits: ServerLimits
    at: _timestamp_pb2.Timestamp
    node: str
    caller: CallerInfo
    def __init__(self, version: _Optional[str] = ..., api_packages: _Optional[_Iterable[str]] = ..., features: _Optional[_Iterable[_Union[Feature, _Mapping]]] = ..., limits: _Optional[_Union[ServerLimits, _Mapping]] = ..., at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., node: _Optional[str] = ..., caller: _Optional[_Union[CallerInfo, _Mapping]] = ...) -> None: ...

class Feature(_message.Message):
    __slots__ = ("name", "stability", "enabled")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STABILITY_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    name: str
    stability: Stability
    enabled: bool
    def __init__(self, name: _Optional[str] = ..., stability: _Optional[_Union[Stability, str]] = ..., enabled: bool = ...) -> None: ...

class ServerLimits(_message.Message):
    __slots__ = ("max_payload_bytes", "max_result_bytes", "max_batch_jobs", "max_batch_bytes", "max_watched_jobs", "max_page_size", "max_checkpoint_bytes", "kept_log_lines", "max_labels", "heartbeat_interval", "retention", "max_wait", "max_event_result_bytes")
    MAX_PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_RESULT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_JOBS_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_WATCHED_JOBS_FIELD_NUMBER: _ClassVar[int]
    MAX_PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_CHECKPOINT_BYTES_FIELD_NUMBER: _ClassVar[int]
    KEPT_LOG_LINES_FIELD_NUMBER: _ClassVar[int]
    MAX_LABELS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    RETENTION_FIELD_NUMBER: _ClassVar[int]
    MAX_WAIT_FIELD_NUMBER: _ClassVar[int]
    MAX_EVENT_RESULT_BYTES_FIELD_NUMBER: _ClassVar[int]
    max_payload_bytes: int
    max_result_bytes: int
    max_batch_jobs: int
    max_batch_bytes: int
    max_watched_jobs: int
    max_page_size: int
    max_checkpoint_bytes: int
    kept_log_lines: int
    max_labels: int
    heartbeat_interval: _duration_pb2.Duration
    retention: _duration_pb2.Duration
    max_wait: _duration_pb2.Duration
    max_event_result_bytes: int
    def __init__(self, max_payload_bytes: _Optional[int] = ..., max_result_bytes: _Optional[int] = ..., max_batch_jobs: _Optional[int] = ..., max_batch_bytes: _Optional[int] = ..., max_watched_jobs: _Optional[int] = ..., max_page_size: _Optional[int] = ..., max_checkpoint_bytes: _Optional[int] = ..., kept_log_lines: _Optional[int] = ..., max_labels: _Optional[int] = ..., heartbeat_interval: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., retention: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., max_wait: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., max_event_result_bytes: _Optional[int] = ...) -> None: ...

class CallerInfo(_message.Message):
    __slots__ = ("name", "source", "scopes", "all_users", "users")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    ALL_USERS_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    name: str
    source: str
    scopes: _containers.RepeatedScalarFieldContainer[str]
    all_users: bool
    users: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., source: _Optional[str] = ..., scopes: _Optional[_Iterable[str]] = ..., all_users: bool = ..., users: _Optional[_Iterable[str]] = ...) -> None: ...
