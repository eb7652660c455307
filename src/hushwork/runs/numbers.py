"""Measured numbers: a table as JSON, with the commit, machine, date and command it comes from.

Benchmarks write such files, and ``docs/tables.py`` makes the tables of the documentation from them.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from hushwork.atomic import write_atomically
from hushwork.markdown import markdown_table
from hushwork.runs.provenance import commit

LOAD = os.getloadavg()[0]
"""Processes that waited for a core in the minute before this one started, whose own work is not counted."""


@dataclass(frozen=True)
class Column:
    """The title of a column, how many decimals its numbers have, and whether they show a plus sign."""

    title: str
    digits: int = 0
    signed: bool = False

    def text(self, value: Any, with_interval: bool = False) -> str:
        """A cell: text as it is, a number, ``[mean, low, high]``, or ``[mean, standard deviation]``.

        >>> Column("SI-SDR dB", 1).text([11.68, 10.76, 12.62], with_interval=True)
        '11.7 [10.8,\\xa012.6]'
        >>> Column("error", 3).text([0.8181, 0.1561])
        '0.818 ± 0.156'
        """
        if isinstance(value, str):
            return value
        if not isinstance(value, Sequence):
            return f"{value:{'+' if self.signed else ''},.{self.digits}f}"
        mean, *spread = value
        if len(spread) == 1:
            return f"{self.text(mean)} ± {spread[0]:.{self.digits}f}"
        interval = ",\u00a0".join(f"{end:.{self.digits}f}" for end in spread)
        return f"{self.text(mean)} [{interval}]" if with_interval else self.text(mean)


@dataclass(frozen=True)
class Numbers:
    """A measured table.

    Attributes:
        what: what was measured, the beginning of a sentence.
        command, commit, machine, date: where the numbers come from.
        columns: by the key that rows and pages use.
        rows: values by column; a cell may be missing.
    """

    what: str
    command: str
    commit: str
    machine: str
    date: str
    columns: Mapping[str, Column]
    rows: Sequence[Mapping[str, Any]]

    @classmethod
    def measured(cls, what: str, columns: Mapping[str, Column], rows: Sequence[Mapping[str, Any]]) -> Numbers:
        """Rows measured by this process: its command, checkout and machine, and today's date.

        Numbers keep three decimals more than the column shows.
        """
        script = Path(sys.argv[0])
        name = os.path.relpath(script) if script.is_file() else script.name
        rounded = [{key: _rounded(value, columns[key].digits + 3) for key, value in row.items()} for row in rows]
        return cls(
            what=what,
            command=shlex.join(["python", name, *sys.argv[1:]]),
            commit=_checkout(),
            machine=f"{machine()}, load {LOAD:.1f} from other work",
            date=f"{datetime.now(UTC):%Y-%m-%d}",
            columns=columns,
            rows=rounded,
        )

    @classmethod
    def read(cls, path: Path) -> Numbers:
        """Numbers that :meth:`write` has written.

        Raises:
            ValueError: there is no such file, or it has other keys.
        """
        if not path.is_file():
            raise ValueError(f"{path} does not exist; a table asks for it")
        content = json.loads(path.read_text(encoding="utf-8"))
        if set(content) != set(cls.__dataclass_fields__):
            raise ValueError(
                f"{path} has the keys {', '.join(content)}; needed are {', '.join(cls.__dataclass_fields__)}"
            )
        content["columns"] = {key: Column(**column) for key, column in content["columns"].items()}
        return cls(**content)

    def write(self, path: Path) -> None:
        """A JSON object with the attributes as keys, a column or a row a line."""
        path.parent.mkdir(parents=True, exist_ok=True)
        defaults = asdict(Column(""))
        columns = {
            key: {name: value for name, value in asdict(column).items() if name == "title" or value != defaults[name]}
            for key, column in self.columns.items()
        }
        facts = [f" {_json(name)}: {_json(value)}" for name, value in vars(self).items() if isinstance(value, str)]
        facts.append(' "columns": {\n' + ",\n".join(f"  {_json(k)}: {_json(c)}" for k, c in columns.items()) + "\n }")
        facts.append(' "rows": [\n' + ",\n".join(f"  {_json(row)}" for row in self.rows) + "\n ]")
        with write_atomically(path) as part:
            part.write_text("{\n" + ",\n".join(facts) + "\n}\n", encoding="utf-8")

    def markdown(self, keys: Sequence[str] = ()) -> str:
        """A table of these columns, or of all; a key that ends in ``[]`` shows intervals.

        Raises:
            ValueError: there is no such column.
        """
        keys = keys or [*self.columns]
        names = [key.removesuffix("[]") for key in keys]
        unknown = sorted({*names} - {*self.columns})
        if unknown:
            raise ValueError(f"no column {', '.join(unknown)}; it has {', '.join(self.columns)}")
        rows = [
            [self.columns[name].text(row.get(name, ""), key != name) for key, name in zip(keys, names, strict=True)]
            for row in self.rows
        ]
        return markdown_table([self.columns[name].title for name in names], rows) + "\n"

    @property
    def source(self) -> str:
        """A sentence: what was measured, how, and where."""
        return f"{self.what}: `{self.command}`, commit {self.commit}, {self.date}, on {self.machine}."


@cache
def _checkout() -> str:
    """As it is before the first table is written, which may change a tracked file."""
    return short_commit(commit())


def machine() -> str:
    """The processors and the GPUs in words, without the name of the machine."""
    cpuinfo = _read("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.+)", cpuinfo)
    kind = "virtual core" if re.search(r"^flags.*\bhypervisor\b", cpuinfo, re.MULTILINE) else "core"
    count = os.cpu_count() or 1
    cache = _read("/sys/devices/system/cpu/cpu0/cache/index2/size").strip().replace("K", " KiB")
    size = f", {cache} of second-level cache each" if cache else ""
    of = f" of {model[1].strip()}" if model else ""
    return f"{count} {kind}{'s' if count > 1 else ''}{of}{size}, {_gpus()}"


def _gpus() -> str:
    if not shutil.which("nvidia-smi"):
        return "no GPU"
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split("\n")
    return ", ".join(filter(None, found)) or "no GPU"


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:  # another system than Linux
        return ""


def short_commit(full: str | None) -> str:
    """Seven digits of a commit, and whether files had changed since, as :func:`hushwork.runs.provenance.commit` says.

    >>> short_commit("0123456789abcdef+")
    '0123456 with changes'
    """
    return f"{full[:7]}{' with changes' if full.endswith('+') else ''}" if full else "unknown"


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_rounded(each, digits) for each in value]
    return round(float(value), digits) if isinstance(value, float) else value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
