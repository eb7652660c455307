"""What the tutorials use to run commands as one types them in a terminal."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

_folder = tempfile.TemporaryDirectory(prefix="hushwork-tutorial-")
FOLDER = Path(_folder.name)
"""The working folder of all commands; removed at the end."""


def run(command: str, last_lines: int = 40) -> None:
    """Run a shell command in ``FOLDER`` and print the end of its output.

    Raises:
        RuntimeError: the command failed; with its output.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PATH": path},
    )
    output = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", done.stdout + done.stderr)
    if done.returncode:
        raise RuntimeError(f"{command}\n{output}")
    lines = [line.rpartition("\r")[2].rstrip() for line in output.replace(str(FOLDER), ".").splitlines()]
    print("\n".join(["$ " + command, *lines[-last_lines:]]))
