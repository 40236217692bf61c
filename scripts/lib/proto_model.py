"""The messages and enums of the protos, with the names of proto/swift.toml, for scripts/lib/generate_swift."""

from __future__ import annotations

import re
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

# The numbers of types in google/protobuf/descriptor.proto.
DOUBLE, INT64, UINT64, INT32, BOOL = 1, 3, 4, 5, 8
STRING, MESSAGE, BYTES, UINT32, ENUM, SINT32 = 9, 11, 12, 13, 14, 17


def fail(message: str) -> None:
    sys.exit(f"scripts/generate: {message}")


def lower_camel(name: str) -> str:
    """EnqueueBatch and enqueue_batch become enqueueBatch; user_id becomes userID."""
    first, *rest = name.split("_") if "_" in name or not name[0].isupper() else [name[0].lower() + name[1:]]
    ids = {"id": "ID", "ids": "IDs"}
    return first + "".join(ids.get(part, part.title()) for part in rest)


def snake(name: str) -> str:
    """protoc-c's way: GetJobRequest becomes get_job_request."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


class Comments:
    """The comments of a file, by the path that descriptor.proto gives each declaration."""

    def __init__(self, file, *, is_kept: bool = True) -> None:
        locations = file.source_code_info.location if is_kept else []
        self.by_path = {tuple(item.path): item.leading_comments for item in locations}

    def text(self, path: tuple[int, ...]) -> str:
        """The first paragraph of the comment, on one line."""
        return " ".join(self.by_path.get(path, "").split("\n\n")[0].split())


class Table:
    """proto/swift.toml. It notices which entries were used: one that was not names nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.parts = tomllib.loads(path.read_text())
        self.used: set[tuple[str, str]] = set()

    def find(self, part: str, *keys: str):
        for key in keys:
            if key in self.parts[part]:
                self.used.add((part, key))
                return self.parts[part][key]
        return None

    def check(self) -> None:
        for part, entries in self.parts.items():
            for key in entries:
                if (part, key) not in self.used:
                    fail(f"{self.path.name}: [{part}] {key} is used by nothing that is generated")


@dataclass
class Enum:
    full: str
    name: str
    """In Swift."""
    c_type: str
    cases: list[tuple[str, str, str]]
    """Name in Swift, name in C, comment. The unspecified value is not among them."""
    is_open: bool
    """Values may be added: an unknown one in a response is read as nil. Otherwise it is refused."""
    has_unspecified: bool
    """The zero value means that there is none."""
    is_of_domain: bool
    comment: str


@dataclass
class Field:
    proto: object
    comment: str
    keys: tuple[str, ...] = ()
    """The names by which the table may call it, the most exact first."""

    @property
    def c(self) -> str:
        return self.proto.name

    @property
    def is_list(self) -> bool:
        return self.proto.label == 3

    @property
    def is_optional(self) -> bool:
        """Declared with the word `optional`: protoc-c gets it alone in a oneof whose name begins with `_`."""
        return self.proto.proto3_optional


@dataclass
class OneOf:
    """The members of a oneof, which are the cases of an enum."""

    c: str
    comment: str
    keys: tuple[str, ...]
    members: list[Field]


@dataclass
class Message:
    full: str
    name: str
    """In Swift."""
    short: str
    """In the proto, without its package."""
    c_type: str
    c_prefix: str
    fields: list[Field | OneOf]
    """A oneof is in the position of its first member."""
    file: str
    comment: str
    is_of_domain: bool
    by_hand: str | None
    protos: list[str] = field(default_factory=list)
    """The messages of the protos that this is."""
    map_entries: dict[str, str] = field(default_factory=dict)
    """The C prefix of the entries of each map."""

    @property
    def function(self) -> str:
        return lower_camel(self.short)

    def every_field(self) -> list[Field]:
        """The fields, those in oneofs included."""
        found = []
        for item in self.fields:
            found += item.members if isinstance(item, OneOf) else [item]
        return found


class Model:
    def __init__(self, files: list, table: Table) -> None:
        self.table = table
        self.messages: dict[str, Message] = {}
        self.enums: dict[str, Enum] = {}
        self.enum_files: dict[str, str] = {}
        for file in files:
            comments = Comments(file)
            for index, item in enumerate(file.enum_type):
                self.add_enum(file, item, [], comments, (5, index))
            for index, item in enumerate(file.message_type):
                self.add_message(file, item, comments, (4, index))
        self.requests, self.responses = [], []
        for file in files:
            for service in file.service:
                for method in service.method:
                    self.requests.append(method.input_type)
                    self.responses.append(method.output_type)
        self.unite()

    @staticmethod
    def c_names(package: str, path: list[str]) -> tuple[str, str]:
        parts = package.split(".")
        return (
            "__".join([part.title() for part in parts] + path),
            "__".join([*parts, *(snake(name) for name in path)]),
        )

    def add_enum(self, file, item, scope: list[str], comments: Comments, path: tuple[int, ...]) -> None:
        short = ".".join([*scope, item.name])
        c_type, prefix = self.c_names(file.package, [*scope, item.name])
        own = snake(item.name).upper() + "_"
        has_unspecified = item.value[0].name.endswith("_UNSPECIFIED")
        is_open = not self.table.find("closed", short)
        cases = [
            (
                lower_camel(value.name.removeprefix(own).lower()),
                f"{prefix.upper()}__{value.name}",
                comments.text((*path, 2, index)),
            )
            for index, value in enumerate(item.value)
            if index > 0 or not has_unspecified
        ]
        domain = self.table.find("types", short)
        name = domain or self.table.find("names", short) or short
        full = f".{file.package}.{short}"
        comment = comments.text(path)
        self.enums[full] = Enum(
            full, name, c_type, cases, is_open, has_unspecified, domain is not None, comment
        )
        self.enum_files[full] = file.name

    def add_message(self, file, item, comments: Comments, path: tuple[int, ...]) -> None:
        c_type, c_prefix = self.c_names(file.package, [item.name])
        domain = self.table.find("types", item.name)
        name = domain or self.table.find("names", item.name) or item.name
        message = Message(
            full=f".{file.package}.{item.name}",
            name=name,
            short=item.name,
            c_type=c_type,
            c_prefix=c_prefix,
            fields=[],
            file=file.name,
            comment=comments.text(path),
            is_of_domain=domain is not None,
            by_hand=self.table.find("by_hand", item.name),
        )
        message.protos.append(item.name)
        if message.by_hand:
            message.name = message.by_hand
        oneofs: dict[int, OneOf] = {}
        for index, proto in enumerate(item.field):
            keys = (f"{item.name}.{proto.name}", f"{name}.{proto.name}", proto.name)
            member = Field(proto, comments.text((*path, 2, index)), keys)
            if not proto.HasField("oneof_index") or proto.proto3_optional:
                message.fields.append(member)
                continue
            number = proto.oneof_index
            if number not in oneofs:
                own = item.oneof_decl[number].name
                oneofs[number] = OneOf(own, comments.text((*path, 8, number)), (f"{item.name}.{own}",), [])
                message.fields.append(oneofs[number])
            oneofs[number].members.append(member)
        for nested in item.nested_type:
            if nested.options.map_entry:
                entry = f"{c_prefix}__{snake(nested.name)}"
                message.map_entries[f"{message.full}.{nested.name}"] = entry
        for index, nested in enumerate(item.enum_type):
            self.add_enum(file, nested, [item.name], comments, (*path, 4, index))
        self.messages[message.full] = message

    def unite(self) -> None:
        """Makes one of the messages that have the same name in Swift."""
        first: dict[str, Message] = {}
        for message in self.messages.values():
            other = first.setdefault(message.name, message)
            if other is message or message.by_hand is not None:
                continue
            if [f.proto for f in other.every_field()] != [f.proto for f in message.every_field()]:
                fail(f"{other.short} and {message.short} are both {message.name}, and have other fields")
            other.protos.append(message.short)
            for calls in (self.requests, self.responses):
                calls[:] = [other.full if name == message.full else name for name in calls]

    def reachable(self, calls: list[str]) -> set[str]:
        """The messages that are generated for these calls: without those by hand, and what only they contain."""
        found: set[str] = set()
        waiting = list(calls)
        while waiting:
            name = waiting.pop()
            if name in found or name not in self.messages or self.messages[name].by_hand is not None:
                continue
            found.add(name)
            waiting += self.parts(name)
        return found

    def parts(self, message: str) -> list[str]:
        """The messages in a message."""
        return [f.proto.type_name for f in self.messages[message].every_field() if f.proto.type == MESSAGE]
