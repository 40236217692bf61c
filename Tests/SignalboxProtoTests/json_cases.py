"""Writes json_cases.jsonl: messages with random and extreme values, and the JSON that Python's protobuf makes of them.

    PYTHONPATH=clients/python/src python3 Tests/SignalboxProtoTests/json_cases.py

MessageJSONTests.swift compares it with the JSON of MessageJSON, and Tests/Scripts/test_json_cases.py checks that the file
is what this script writes.
"""

from __future__ import annotations

import base64
import json
import math
import random
from pathlib import Path

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from signalbox.v1 import admin_service_pb2 as admin
from signalbox.v1 import info_service_pb2 as info
from signalbox.v1 import job_service_pb2 as jobs

TARGET = Path(__file__).with_name("json_cases.jsonl")
CASES_OF_EACH = 12
MESSAGES = [
    jobs.GetJobResponse,
    jobs.ListJobsResponse,
    jobs.WatchResponse,
    jobs.EnqueueResponse,
    jobs.EnqueueBatchResponse,
    jobs.ListAttemptsResponse,
    jobs.ListLogLinesResponse,
    jobs.EnqueueRequest,
    jobs.ListJobsRequest,
    admin.ListQueuesResponse,
    admin.ListNodesResponse,
    admin.GetUserLimitResponse,
    admin.UpdateUserLimitRequest,
    info.GetServerInfoResponse,
]
TEXTS = ["", "a", 'a "quoted" \\ text', "\0\t\n\r\x1f\x7f", "/?<&'", "é中𝄞\u200b\u2028\ufeff", "x" * 300]
BYTES = [b"", b"\0", b"ab", b"abc", b"\xff\xfe\xfd\xfc", bytes(range(256))]
DOUBLES = [
    0.0, -0.0, 0.1, -1.5, 1e-7, 1e16, 123456789.125, 5e-324, 1.7976931348623157e308,
    math.nan, math.inf, -math.inf,
]  # fmt: skip
NANOS = [0, 1, 1000, 1_000_000, 123_456_789, 120_000_000, 999_999_999]
MOMENTS = [-62_135_596_800, -12_219_292_801, -1, 0, 951_782_399, 951_782_400, 1_700_000_000, 253_402_300_799]
SPANS = [0, 1, 59, 86_400, 315_576_000_000 - 1]
PATHS = [[], ["max_running"], ["max_running", "user_id", "limit.max_running_jobs"]]


class Filler:
    def __init__(self, choice: random.Random, fullness: float) -> None:
        self.choice, self.fullness = choice, fullness

    def integer(self, bits: int) -> int:
        extreme = 1 << (bits - 1)
        return self.choice.choice([0, 1, -1, 7, extreme - 1, -extreme, self.choice.randrange(-extreme, extreme)])

    def scalar(self, field: FieldDescriptor):
        match field.type:
            case FieldDescriptor.TYPE_INT32:
                return self.integer(32)
            case FieldDescriptor.TYPE_INT64:
                return self.integer(64)
            case FieldDescriptor.TYPE_DOUBLE:
                return self.choice.choice([*DOUBLES, self.choice.random()])
            case FieldDescriptor.TYPE_BOOL:
                return self.choice.random() < 0.5
            case FieldDescriptor.TYPE_STRING:
                return self.choice.choice(TEXTS)
            case FieldDescriptor.TYPE_BYTES:
                return self.choice.choice(BYTES)
            case FieldDescriptor.TYPE_ENUM:
                known = [value.number for value in field.enum_type.values]
                return self.choice.choice([*known, 99, 2**31 - 1, -1])
        raise AssertionError(f"{field.full_name} has a type for which there are no values")

    def fill(self, message) -> None:
        name = message.DESCRIPTOR.full_name
        if name == "google.protobuf.Timestamp":
            message.seconds, message.nanos = self.choice.choice(MOMENTS), self.choice.choice(NANOS)
            return
        if name == "google.protobuf.Duration":
            sign = self.choice.choice([1, -1])
            message.seconds, message.nanos = sign * self.choice.choice(SPANS), sign * self.choice.choice(NANOS)
            return
        if name == "google.protobuf.FieldMask":
            message.paths.extend(self.choice.choice(PATHS))
            return
        for field in message.DESCRIPTOR.fields:
            if self.choice.random() < self.fullness:
                self.fill_field(message, field)

    def fill_field(self, message, field: FieldDescriptor) -> None:
        count = self.choice.randrange(4)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for number in range(count):
                getattr(message, field.name)[self.choice.choice(TEXTS)] = f"{number}" + self.choice.choice(TEXTS)
        elif field.label == FieldDescriptor.LABEL_REPEATED and field.message_type is not None:
            for _ in range(count):
                self.fill(getattr(message, field.name).add())
        elif field.label == FieldDescriptor.LABEL_REPEATED:
            getattr(message, field.name).extend(self.scalar(field) for _ in range(count))
        elif field.message_type is not None:
            part = getattr(message, field.name)
            part.SetInParent()
            self.fill(part)
        else:
            setattr(message, field.name, self.scalar(field))


def cases() -> str:
    choice = random.Random(20260101)
    lines = []
    for kind in MESSAGES:
        for number in range(CASES_OF_EACH):
            message = kind()
            # The first is empty, and the second has every field.
            Filler(choice, [0.0, 1.0, 0.5][min(number, 2)]).fill(message)
            data = message.SerializeToString(deterministic=True)
            # What a parser of the bytes makes of them is compared: it has the last member of each oneof only.
            expected = json_format.MessageToDict(kind.FromString(data), preserving_proto_field_name=True)
            case = {
                "message": kind.DESCRIPTOR.full_name,
                "bytes": base64.b64encode(data).decode(),
                "json": expected,
            }
            lines.append(json.dumps(case, sort_keys=True, allow_nan=False) + "\n")
    return "".join(lines)


if __name__ == "__main__":
    TARGET.write_text(cases())
