"""scripts/check-architecture finds a violation of each of its rules, and nothing where there is none."""

from __future__ import annotations

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent.parent / "scripts/check-architecture"


@pytest.fixture(scope="module")
def script():
    loader = SourceFileLoader("check_architecture", str(SCRIPT))
    module = module_from_spec(spec_from_loader("check_architecture", loader))
    loader.exec_module(module)
    return module


#: Of a declaration that nobody uses, as are most of those that are made up here for the other rules.
DEAD = "is used nowhere in Sources"


def check(script, folder: Path, files: dict[str, str], targets: dict[str, list[str]]) -> list[str]:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    manifest = {
        "targets": [
            {
                "name": name,
                "type": "test" if name.endswith("Tests") else "regular",
                "dependencies": [
                    {"product": [item, "package", None, None]} if item.startswith("NIO") else {"byName": [item, None]}
                    for item in needed
                ],
            }
            for name, needed in targets.items()
        ]
    }
    return script.check(folder, manifest)


def violations(script, folder: Path, files: dict[str, str], targets: dict[str, list[str]]) -> list[str]:
    return [found for found in check(script, folder, files, targets) if DEAD not in found]


CORE = "Sources/JobModel/A.swift"
ENGINE = "Sources/JobEngine/A.swift"
TEST = "Tests/JobModelTests/A.swift"
PYTHON_TEST = "Tests/EndToEnd/test_a.py"
#: By itself: this file is among the tests in which sleeps are looked for.
SLEEP = "sleep"


@pytest.mark.parametrize(
    ("files", "targets", "expected"),
    [
        ({}, {"JobModel": ["Postgres"]}, "JobModel may not depend on Postgres"),
        ({}, {"GRPC": ["SignalboxProto"]}, "GRPC may not depend on SignalboxProto"),
        ({}, {"JobWatch": ["NIOCore"]}, "JobWatch may not depend on NIOCore"),
        ({}, {"Signalbox": ["InteropServer"]}, "Signalbox may not depend on InteropServer"),
        ({CORE: "import InteropServer\n"}, {}, "JobModel may not import InteropServer"),
        ({}, {"Novelty": []}, "target Novelty is not in the table"),
        ({"Sources/Novelty/A.swift": ""}, {}, "Sources/Novelty: not in the table"),
        ({CORE: "import Postgres\n"}, {}, "A.swift:1: JobModel may not import Postgres"),
        ({CORE: "package import struct JobStore.Ending\n"}, {}, "JobModel may not import JobStore"),
        ({CORE: "@preconcurrency internal import CPQ\n"}, {}, "JobModel may not import CPQ"),
        ({CORE: "import Foundation\n"}, {}, "JobModel may not import Foundation"),
        (
            {"Sources/JobStore/A.swift": "let a = Mutex<(@Sendable (Int) -> Void)?>(nil)\n"},
            {},
            "A.swift:1: a Mutex of a function",
        ),
        ({"Sources/JobStore/A.swift": "let a = try row.int64(17)\n"}, {}, "A.swift:1: a column that is read by its index"),
        ({"Sources/JobStore/A.swift": 'a(try row.word(3, "b"))\n'}, {}, "a column that is read by its index"),
        ({"Sources/JobStore/A.swift": "b = try a.onlyRow.bool(0)\n"}, {}, "a column that is read by its index"),
        ({"Sources/JobStore/A.swift": "b = row[Column<Int64?>(index: 2)]\n"}, {}, "a column that is read by its index"),
        ({"Sources/JobStore/A.swift": "b: Int = row[Column(index: 2)]\n"}, {}, "a column that is read by its index"),
        ({"Sources/JobStore/A.swift": "internal import CPQ\n"}, {}, "JobStore may not import CPQ"),
        ({"Sources/GRPC/A.swift": "import CNGHTTP2\n"}, {}, "GRPC may not import CNGHTTP2"),
        ({"Sources/SignalboxAPI/A.swift": "import CProtobufC\n"}, {}, "SignalboxAPI may not import CProtobufC"),
        ({"Sources/SignalboxAPI/A.swift": "import CSignalboxProto\n"}, {}, "SignalboxAPI may not import CSignalboxProto"),
        ({"Sources/SignalboxAPI/A.swift": "import JobStore\n"}, {}, "SignalboxAPI may not import JobStore"),
        ({"Sources/SignalboxAPI/A.swift": "import JobWatch\n"}, {}, "SignalboxAPI may not import JobWatch"),
        ({"Sources/JobService/A.swift": "import GRPC\n"}, {}, "JobService may not import GRPC"),
        ({"Sources/JobService/A.swift": "import NIOCore\n"}, {}, "JobService may not import NIOCore"),
        ({"Sources/JobService/A.swift": "import SignalboxProto\n"}, {}, "JobService may not import SignalboxProto"),
        ({"Sources/JobService/A.swift": 'let a = b.hasPrefix("c")\n'}, {}, "puts it into normal form"),
        ({"Sources/Postgres/A.swift": "/// Rows of a job.\n"}, {}, "the word 'job' in Postgres"),
        ({"Sources/Postgres/A.swift": "let jobCount = 1\n"}, {}, "the word 'job' in Postgres"),
        ({"Sources/Postgres/A.swift": "struct OldJobs {}\n"}, {}, "the word 'job' in Postgres"),
        ({CORE: 'let q = "SELECT number FROM live"\n'}, {}, "SQL outside"),
        ({"Sources/SignalboxAPI/A.swift": 'let q = """\n    INSERT INTO live\n    """\n'}, {}, "A.swift:2: SQL"),
        ({CORE: "var a: [String: Int] = [:]\n"}, {}, "A.swift:1: a table of Strings"),
        ({"Sources/GRPC/A.swift": "let a = Set<String>()\n"}, {}, "a table of Strings"),
        ({"Sources/SignalboxAPI/A.swift": "let a = b.lowercased()\n"}, {}, "puts it into normal form"),
        ({"Sources/SignalboxAPI/A.swift": 'let a = b.hasPrefix("c")\n'}, {}, "puts it into normal form"),
        ({"Sources/JobEngine/A.swift": 'if a == "b" {}\n'}, {}, "a comparison with a literal"),
        ({"Sources/JobEngine/A.swift": 'if a.contains("b") {}\n'}, {}, "a comparison with a literal"),
        ({CORE: 'switch a {\ncase "b": c()\n}\n'}, {}, "A.swift:2: a comparison with a literal"),
        # A comment that says nothing is no reason, and one of another switch does not count.
        ({CORE: 'if a == "b" {}  // exact:\n'}, {}, "a comparison with a literal"),
        ({CORE: 'switch a {  // exact: ours\n}\nswitch a {\ncase "b": c()\n}\n'}, {}, "A.swift:4: a comparison"),
        ({ENGINE: "let a = ContinuousClock.now\n"}, {}, "A.swift:1: a clock"),
        ({ENGINE: "f(now: .now)\n"}, {}, "a clock"),
        ({ENGINE: "let a = NIODeadline.now()\n"}, {}, "a clock"),
        ({ENGINE: "let a = Date()\n"}, {}, "a clock"),
        ({ENGINE: f"try await Task.{SLEEP}(for: wait)\n"}, {}, "a sleep"),
        ({ENGINE: "let a = Int.random(in: 0...1)\n"}, {}, "a random number"),
        ({ENGINE: "let a = UUID()\n"}, {}, "a random number"),
        ({ENGINE: "wait = backoff.next()\n"}, {}, "a random number"),
        ({ENGINE: "Task { await a() }\n"}, {}, "a task"),
        ({ENGINE: "Task.detached(priority: .low) { await a() }\n"}, {}, "a task"),
        ({ENGINE: "// real time:\nlet a = Date()\n"}, {}, "A.swift:2: a clock"),
        ({CORE: "\nfatalError()\n"}, {}, "A.swift:2: fatalError("),
        ({CORE: "let a = try! b()\n"}, {}, "try!"),
        ({CORE: "final class A: @unchecked Sendable {}\n"}, {}, "@unchecked Sendable"),
        ({CORE: "nonisolated(unsafe) var a = 1\n"}, {}, "nonisolated(unsafe)"),
        ({TEST: "let a = try! b()\n"}, {}, "try!"),
        ({TEST: f"Thread.{SLEEP}(forTimeInterval: 1)\n"}, {}, "a sleep in a test"),
        ({TEST: f"try await Task.{SLEEP}(for: .seconds(1))\n"}, {}, "a sleep in a test"),
        ({TEST: f"u{SLEEP}(10)\n"}, {}, "a sleep in a test"),
        ({TEST: f"// It is short.\nu{SLEEP}(10)\n"}, {}, "a sleep in a test"),
        ({TEST: f"nano{SLEEP}(&time, nil)\n"}, {}, "a sleep in a test"),
        ({TEST: f"clock_nano{SLEEP}(CLOCK_MONOTONIC, 0, &time, nil)\n"}, {}, "a sleep in a test"),
        ({PYTHON_TEST: f"import time\ntime.{SLEEP}(1)\n"}, {}, "test_a.py:2: a sleep in a test"),
        ({PYTHON_TEST: f"await {SLEEP}(1)  # A while.\n"}, {}, "a sleep in a test"),
    ],
)
def test_a_violation_is_found(script, tmp_path, files, targets, expected):
    found = violations(script, tmp_path, files, targets)
    assert len(found) == 1 and expected in found[0], found


@pytest.mark.parametrize(
    ("files", "targets"),
    [
        ({}, {"JobWatch": ["DequeModule"], "GRPC": ["HTTP2", "NIOCore"], "JobModelTests": ["Anything"]}),
        ({CORE: "package import FoundationEssentials\nimport Synchronization\n"}, {}),
        ({CORE: "// import Postgres, one day: SELECT it, and then fatalError(\n"}, {}),
        ({CORE: "// Cannot fail: the text is ours.\nlet a = try! b()\n"}, {}),
        ({CORE: "fatalError()  // Nothing else is left to do.\n"}, {}),
        ({CORE: "struct Selection { let selected = \"select one\" }\n"}, {}),
        ({"Sources/JobStore/A.swift": 'let q = "SELECT 1"\n'}, {}),
        ({"Sources/JobStore/A.swift": "a = try row[number]\nb = try row[result.column(\"b\")]\n"}, {}),
        ({ENGINE: f"runtime.start {{ try await runtime.{SLEEP}(for: a); b(context.runtime.now(), runtime.random()) }}\n"}, {}),
        ({ENGINE: "var task: Task<Void, Never>?  // Not Task { }, nor .now\n"}, {}),
        ({ENGINE: "// real time: a process of the system.\nlet a = ContinuousClock.now\n"}, {}),
        ({CORE: "let a = ContinuousClock.now\nTask { a() }\n"}, {}),
        ({"Sources/Postgres/A.swift": "// Jobless, jobber: other words.\nimport CPQ\n"}, {}),
        # Not of these modules, or with a reason on the line, the one above, the switch, or for the file.
        ({"Sources/Settings/A.swift": 'var a: [String: Int]; if a == "b" {}\n'}, {}),
        ({CORE: 'if a == "b" {}  // exact: an ExactText\n// exact: ours\nvar a: [String: Int]\n'}, {}),
        ({CORE: 'switch a {  // exact: an ExactText\ncase "b": c()\ncase "d": e()\n}\n'}, {}),
        ({CORE: "// exact in this file: kinds are ASCII.\nvar a: [String: Int]\nvar b: Set<String>\n"}, {}),
        ({CORE: "var a: [ExactText: String]\nlet b: Set<ExactText>\n"}, {}),
        ({TEST: "@testable import JobModel\nlet q = \"SELECT pg_sleep(60)\"\n"}, {}),
        ({PYTHON_TEST: f"query('SELECT pg_{SLEEP}(60)')  # No {SLEEP}(60) here.\n"}, {}),
    ],
)
def test_what_is_allowed_is_not_found(script, tmp_path, files, targets):
    assert violations(script, tmp_path, files, targets) == []


OTHER = "Sources/JobStore/B.swift"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({CORE: "package func lost() {}\n"}, "A.swift:1: lost"),
        ({CORE: "struct Kept {\n    package static var lost: Int { 1 }\n}\n", OTHER: "Kept()\n"}, "A.swift:2: lost"),
        ({CORE: "private let lost = 1\n"}, "A.swift:1: lost"),
        ({CORE: "package final class Lost {}\n"}, "A.swift:1: Lost"),
        ({CORE: "class Kept { class func lost() {} }\n", OTHER: "Kept()\n"}, "A.swift:1: lost"),
        ({CORE: "typealias Lost = Int\n"}, "A.swift:1: Lost"),
        ({CORE: "enum Kept {\n    case kept(Int, of: Int), lost\n}\n", OTHER: "Kept.kept\n"}, "A.swift:2: lost"),
        ({CORE: 'enum Kept: String {\n    case lost = "a: b"\n}\n', OTHER: "Kept\n"}, "A.swift:2: lost"),
        # A test, a comment, and another declaration of the name are no use of it.
        ({CORE: "func lost() {}\n", TEST: "lost()\n"}, "A.swift:1: lost"),
        ({CORE: "/// Calls lost.\nfunc lost() {}  // lost\n/* lost */\n"}, "A.swift:2: lost"),
        # A comment that names nobody, or that is about something else.
        ({CORE: "func lost() {}  // used by\n"}, "A.swift:1: lost"),
        ({CORE: "// used by tests\nfunc kept() {}\nfunc lost() {}\n"}, "A.swift:3: lost"),
    ],
)
def test_a_dead_declaration_is_found(script, tmp_path, files, expected):
    found = check(script, tmp_path, files, {})
    assert len(found) == 1 and expected in found[0] and DEAD in found[0], found


def test_each_of_two_dead_declarations_of_a_name_is_found(script, tmp_path):
    found = check(script, tmp_path, {CORE: "func lost() {}\n", OTHER: "func lost(_ a: Int) {}\n"}, {})
    assert len(found) == 2 and all(DEAD in line for line in found), found


@pytest.mark.parametrize(
    "files",
    [
        {CORE: "package func kept() {}\n", OTHER: "kept()\n"},
        # Within a text, and behind one that looks like a comment.
        {CORE: "let kept = 1\n", OTHER: '"\\(kept)"\n'},
        {CORE: "let kept = 1\n", OTHER: 'f("http://a", kept)\n'},
        {CORE: 'f("""\n    let lost = 1\n    """, #"func lost() "{}"#)\n'},
        # For other packages, for libraries, or for whom a comment names.
        {CORE: "public func kept() {}\n"},
        {CORE: "@main\nstruct Kept {}\n@main struct AlsoKept {}\n"},
        {CORE: "func channelRead(context: Int) {}\n"},
        {CORE: "func kept() {}  // used by the tests of conformance\n"},
        {CORE: "/// Sent first.\n// used by Tests/InteropServer\n@discardableResult\nfunc kept() {}\n"},
        # Branches of a switch declare nothing.
        {CORE: "switch a {\ncase b, c: d()\ncase is E: f()\n}\n"},
        {CORE: "let _ = 1\n"},
    ],
)
def test_what_is_used_is_not_dead(script, tmp_path, files):
    assert check(script, tmp_path, files, {}) == []


def test_the_client_library_links_no_parser_of_files_or_arguments(script):
    reached: set[str] = set()
    left = ["SignalboxClient"]
    while left:
        target = left.pop()
        if target not in reached:
            reached.add(target)
            left += script.ARROWS.get(target, "").split()
    assert {"GRPC", "HTTP2"} <= reached
    assert not reached & {"ArgumentParser", "Settings", "Yams"}
