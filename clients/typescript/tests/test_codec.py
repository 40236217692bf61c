"""Compares the TypeScript codec with Python's protobuf, by random messages of all types.

SIGNALBOX_TYPESCRIPT is the folder that clients/typescript was built into.
"""

from __future__ import annotations

import base64
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc_tools
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

ROOT = Path(__file__).resolve().parents[3]
BUILT = Path(os.environ.get("SIGNALBOX_TYPESCRIPT", ROOT / ".build/clients/typescript"))
FILES = [
    *(f"signalbox/v1/{name}.proto" for name in ("admin_service", "job", "job_service")),
    "google/rpc/status.proto",
    "google/rpc/error_details.proto",
    *(f"google/protobuf/{name}.proto" for name in ("any", "duration", "field_mask", "timestamp")),
]
#: The number of messages of each type in one test.
MESSAGES = 40

UNSIGNED = {FieldDescriptor.CPPTYPE_UINT32: 32, FieldDescriptor.CPPTYPE_UINT64: 64}
SIGNED = {FieldDescriptor.CPPTYPE_INT32: 32, FieldDescriptor.CPPTYPE_INT64: 64, FieldDescriptor.CPPTYPE_ENUM: 32}
LONG = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)


def load_types() -> dict[str, Descriptor]:
    """The messages of the protos as they are now, by full name."""
    include = Path(grpc_tools.__file__).parent / "_proto"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}", f"-I{ROOT / 'third_party/proto'}", f"-I{include}"),
            *("--include_imports", "--descriptor_set_out=/dev/stdout", *FILES),
        ],
        check=True,
        stdout=subprocess.PIPE,
    )
    pool = descriptor_pool.DescriptorPool()
    found: dict[str, Descriptor] = {}

    def add(item: Descriptor) -> None:
        if not item.GetOptions().map_entry:
            found[item.full_name] = item
        for nested in item.nested_types:
            add(nested)

    for file in descriptor_pb2.FileDescriptorSet.FromString(done.stdout).file:
        pool.Add(file)
        for item in pool.FindFileByName(file.name).message_types_by_name.values():
            add(item)
    return found


TYPES = load_types()


def new(name: str) -> Message:
    return message_factory.GetMessageClass(TYPES[name])()


# Random messages


def random_text(rand: random.Random) -> str:
    alphabet = ["a", "Z", "\0", "\n", '"', "é", "€", "\ufeff", "\ufffd", "😀", "__proto__"]
    return "".join(rand.choices(alphabet, k=rand.choice([0, 1, 5, 200])))


def random_value(rand: random.Random, field: FieldDescriptor) -> Any:
    kind = field.cpp_type
    if kind in UNSIGNED:
        bits = UNSIGNED[kind]
        return rand.choice([0, 1, 127, 128, 2**31 - 1, 2**bits - 1, rand.getrandbits(bits)])
    if kind in SIGNED:
        bits = SIGNED[kind]
        edge = 2 ** (bits - 1)
        return rand.choice([0, 1, -1, 127, 128, edge - 1, -edge, rand.randrange(-edge, edge)])
    if kind == FieldDescriptor.CPPTYPE_DOUBLE:
        return rand.choice([0.0, -0.0, 0.5, 1e300, 5e-324, float("inf"), float("-inf"), rand.random()])
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return rand.random() < 0.5
    if field.type == FieldDescriptor.TYPE_BYTES:
        return rand.randbytes(rand.choice([0, 1, 300]))
    return random_text(rand)


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def fill(rand: random.Random, message: Message, depth: int = 0, *, with_maps: bool = True) -> Message:
    """Sets about two thirds of the fields."""
    for field in message.DESCRIPTOR.fields:
        if rand.random() < 0.33 or (field.message_type is not None and depth > 4):
            continue
        if is_map(field) and not with_maps:
            continue
        value = getattr(message, field.name)
        count = rand.choice([1, 2, 5]) if field.label == FieldDescriptor.LABEL_REPEATED else 1
        if is_map(field):
            for _ in range(count):
                value[random_text(rand)] = random_value(rand, field.message_type.fields_by_name["value"])
        elif field.message_type is not None:
            for _ in range(count):
                part = value.add() if field.label == FieldDescriptor.LABEL_REPEATED else value
                if field.label != FieldDescriptor.LABEL_REPEATED:
                    part.SetInParent()
                fill(rand, part, depth + 1, with_maps=with_maps)
        elif field.label == FieldDescriptor.LABEL_REPEATED:
            value.extend(random_value(rand, field) for _ in range(count))
        else:
            setattr(message, field.name, random_value(rand, field))
    return message


# Messages as TypeScript has them


def in_typescript(value: Any, field: FieldDescriptor) -> Any:
    if field.message_type is not None:
        return properties(value)
    if field.cpp_type in LONG:
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, float) and value != value:
        return "NaN"
    return value


def properties(message: Message) -> dict[str, Any]:
    """The message as tests/codec.ts prints it. JSON has nothing for properties that are undefined."""
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if is_map(field):
            item = field.message_type.fields_by_name["value"]
            found[field.json_name] = {key: in_typescript(value[key], item) for key in value}
        elif field.label == FieldDescriptor.LABEL_REPEATED:
            found[field.json_name] = [in_typescript(item, field) for item in value]
        elif field.has_presence and not message.HasField(field.name):
            continue
        elif field.containing_oneof is not None and not field.containing_oneof.name.startswith("_"):
            found[field.containing_oneof.name] = [field.json_name, in_typescript(value, field)]
        else:
            found[field.json_name] = in_typescript(value, field)
    return found


# The program


class Codec:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["node", str(BUILT / "tests/codec.js")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.types = self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def ask(self, name: str, data: bytes) -> dict[str, Any]:
        assert self._process.stdin is not None
        line = json.dumps({"type": name, "bytes": base64.b64encode(data).decode()})
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        assert self._process.wait(30) == 0


@pytest.fixture(scope="module")
def codec() -> Iterator[Codec]:
    codec = Codec()
    yield codec
    codec.close()


def check(codec: Codec, expected: Message, data: bytes) -> None:
    """That the bytes are `expected` when they are decoded, and when they are encoded again."""
    name = expected.DESCRIPTOR.full_name
    answer = codec.ask(name, data)
    assert answer.get("fields") == properties(expected), answer
    again = new(name)
    again.ParseFromString(base64.b64decode(answer["bytes"]))
    assert again.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


def parsed(name: str, data: bytes) -> Message | None:
    """The message without unknown fields, or None if Python's protobuf refuses it."""
    message = new(name)
    try:
        message.ParseFromString(data)
    except DecodeError:
        return None
    message.DiscardUnknownFields()
    return message


def check_like_python(codec: Codec, name: str, data: bytes) -> bool:
    """That both refuse the bytes, or both decode the same. Returns whether they were decoded."""
    expected = parsed(name, data)
    if expected is None:
        assert "error" in codec.ask(name, data), data.hex()
        return False
    check(codec, expected, data)
    return True


def test_every_message_has_a_type(codec: Codec):
    assert set(codec.types) == set(TYPES)


@pytest.mark.parametrize("name", sorted(TYPES))
def test_random_messages(codec: Codec, name: str):
    for seed in range(MESSAGES):
        message = fill(random.Random(f"{name} {seed}"), new(name))
        check(codec, message, message.SerializeToString())


def varint(value: int) -> bytes:
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])


def unknown_field(rand: random.Random, depth: int = 0) -> bytes:
    """A field with a number that no message has, of any wire type."""
    number = rand.randrange(1000, 2**29)
    kind = rand.choice([0, 1, 2, 3, 5] if depth < 3 else [0, 1, 2, 5])
    tag = varint(number << 3 | kind)
    if kind == 3:
        inner = b"".join(unknown_field(rand, depth + 1) for _ in range(rand.randrange(3)))
        return tag + inner + varint(number << 3 | 4)
    if kind == 2:
        content = rand.randbytes(rand.randrange(40))
        return tag + varint(len(content)) + content
    if kind == 0:
        return tag + varint(rand.getrandbits(64))
    return tag + rand.randbytes(8 if kind == 1 else 4)


def optional_fields() -> list[FieldDescriptor]:
    """The fields of a plain type that tell whether they are set."""
    return [
        field
        for item in TYPES.values()
        for field in item.fields
        if field.containing_oneof is not None and field.containing_oneof.name == f"_{field.name}"
    ]


@pytest.mark.parametrize("field", optional_fields(), ids=lambda field: field.full_name)
def test_an_optional_field_that_is_0_is_kept(codec: Codec, field: FieldDescriptor):
    message = new(field.containing_type.full_name)
    check(codec, message, message.SerializeToString())
    setattr(message, field.name, field.default_value)
    assert message.HasField(field.name)
    check(codec, message, message.SerializeToString())


@pytest.mark.parametrize("name", sorted(TYPES))
def test_unknown_fields_are_skipped(codec: Codec, name: str):
    for seed in range(MESSAGES):
        rand = random.Random(f"{name} {seed}")
        message = fill(rand, new(name))
        check(codec, message, unknown_field(rand) + message.SerializeToString() + unknown_field(rand))


@pytest.mark.parametrize("name", sorted(TYPES))
def test_parts_of_a_message_are_merged(codec: Codec, name: str):
    for seed in range(MESSAGES):
        rand = random.Random(f"{name} {seed}")
        data = b"".join(fill(rand, new(name)).SerializeToString() for _ in range(2))
        expected = parsed(name, data)
        assert expected is not None
        check(codec, expected, data)


def cut(rand: random.Random, data: bytes) -> bytes:
    return data[: rand.randrange(len(data))]


def flip(rand: random.Random, data: bytes) -> bytes:
    position = rand.randrange(len(data))
    return data[:position] + bytes([data[position] ^ 1 << rand.randrange(8)]) + data[position + 1 :]


def insert(rand: random.Random, data: bytes) -> bytes:
    position = rand.randrange(len(data))
    return data[:position] + rand.randbytes(rand.randrange(1, 4)) + data[position:]


@pytest.mark.parametrize("damage", [cut, flip, insert], ids=lambda damage: damage.__name__)
def test_damaged_messages(codec: Codec, damage: Callable[[random.Random, bytes], bytes]):
    decoded = refused = 0
    for name in sorted(TYPES):
        for seed in range(MESSAGES):
            rand = random.Random(f"{name} {seed} {damage.__name__}")
            # Python's protobuf drops an entry of a map that has unknown fields, which others keep.
            if data := fill(rand, new(name), with_maps=False).SerializeToString():
                if check_like_python(codec, name, damage(rand, data)):
                    decoded += 1
                else:
                    refused += 1
    # Both happen often, or the test says little.
    assert decoded > 20 and refused > 20


JOB, LIST = "signalbox.v1.Job", "signalbox.v1.JobFilter"


@pytest.mark.parametrize(
    ("name", "data", "is_valid"),
    [
        pytest.param(LIST, b"\x20\x01\x20\x02", True, id="a list that is not packed"),
        pytest.param(LIST, b"\x22\x02\x01\x02", True, id="a list that is packed"),
        pytest.param(LIST, b"\x22\x02\x01\x80", False, id="a packed list that ends within a number"),
        pytest.param(JOB, b"\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", True, id="a number of ten bytes"),
        pytest.param(JOB, b"\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", False, id="a number of eleven bytes"),
        pytest.param(JOB, b"\x28\x80\x00", True, id="a number with a byte too many"),
        pytest.param(JOB, b"\x29" + 8 * b"\x01", True, id="a number of another wire type"),
        pytest.param(JOB, b"\x00\x01", False, id="field number 0"),
        pytest.param(JOB, b"\x0c", False, id="the end of a group that has no beginning"),
        pytest.param(JOB, b"\x0b\x14", False, id="a group that ends with another number"),
        pytest.param(JOB, b"\x0e\x01", False, id="an unknown wire type"),
        pytest.param(JOB, b"\x0a\x02\xc3\x28", False, id="text that is not UTF-8"),
        pytest.param(JOB, b"\x0a\x03\xed\xa0\x80", False, id="half of a surrogate pair"),
        pytest.param(JOB, b"\x0a\xff\xff\xff\xff\x0f", False, id="a length of 4 GiB"),
        pytest.param(JOB, b"\x72\x00", True, id="an empty entry of a map"),
        pytest.param(JOB, b"\x72\x06\x12\x01v\x0a\x01k", True, id="an entry with its value first"),
        pytest.param(JOB, 90 * b"\xcb\x3e" + 90 * b"\xcc\x3e", True, id="nested groups"),
        pytest.param(JOB, 101 * b"\xcb\x3e" + 101 * b"\xcc\x3e", False, id="groups that are nested too deep"),
    ],
)
def test_edges_of_the_encoding(codec: Codec, name: str, data: bytes, is_valid: bool):
    assert check_like_python(codec, name, data) == is_valid
