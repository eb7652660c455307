"""What the tutorials use to run commands as one types them in a terminal."""

import atexit
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import hushwork

_folder = tempfile.TemporaryDirectory(prefix="hushwork-tutorial-")
FOLDER = Path(_folder.name)
"""The working folder of all commands; removed at the end."""

PACKAGE = str(Path(hushwork.__file__).parent)

# Importing torch and Lightning takes longer than most trainings of the tutorials. One process imports them and then
# reads commands; each runs in a fork of it, with its output in a file.
SERVER = """
import json, os, sys, traceback, warnings

warnings.simplefilter("ignore")  # those of libraries name places on this machine
import hushwork.training.run
from hushwork.cli import main

for line in sys.stdin:
    arguments, folder, output = json.loads(line)
    child = os.fork()
    if not child:
        target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, 1)
        os.dup2(target, 2)
        status = 1
        try:
            os.chdir(folder)
            sys.argv = ["hushwork", *arguments]
            status = main(arguments)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
            if isinstance(end.code, str):
                print(end.code)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)  # without the destructors of libraries, which would wait for threads of the parent
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def run(command: str, last_lines: int = 40) -> None:
    """Run a shell command in ``FOLDER`` and print the end of its output.

    Raises:
        RuntimeError: the command failed; with its output.
    """
    is_plain = command.startswith("hushwork ") and not re.search(r"[|&;<>$*]", command)
    status, output = _in_fork(shlex.split(command)[1:]) if is_plain else _in_shell(command)
    output = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output)
    if status:
        raise RuntimeError(f"{command}\n{output}")
    lines = [line.rpartition("\r")[2].rstrip() for line in output.replace(str(FOLDER), ".").splitlines()]
    print("\n".join(["$ " + command, *lines[-last_lines:]]).replace(PACKAGE, "hushwork"))


def _in_shell(command: str) -> tuple[int, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=FOLDER,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env=os.environ | {"PATH": path},
    )
    return done.returncode, done.stdout


@cache
def _server() -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(process.communicate)  # closes its input, at which it ends
    return process


def _in_fork(arguments: list[str]) -> tuple[int, str]:
    server, output = _server(), FOLDER.with_suffix(".output")
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps([arguments, str(FOLDER), str(output)]) + "\n")
    server.stdin.flush()
    status = int(server.stdout.readline())
    text = output.read_text(encoding="utf-8")
    output.unlink()
    return status, text
