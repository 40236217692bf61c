"""proto/baseline.txtpb: the API that callers rely on, which no change may break unless that is meant.

The file is checked in and not taken from the history of git, because a clean clone may have no history, and because a
commit that breaks the API on purpose then shows it. Before v1 is frozen, such a commit is made with
`scripts/generate --breaking`; docs/api-compatibility.md says what is frozen.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# buf comes with the package buf-bin, beside the Python that runs this.
BUF = Path(sys.executable).parent / "buf"
# The exit code of buf if it has found something, and has not failed itself.
FOUND = 100


def violations(protos: Path, baseline: Path) -> str:
    """Where the protos of a folder break the baseline, a line for each; empty if they do not.

    The rules are in the folder's buf.yaml.
    """
    command = [BUF, "breaking", protos, "--against", baseline]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=120)
    if done.returncode not in (0, FOUND):
        raise subprocess.CalledProcessError(done.returncode, command)
    return done.stdout


def image(protos: Path) -> str:
    """The baseline that the protos of a folder are: their descriptors as text, without comments."""
    command = [BUF, "build", protos, "--exclude-source-info", "--output", "-#format=txtpb"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=120).stdout
