"""The baseline of the API finds each kind of change that breaks callers, and lets the API grow."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from subprocess import CalledProcessError

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.append(str(ROOT / "scripts"))

from lib import api_baseline  # noqa: E402

PROTO = """\
syntax = "proto3";
package test.v1;
option go_package = "test.example/v1;testv1";
option objc_class_prefix = "TST";
// A service.
service Things {
  // Returns one.
  rpc GetThing(GetThingRequest) returns (GetThingResponse) {
    option idempotency_level = NO_SIDE_EFFECTS;
  }
  // Streams all.
  rpc WatchThings(GetThingRequest) returns (stream GetThingResponse);
}
// Asks for it.
message GetThingRequest {
  // Its name.
  string name = 1;
  // Its size.
  int32 size = 2;
}
// Answers it.
message GetThingResponse {
  // Its state.
  State state = 1;
}
// A state.
enum State {
  // Not set.
  STATE_UNSPECIFIED = 0;
  // New.
  STATE_NEW = 1;
}
"""


def write_protos(folder: Path) -> Path:
    """A folder with PROTO and the rules of the real API."""
    (folder / "test/v1").mkdir(parents=True)
    shutil.copyfile(ROOT / "proto/buf.yaml", folder / "buf.yaml")
    (folder / "test/v1/things.proto").write_text(PROTO)
    return folder


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    return api_baseline.image(write_protos(tmp_path_factory.mktemp("baseline") / "proto"))


@pytest.fixture
def protos(tmp_path: Path) -> Path:
    return write_protos(tmp_path / "proto")


@pytest.fixture
def baseline(image: str, tmp_path: Path) -> Path:
    path = tmp_path / "baseline.txtpb"
    path.write_text(image)
    return path


def change(protos: Path, old: str, new: str) -> None:
    path = protos / "test/v1/things.proto"
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("  int32 size = 2;\n", "", 'field "2" with name "size" on message "GetThingRequest" was deleted'),
        ("int32 size", "int32 length", 'from "size" to "length"'),
        ("size = 2", "size = 3", 'field "2" with name "size" on message "GetThingRequest" was deleted'),
        ("int32 size", "sint32 size", 'from "int32" to "sint32"'),
        ("int32 size", "uint32 size", 'from "int32" to "uint32"'),
        ("int32 size", "optional int32 size", "cardinality"),
        ("  STATE_NEW = 1;\n", "", 'enum value "1" on enum "State" was deleted'),
        ("rpc GetThing(", "rpc GetTheThing(", 'RPC "GetThing" on service "Things" was deleted'),
        ("stream ", "", "streaming"),
        ("NO_SIDE_EFFECTS", "IDEMPOTENT", '"idempotency_level"'),
        ("    option idempotency_level = NO_SIDE_EFFECTS;\n", "", '"idempotency_level"'),
        ("service Things", "service AllThings", 'service "Things" was deleted'),
        ('option objc_class_prefix = "TST";\n', "", '"objc_class_prefix"'),
        ("test.example", "example.test", '"go_package"'),
    ],
)
def test_a_change_that_breaks_callers_is_found(protos, baseline, old, new, found):
    change(protos, old, new)
    assert found in api_baseline.violations(protos, baseline)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("size = 2;", "size = 2;\n  string colour = 3;"),
        ("STATE_NEW = 1;", "STATE_NEW = 1;\n  STATE_OLD = 2;"),
        ("  // Streams all.", "  rpc More(GetThingRequest) returns (GetThingResponse);\n  // Streams all."),
        ("enum State {", "message More {}\nenum State {"),
        ("// A state.", "// The state of a thing."),
    ],
)
def test_the_api_may_grow(protos, baseline, old, new):
    change(protos, old, new)
    assert api_baseline.violations(protos, baseline) == ""


def test_an_addition_is_part_of_the_next_baseline(protos, baseline):
    change(protos, "size = 2;", "size = 2;\n  string colour = 3;")
    assert (grown := api_baseline.image(protos)) != baseline.read_text()
    baseline.write_text(grown)
    change(protos, "\n  string colour = 3;", "")
    assert '"colour"' in api_baseline.violations(protos, baseline)


def test_a_comment_is_no_part_of_the_baseline(protos, baseline):
    change(protos, "// A state.", "// The state of a thing.")
    assert api_baseline.image(protos) == baseline.read_text()


def test_a_comment_makes_no_exception_from_the_rules(protos):
    ignored = "  // buf:lint:ignore FIELD_LOWER_SNAKE_CASE\n  // Its size.\n  int32 Size"
    change(protos, "  // Its size.\n  int32 size", ignored)
    done = subprocess.run([api_baseline.BUF, "lint", protos], capture_output=True, text=True, timeout=120)
    assert 'Field name "Size" should be lower_snake_case' in done.stdout


def test_a_proto_that_cannot_be_read_is_refused(protos, baseline):
    change(protos, "enum State {", "enum {")
    assert "things.proto:" in api_baseline.violations(protos, baseline)


def test_a_baseline_that_is_missing_is_an_error(protos, baseline):
    baseline.unlink()
    with pytest.raises(CalledProcessError):
        api_baseline.violations(protos, baseline)


def test_generate_refuses_a_change_that_breaks_the_real_baseline(monkeypatch, tmp_path, capsys):
    loader = SourceFileLoader("generate", str(ROOT / "scripts/generate"))
    script = module_from_spec(spec_from_loader("generate", loader))
    loader.exec_module(script)
    script.refuse_breaking_changes()
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    (tmp_path / "proto/signalbox/v1/admin_service.proto").unlink()
    monkeypatch.setattr(script, "PROTO", tmp_path / "proto")
    with pytest.raises(SystemExit, match="scripts/generate --breaking"):
        script.refuse_breaking_changes()
    assert "signalbox/v1/admin_service.proto" in capsys.readouterr().err
