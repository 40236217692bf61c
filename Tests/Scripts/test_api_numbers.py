"""docs/api-numbers.md and the protos agree: a number of a later feature is used for nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc_tools
import pytest
from google.protobuf import descriptor_pb2

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs/api-numbers.md"

SCALARS = {1: "double", 3: "int64", 5: "int32", 8: "bool", 9: "string", 12: "bytes", 13: "uint32", 4: "uint64", 17: "sint32"}
#: The number, in a message of a stream, of a field beside its oneof.
BESIDE_ONEOF = 15
#: Both messages have these numbers for the same fields.
SHARED = range(30, 60)
#: The numbers from 16 on that only one message has.
OWN = {"JobSpec": range(16, 30), "Job": range(60, 90)}
FORKS_FROM = 1_000


@dataclass(frozen=True)
class Row:
    """A line of the page, or a field or value of the protos. A reserved number has no name."""

    file: str
    owner: str
    number: int
    name: str
    type: str

    def __str__(self) -> str:
        return f"{self.owner}.{self.name} = {self.number} ({self.type})"


@dataclass(frozen=True)
class Protos:
    fields: list[Row]
    #: The numbers and names that a message or enum reserves.
    reserved_numbers: dict[str, set[int]]
    reserved_names: dict[str, set[str]]
    #: The file of each message and enum.
    files: dict[str, str]
    #: The messages of streams.
    streamed: set[str]


def read_page(text: str) -> list[Row]:
    rows, file = [], ""
    for line in text.splitlines():
        if heading := re.match(r"## (\S+\.proto)$", line):
            file = heading[1]
        elif found := re.match(r"\| (\w+) \| (\d+) \| (\w*) \| (.+) \|$", line):
            rows.append(Row(file, found[1], int(found[2]), found[3], found[4]))
        else:
            assert not line.startswith("| ") or line.startswith("| message"), f"not a row: {line}"
    return rows


def type_of(field: descriptor_pb2.FieldDescriptorProto, message: descriptor_pb2.DescriptorProto) -> str:
    """The type as the page writes it."""
    entry = next((nested for nested in message.nested_type if field.type_name.endswith(f".{message.name}.{nested.name}")), None)
    if entry is not None and entry.options.map_entry:
        key, value = (SCALARS.get(part.type) or part.type_name.rpartition(".")[2] for part in entry.field)
        return f"map<{key}, {value}>"
    name = SCALARS.get(field.type) or field.type_name.rpartition(".")[2]
    if field.label == field.LABEL_REPEATED:
        return f"repeated {name}"
    if field.proto3_optional:
        return f"optional {name}"
    if field.HasField("oneof_index"):
        return f"{name}, oneof {message.oneof_decl[field.oneof_index].name}"
    return name


def read_protos(folder: Path) -> Protos:
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.proto"))
    include = Path(grpc_tools.__file__).parent / "_proto"
    options = [f"-I{folder}", f"-I{include}", "--descriptor_set_out=/dev/stdout"]
    done = subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", *options, *files], check=True, stdout=subprocess.PIPE
    )
    protos = Protos([], {}, {}, {}, set())
    for file in descriptor_pb2.FileDescriptorSet.FromString(done.stdout).file:
        for method in (method for service in file.service for method in service.method):
            if method.server_streaming:
                protos.streamed.add(method.output_type.rpartition(".")[2])
            if method.client_streaming:
                protos.streamed.add(method.input_type.rpartition(".")[2])
        for message in file.message_type:
            protos.files[message.name] = file.name
            protos.reserved_names[message.name] = set(message.reserved_name)
            protos.reserved_numbers[message.name] = {
                number for part in message.reserved_range for number in range(part.start, part.end)
            }
            protos.fields.extend(
                Row(file.name, message.name, field.number, field.name, type_of(field, message))
                for field in message.field
            )
        for item in file.enum_type:
            protos.files[item.name] = file.name
            protos.reserved_names[item.name] = set(item.reserved_name)
            # An enum's range includes its end.
            protos.reserved_numbers[item.name] = {
                number for part in item.reserved_range for number in range(part.start, part.end + 1)
            }
            protos.fields.extend(Row(file.name, item.name, value.number, value.name, "value") for value in item.value)
    return protos


def problems(page: list[Row], protos: Protos) -> list[str]:
    return [
        *problems_of_the_page(page, protos),
        *(problem for field in protos.fields for problem in problems_of_a_field(field, page)),
        *problems_with_the_rules([*page, *protos.fields], protos),
        *(problem for row in [*page, *protos.fields] for problem in problems_with_a_name(row)),
    ]


def problems_of_the_page(page: list[Row], protos: Protos) -> Iterator[str]:
    """Rows that contradict one another, or the messages that exist."""
    seen: set[tuple[str, object]] = set()
    for row in page:
        for key in ((row.owner, row.number), *([(row.owner, row.name)] if row.name else [])):
            if key in seen:
                yield f"the page lists {key[0]} {key[1]} twice"
            seen.add(key)
        if protos.files.get(row.owner, row.file) != row.file:
            yield f"{row.owner} is in {protos.files[row.owner]}, not in {row.file}"
        numbers = protos.reserved_numbers.get(row.owner, set())
        if row.type == "reserved":
            if row.owner in protos.files and row.number not in numbers:
                yield f"{row.owner} must reserve {row.number}"
        elif row.number in numbers or row.name in protos.reserved_names.get(row.owner, set()):
            yield f"{row.owner} reserves what the page gives to {row}"


def problems_of_a_field(field: Row, page: list[Row]) -> Iterator[str]:
    for row in page:
        if row.owner != field.owner:
            continue
        if row.name == field.name:
            if (row.number, row.type) == (field.number, field.type):
                yield f"{field} exists: delete its row"
            else:
                yield f"{field} must be {row}"
        elif row.number == field.number:
            yield f"{field} has the number of {row}" if row.name else f"{field} has a reserved number"


def problems_with_the_rules(rows: list[Row], protos: Protos) -> Iterator[str]:
    """Numbers of all messages, and of JobSpec and Job, whose fields below 30 (below 16 of JobSpec) are older."""
    names: dict[str, dict[int, str]] = {"JobSpec": {}, "Job": {}}
    repeated = {(row.owner, row.name) for row in rows if row.type.startswith(("repeated ", "map<"))}
    for row in rows:
        if row.number >= FORKS_FROM:
            yield f"{row} has a number for forks"
        if row.number == BESIDE_ONEOF and row.owner in protos.streamed and ", oneof " in row.type:
            yield f"{row} is a member of a oneof, and has the number of a field beside it"
        if (row.owner, row.name.removesuffix("_count")) in repeated and row.name.endswith("_count"):
            yield f"{row} has the accessors of {row.name.removesuffix('_count')} in Java"
        if row.owner in names and row.name:
            names[row.owner][row.number] = row.name
    spec, job = names["JobSpec"], names["Job"]
    for number in SHARED:
        if number in spec and number in job and spec[number] != job[number]:
            yield f"{number} is {spec[number]} in JobSpec and {job[number]} in Job"
        elif number in spec and number not in job and number not in protos.reserved_numbers["Job"]:
            yield f"JobSpec.{spec[number]} is not in Job, which does not reserve {number}"
        elif number in job and number not in spec:
            yield f"Job.{job[number]} is not in JobSpec, so its number must be from 60 to 89"
    for owner, other, first in (("JobSpec", "Job", 16), ("Job", "JobSpec", 30)):
        for number, name in names[owner].items():
            if number >= first and number not in SHARED and number not in OWN[owner]:
                yield f"{owner}.{name} must not have the number {number}"
            if number in OWN[owner] and number >= first and name in names[other].values():
                yield f"{owner}.{name} is also in {other}, so its number must be from 30 to 59"


def problems_with_a_name(row: Row) -> Iterator[str]:
    name, kind = row.name, row.type.partition(",")[0].removeprefix("optional ").removeprefix("repeated ")
    is_moment = name == "at" or name.endswith(("_at", "_from", "_to"))
    if (kind == "Timestamp") != is_moment and kind not in ("reserved", "value"):
        yield f"{row} must be a Timestamp" if is_moment else f"{row} must be called {name}_at"
    if re.search(r"_(ms|secs?|seconds|minutes|hours|days)$", name):
        yield f"{row} must be a Duration without a unit"
    if kind.startswith(("uint", "fixed")):
        yield f"{row} must be signed"


def test_the_page_and_the_protos_agree():
    page = read_page(PAGE.read_text())
    assert len(page) > 100
    assert problems(page, read_protos(ROOT / "proto")) == []


PROTO = """\
syntax = "proto3";
package test.v1;
service Jobs {
  rpc Watch(JobSpec) returns (stream Event);
}
message Event {
  oneof event {
    string first = 1;
  }
  string token = 15;
}
message JobSpec {
  reserved 44;
  reserved "tenant";
  string kind = 1;
%s}
message Job {
  reserved 38;
  string id = 1;
%s}
enum Cause {
  CAUSE_UNSPECIFIED = 0;
%s}
"""
ROWS = """\
## things.proto

| message or enum | number | name | type |
|---|---|---|---|
| JobSpec | 30 | parts | repeated Job |
| JobSpec | 36 | cost | optional int32 |
| JobSpec | 37 | late | int64, oneof lateness |
| JobSpec | 38 | later | int64, oneof lateness |
| JobSpec | 42 | labels | map<string, string> |
| Job | 30 | parts | repeated Job |
| Job | 36 | cost | int32 |
| Job | 37 | late | int64 |
| Job | 42 | labels | map<string, string> |
| Job | 61 | node | string |
| Cause | 7 | CAUSE_LATE | value |
| Later | 1 | name | string |
| Later | 3 |  | reserved |
"""

Check = Callable[..., list[str]]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    def found(rows: str = ROWS, spec: str = "", job: str = "", cause: str = "", more: str = "") -> list[str]:
        (tmp_path / "things.proto").write_text(PROTO % (spec, job, cause) + more)
        return problems(read_page(rows), read_protos(tmp_path))

    return found


def test_a_page_and_protos_that_agree(check: Check):
    assert check() == []
    # Numbers of which the page says nothing are free.
    assert check(spec="int32 size = 16;", job="int32 size_used = 60;", cause="CAUSE_OTHER = 1;") == []


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"spec": "optional int32 cost = 36;"}, "JobSpec.cost = 36 (optional int32) exists: delete its row"),
        ({"spec": "repeated Job parts = 30;"}, "JobSpec.parts = 30 (repeated Job) exists: delete its row"),
        (
            {"spec": "map<string, string> labels = 42;"},
            "JobSpec.labels = 42 (map<string, string>) exists: delete its row",
        ),
        (
            {"spec": "oneof lateness { int64 late = 37; }"},
            "JobSpec.late = 37 (int64, oneof lateness) exists: delete its row",
        ),
        ({"cause": "CAUSE_LATE = 7;"}, "Cause.CAUSE_LATE = 7 (value) exists: delete its row"),
        (
            {"spec": "int32 cost = 36;"},
            "JobSpec.cost = 36 (int32) must be JobSpec.cost = 36 (optional int32)",
        ),
        (
            {"spec": "optional int32 cost = 35;"},
            "JobSpec.cost = 35 (optional int32) must be JobSpec.cost = 36 (optional int32)",
        ),
        ({"cause": "CAUSE_LATE = 8;"}, "Cause.CAUSE_LATE = 8 (value) must be Cause.CAUSE_LATE = 7 (value)"),
        ({"job": "string other = 61;"}, "Job.other = 61 (string) has the number of Job.node = 61 (string)"),
        ({"cause": "CAUSE_OTHER = 7;"}, "Cause.CAUSE_OTHER = 7 (value) has the number of Cause.CAUSE_LATE = 7 (value)"),
        ({"more": "message Later { reserved 3; string other = 2; int32 last = 1; }"}, "Later.last = 1 (int32) has the number of Later.name = 1 (string)"),
        ({"more": "message Later { string other = 2; }"}, "Later must reserve 3"),
        ({"more": "message Later { string other = 3; }"}, "Later.other = 3 (string) has a reserved number"),
        ({"rows": ROWS + "| JobSpec | 44 | other | string |\n"}, "JobSpec reserves what the page gives to JobSpec.other = 44 (string)"),
        ({"rows": ROWS + "| JobSpec | 45 | tenant | string |\n"}, "JobSpec reserves what the page gives to JobSpec.tenant = 45 (string)"),
        ({"rows": ROWS + "| Later | 1 | other | string |\n"}, "the page lists Later 1 twice"),
        ({"rows": ROWS + "| Later | 2 | name | string |\n"}, "the page lists Later name twice"),
        ({"rows": ROWS + "| Later | 1000 | other | string |\n"}, "Later.other = 1000 (string) has a number for forks"),
        ({"rows": ROWS.replace("things", "other")}, "JobSpec is in things.proto, not in other.proto"),
        ({"rows": ROWS.replace("Job | 37 | late ", "Job | 37 | other ")}, "37 is late in JobSpec and other in Job"),
        ({"rows": ROWS.replace("JobSpec | 38", "JobSpec | 39")}, "JobSpec.later is not in Job, which does not reserve 39"),
        ({"job": "string other = 41;"}, "Job.other is not in JobSpec, so its number must be from 60 to 89"),
        ({"rows": ROWS + "| Event | 15 | last | string, oneof event |\n"}, "Event.last = 15 (string, oneof event) is a member of a oneof, and has the number of a field beside it"),
        ({"rows": ROWS + "| Job | 62 | parts_count | int32 |\n"}, "Job.parts_count = 62 (int32) has the accessors of parts in Java"),
        ({"rows": ROWS + "| Later | 2 | begun_at | int64 |\n"}, "Later.begun_at = 2 (int64) must be a Timestamp"),
        ({"rows": ROWS + "| Later | 2 | begun | Timestamp |\n"}, "Later.begun = 2 (Timestamp) must be called begun_at"),
        ({"rows": ROWS + "| Later | 2 | delay_ms | int64 |\n"}, "Later.delay_ms = 2 (int64) must be a Duration without a unit"),
        ({"more": "message Other { optional uint32 size = 2; }"}, "Other.size = 2 (optional uint32) must be signed"),
        ({"spec": "string other = 60;"}, "JobSpec.other must not have the number 60"),
        ({"job": "string other = 90;"}, "Job.other must not have the number 90"),
        ({"spec": "string node = 16;"}, "JobSpec.node is also in Job, so its number must be from 30 to 59"),
    ],
)
def test_each_contradiction_is_found(check: Check, changed: dict[str, str], expected: str):
    assert expected in check(**changed)


def test_a_line_that_is_no_row_is_refused():
    with pytest.raises(AssertionError, match="not a row"):
        read_page(ROWS + "| Later | five | other | string |\n")
