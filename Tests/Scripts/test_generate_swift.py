"""scripts/lib/generate_swift writes the Swift of a proto, and refuses what it cannot write safely."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

sys.path.append(str(Path(__file__).resolve().parent.parent.parent / "scripts"))

from lib import generate_swift  # noqa: E402

PROTO = """\
syntax = "proto3";
package {package};
// A service.
service Things {{
  // Adds one.
  rpc AddThing(AddThingRequest) returns (AddThingResponse);
}}
// Asks for it.
message AddThingRequest {{
{request}
}}
// Answers it.
message AddThingResponse {{
{response}
}}
{more}
"""
PARTS = (
    "names",
    "types",
    "closed",
    "properties",
    "by_hand",
    "not_hashable",
    "fill_arguments",
    "required",
    "job_ids",
    "bytes_max",
    "count",
    "count_read",
)


@pytest.fixture
def generated(tmp_path: Path):
    """Generates from a proto with these fields, and the table's entries."""

    def generate(
        request: str = "", response: str = "", more: str = "", package: str = "test.v1", **table: str
    ) -> dict[str, str]:
        (tmp_path / "things.proto").write_text(
            PROTO.format(request=request, response=response, more=more, package=package)
        )
        path = tmp_path / "set.bin"
        subprocess.run(
            [
                sys.executable,
                "-m",
                "grpc_tools.protoc",
                f"-I{tmp_path}",
                f"--descriptor_set_out={path}",
                "--include_source_info",
                "things.proto",
            ],
            check=True,
        )
        files = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file
        (tmp_path / "swift.toml").write_text("".join(f"[{part}]\n{table.get(part, '')}\n" for part in PARTS))
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        generate_swift.write(tmp_path / "out", list(files), tmp_path / "swift.toml")
        return {file.name: file.read_text() for file in (tmp_path / "out").iterdir()}

    return generate


def test_each_method_has_its_path(generated):
    text = generated()["Methods.swift"]
    assert '    /// Adds one.\n    package static let addThing = "/test.v1.Things/AddThing"\n' in text
    assert "    ThingsMethod.addThing,\n" in text


def test_fields_become_properties_with_their_comments(generated):
    text = generated("  // Whose.\n  string user_id = 1;\n  uint32 size = 2;", bytes_max='user_id = "9"')[
        "ThingsMessages.swift"
    ]
    assert "    /// Whose.\n    package var userID: ExactText\n" in text
    assert "package struct AddThingRequest: RequestMessage, Hashable {" in text
    assert 'userID: reader.text(message.user_id, "user_id", bytesMax: 9),' in text
    assert "size: Int(message.size))" in text
    assert "unsafe message.size = UInt32(clamping: size)" in text


def test_a_message_in_a_message_is_read_with_its_path(generated):
    text = generated(response="  repeated Thing things = 1;", more="message Thing { string name = 1; }")[
        "ThingsMessages.swift"
    ]
    assert 'unsafe reader.thing($1, "things[\\($0)]")' in text
    assert 'name: answer(message.name, "\\(field()).name"))' in text


def test_a_oneof_becomes_an_enum(generated):
    text = generated(
        "  oneof what {\n    // One.\n    bool one = 1;\n    Thing thing = 2;\n  }",
        more="message Thing { bool good = 1; }",
    )["ThingsMessages.swift"]
    assert "        /// One.\n        case one(Bool)\n        case thing(Thing)\n" in text
    assert "package var what: What?\n" in text
    assert "case TEST__V1__ADD_THING_REQUEST__WHAT_ONE:\n" in text
    assert "unsafe what = .one(message.one != 0)\n" in text


@pytest.mark.parametrize("direction", ["request", "response"])
def test_an_optional_number_is_nil_if_it_is_not_set(generated, direction):
    text = generated(**{direction: "  optional int32 share = 1;"})["ThingsMessages.swift"]
    assert "package var share: Int?\n" in text
    # Without the breaks of long lines.
    words = "".join(text.split())
    case = f"TEST__V1__ADD_THING_{direction.upper()}___SHARE_SHARE"
    assert f"share:message._share_case=={case}?Int(message.share):nil" in words
    assert f"ifletpart=share{{unsafemessage._share_case={case}unsafemessage.share=Int32(clamping:part)}}" in words


def test_requests_of_this_service_alone_refuse_unknown_fields(generated):
    exception = "package static var refusesUnknownFields: Bool { false }"
    assert generated("  bool a = 1;")["ThingsMessages.swift"].count(exception) == 1
    own = generated("  bool a = 1;", package="signalbox.v1")["ThingsMessages.swift"]
    assert "struct AddThingRequest: RequestMessage" in own and exception not in own


def test_a_message_in_both_directions_has_the_limits_of_requests(generated):
    text = generated(
        "  Thing thing = 1;",
        "  Thing thing = 1;",
        "message Thing { string name = 1; }",
        bytes_max='name = "9"',
    )["ThingsMessages.swift"]
    assert text.count("mutating func thing(") == 1
    assert 'text(message.name, "\\(field()).name", bytesMax: 9)' in text


SIZE = """
enum Size {
  SIZE_UNSPECIFIED = 0;
  SIZE_LARGE = 1;
}
"""


def test_an_unknown_value_of_a_closed_enum_is_refused(generated):
    text = generated(response="  Size size = 1;", more=SIZE, closed="Size = true")["ThingsMessages.swift"]
    assert 'size: reader.known(message.size, "size")' in text and "package var size: Size\n" in text


def test_an_unknown_value_of_an_open_enum_is_nil(generated):
    text = generated(response="  Size size = 1;", more=SIZE)["ThingsMessages.swift"]
    assert "size: reader.open(message.size)" in text and "package var size: Size?\n" in text
    assert "default: return nil" in text and "unspecified" not in text.lower()


def test_the_fields_that_are_bytes_are_listed(generated):
    more = "message Thing { string name = 1; bytes data = 2; }"
    text = generated(response="  Thing thing = 1;\n  repeated bytes parts = 2;", more=more)["BytesFields.swift"]
    assert '"test.v1.AddThingResponse.parts"' in text and '"test.v1.Thing.data"' in text
    assert ".name" not in text


@pytest.mark.parametrize(
    ("fields", "more", "table", "error"),
    [
        ({"request": "  string name = 1;"}, "", {}, "a text of a request needs a limit"),
        (
            {"request": "  repeated Thing things = 1;"},
            "message Thing { bool good = 1; }",
            {},
            "a list in a request needs a limit",
        ),
        ({"request": "  optional bytes a = 1;"}, "", {}, "an optional field of this type is not generated"),
        ({"request": "  repeated string names = 1;"}, "", {}, "a list of texts in a request needs limits"),
        ({"request": "  repeated int32 numbers = 1;"}, "", {}, "a list of this type is not generated"),
        ({"request": "  Size size = 1;"}, "enum Size { SMALL = 0; }", {}, "needs a value UNSPECIFIED"),
        ({"request": "  repeated Size sizes = 1;"}, "enum Size { SMALL = 0; }", {}, "needs a value UNSPECIFIED"),
        ({"request": "  bool a = 1;"}, "", {"bytes_max": 'name = "1"'}, "[bytes_max] name is used by nothing"),
        (
            {"request": "  bool a = 1;"},
            "",
            {"names": 'AddThingResponse = "Same"\nAddThingRequest = "Same"'},
            "are both Same, and have other fields",
        ),
    ],
)
def test_what_it_refuses(generated, fields, more, table, error):
    with pytest.raises(SystemExit) as failure:
        generated(**fields, more=more, **table)
    assert error in str(failure.value)
