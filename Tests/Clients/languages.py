"""The client languages: how the program `example` of each is built and run.

The programs are in clients/LANGUAGE, and all follow one contract, which example.py describes. What they are built into
is below .build/clients/LANGUAGE.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

#: For one command that is not a build.
COMMAND_S = 60


@dataclass(frozen=True)
class Language:
    """In commands and environment, {out} is the folder to build into, and {folder} is clients/NAME.

    Commands are run in the latter, without a shell.
    """

    name: str
    #: As people write it.
    title: str
    #: Commands, in this order.
    build: Sequence[str]
    #: The command of the program, to which the tests append its arguments.
    run: str
    #: Prints the version of the gRPC library, for the table of results.
    version: str
    environment: Mapping[str, str] = field(default_factory=dict)
    #: The time limit of one command of the build, in seconds.
    build_s: float = 400

    @property
    def folder(self) -> Path:
        return ROOT / "clients" / self.name

    @property
    def out(self) -> Path:
        return ROOT / ".build/clients" / self.name

    @property
    def variables(self) -> dict[str, str]:
        return {name: self._filled(value) for name, value in self.environment.items()}

    @property
    def command(self) -> list[str]:
        return self._words(self.run)

    def make(self, *, from_nothing: bool = False) -> float:
        """Builds the program, and returns how long that took, in seconds."""
        if from_nothing:
            shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        for line in self.build:
            self._run(line, self.build_s)
        return time.monotonic() - began

    def tested_version(self) -> str:
        return " ".join(self._run(self.version, COMMAND_S).split())

    def _words(self, line: str) -> list[str]:
        return [self._filled(word) for word in shlex.split(line)]

    def _filled(self, text: str) -> str:
        return text.replace("{out}", str(self.out)).replace("{folder}", str(self.folder))

    def _run(self, line: str, seconds: float) -> str:
        done = subprocess.run(
            self._words(line),
            cwd=self.folder,
            env={**os.environ, **self.variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
        )
        assert done.returncode == 0, f"{line}: exit code {done.returncode}\n{done.stdout[-20_000:]}"
        return done.stdout


def debian(*packages: str) -> str:
    """A command that prints the installed versions of packages."""
    return f"dpkg-query -W -f '${{Package}}\\ ${{source:Upstream-Version}}\\n' {' '.join(packages)}"


#: Ordered as in docs/clients.md.
LANGUAGES = {
    language.name: language
    for language in (
        Language(
            "go",
            "Go",
            # Debian's packages of Go are for GOPATH, and have no modules.
            build=[
                "mkdir -p {out}/path/src/signalbox.example",
                "ln -sfn {folder} {out}/path/src/signalbox.example/api",
                "go build -o {out}/example signalbox.example/api/example",
            ],
            environment={"GO111MODULE": "off", "GOPATH": "{out}/path:/usr/share/gocode", "GOCACHE": "{out}/cache"},
            run="{out}/example",
            version=debian("golang-google-grpc-dev"),
        ),
        Language(
            "cpp",
            "C++",
            build=[
                "cmake -S . -B {out}",
                "cmake --build {out} --parallel 2",
            ],
            run="{out}/example",
            version=debian("libgrpc++-dev"),
        ),
        Language(
            "java",
            "Java",
            build=["make OUT={out}"],
            run="{out}/example",
            version=debian("libgrpc-java"),
        ),
        Language(
            "ruby",
            "Ruby",
            # There is nothing to build; this only checks the syntax.
            build=["ruby -wc example.rb"],
            run="ruby {folder}/example.rb",
            version=debian("ruby-grpc"),
        ),
        Language(
            "swift",
            "Swift",
            # gRPC and its cryptography are compiled too.
            build=["../../scripts/lib/build-swift-client example"],
            build_s=1_200,
            run="{out}/debug/example",
            version="bash -c 'echo grpc-swift-2 $(git -C {out}/checkouts/grpc-swift-2 describe --tags)'",
        ),
        Language(
            "typescript",
            "TypeScript",
            # package.json says that the modules are ES modules.
            build=["cp package.json {out}", "tsc --outDir {out} --typeRoots {out}/../types"],
            run="node {out}/src/example.js",
            version="bash -c 'echo Node $(node -p process.versions.node), TypeScript $(tsc --version | cut -c9-)'",
        ),
    )
}
