"""scripts/lib/generate_typescript writes the TypeScript of a proto, and refuses what the codec does not know."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

sys.path.append(str(Path(__file__).resolve().parent.parent.parent / "scripts"))

from lib import generate_typescript  # noqa: E402

PROTO = """\
syntax = "proto3";
package {package};
import "other/part.proto";
service Things {{
  // Adds */ one.
  rpc AddThing(Thing) returns ({stream}Thing);
}}
// A thing.
message Thing {{
{fields}
  // Its kind.
  enum Kind {{ KIND_UNSPECIFIED = 0; KIND_LARGE = 1; }}
  message Piece {{}}
}}
"""
PART = 'syntax = "proto3"; package test.other; message Part {}'


@pytest.fixture
def generated(tmp_path: Path):
    def generate(fields: str = "", stream: str = "", package: str = "test.v1") -> str:
        """The module of a proto that has a message with these fields."""
        (tmp_path / "test").mkdir()
        (tmp_path / "other").mkdir()
        (tmp_path / "test/thing.proto").write_text(PROTO.format(fields=fields, stream=stream, package=package))
        (tmp_path / "other/part.proto").write_text(PART)
        path = tmp_path / "set.bin"
        options = ["--include_imports", "--include_source_info", f"--descriptor_set_out={path}"]
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{tmp_path}", *options, "test/thing.proto"]
        subprocess.run(command, check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file
        generate_typescript.write(tmp_path / "out", files)
        return (tmp_path / "out/test/thing.ts").read_text()

    return generate


@pytest.mark.parametrize(
    ("field", "property", "row"),
    [
        ("int64 big_number = 1;", "bigNumber: bigint;", '{ number: 1, name: "bigNumber", type: "int64" }'),
        ("bytes data = 2;", "data: Uint8Array;", '{ number: 2, name: "data", type: "bytes" }'),
        (
            "optional double share = 3;",
            "share?: number | undefined;",
            '{ number: 3, name: "share", type: "double", rule: "optional" }',
        ),
        (
            "repeated Kind kinds = 4;",
            "kinds: ThingKind[];",
            '{ number: 4, name: "kinds", type: "enum", rule: "list" }',
        ),
        (
            "map<string, string> labels = 5;",
            "labels: Map<string, string>;",
            '{ number: 5, name: "labels", type: "string", rule: "map" }',
        ),
        ("Piece piece = 6;", "piece?: ThingPiece | undefined;", '{ number: 6, name: "piece", type: ThingPiece }'),
        (
            "oneof due { Piece a_piece = 7; string word = 8; }",
            'due?:\n    | { case: "aPiece"; value: ThingPiece }\n'
            '    | { case: "word"; value: string }\n    | undefined;',
            '{ number: 8, name: "word", type: "string", oneof: "due" }',
        ),
    ],
)
def test_a_field(generated, field: str, property: str, row: str):
    text = generated(field)
    assert f"  {property}\n" in text
    assert f"  {row},\n" in text


def test_rows_are_in_the_order_of_their_numbers(generated):
    text = generated("bool later = 9; bool sooner = 2;")
    assert text.index('name: "sooner"') < text.index('name: "later"')


def test_a_type_of_another_file_is_imported(generated):
    text = generated("test.other.Part part = 1;")
    assert 'import { Part } from "../other/part.js";' in text
    assert 'import { MessageType } from "../../protobuf/message.js";' in text


def test_comments_stay_comments(generated):
    text = generated()
    assert "/** A thing. */\nexport interface Thing {" in text
    assert "  /** Adds *\\/ one. */\n" in text


def test_comments_of_upstream_are_left_out(generated):
    text = generated(package="google.rpc")
    assert "export interface Thing {" in text
    assert "A thing." not in text and "one." not in text and "Its kind." not in text


def test_methods(generated):
    assert '  addThing: new UnaryMethod("/test.v1.Things/AddThing", Thing, Thing),\n' in generated()


def test_a_stream(generated):
    assert '  addThing: new StreamMethod("/test.v1.Things/AddThing", Thing, Thing),\n' in generated(stream="stream ")


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("fixed32 number = 1;", "number has a type that is not generated"),
        ("map<int32, string> names = 1;", "names is a map whose keys are not texts"),
    ],
)
def test_what_the_codec_does_not_know_is_refused(generated, field: str, message: str):
    with pytest.raises(SystemExit, match=message):
        generated(field)
