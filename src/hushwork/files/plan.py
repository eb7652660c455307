"""Plans: from the names on a command line or in a manifest to (source, target) pairs."""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

from hushwork.audio.folders import Skipped, find_audio_files
from hushwork.audio.io import AudioError
from hushwork.audio.remote import URL, locate, name_below


def plan_targets(
    sources: Sequence[str | Path], output: str | Path, skipped: Skipped | None = None, report_files: Path | None = None
) -> list[tuple[Path, Path]]:
    """The (source, target) pairs for files and folders.

    One file goes to ``output`` itself, or into it if it is a folder or ends in a slash. Folders keep their tree below
    ``output``; of several sources each folder also keeps its own name. All of them may be URLs.

    Args:
        sources: files and folders. Files of other types in folders, and hidden files and folders, are skipped.
        output: the file or folder to write; it is never an input, even if it lies in a source.
        skipped: collects what was skipped.
        report_files: the folder of a report, which is no input either.

    Raises:
        AudioError: a folder cannot be listed or holds no audio, or two sources have one target.
    """
    folder = locate(output)
    skipped = Skipped() if skipped is None else skipped
    written = [path.resolve() for path in (folder, report_files) if path]
    into_folder = len(sources) > 1 or str(output).endswith(("/", os.sep)) or folder.is_dir()
    plan: list[tuple[Path, Path]] = []
    for source in map(locate, sources):
        if not source.is_dir():
            plan.append((source, folder / source.name if into_folder else folder))
            continue
        if source.resolve() == written[0]:
            raise AudioError(f"{source}: input and output are the same folder; choose another output")
        base = source.parent if len(sources) > 1 else source
        here = Skipped()
        found = find_audio_files(source, here, written)
        skipped.add(here)
        # A folder with AppleDouble files alone, as unpacked archives have it, is no mistake.
        if not found and not here.has_apple_double:
            reasons = here.unreadable or [f"{source}: no audio files in this folder", *filter(None, [str(here)])]
            raise AudioError("; ".join(reasons))
        plan += [(path, folder / name_below(path, base)) for path in found]
    return _distinct(plan)


def plan_manifest(manifest: str | Path, output: str | Path) -> list[tuple[Path, Path]]:
    """The (source, target) pairs of a manifest.

    Args:
        manifest: a file or URL of JSON lines; each line is an object with "path", a URL or relative to the manifest's
            folder, and optionally "output", relative to the output folder. Without "output" it is the path itself, or
            only its name if the path is a URL or leads out of the output folder.
        output: the folder, or its URL.

    Raises:
        AudioError: a line of another form, no line at all, or two sources with one target.
    """
    manifest, output = locate(manifest), locate(output)
    plan = []
    try:
        lines = manifest.read_bytes().decode("utf-8", "surrogateescape").split("\n")  # as names of files are decoded
    except OSError as error:
        raise AudioError(f"{manifest}: cannot be read as a manifest of JSON lines ({error})") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            path, name = entry["path"], entry.get("output", entry["path"])
            leads_out = URL.match(name) or Path(name).is_absolute() or ".." in Path(name).parts
            elsewhere = URL.match(path) or Path(path).is_absolute()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise AudioError(f'{manifest}, line {number}: expected {{"path": "a.wav"}}, got {line[:80]!r}') from error
        if leads_out and "output" in entry:
            raise AudioError(
                f"{manifest}, line {number}: output {name!r} leads out of the output folder; give a path inside it"
            )
        target = output / (Path(name).name if leads_out else name)
        plan.append((locate(path) if elsewhere else manifest.parent / path, target))
    if not plan:
        raise AudioError(f'{manifest}: names no files, expected a JSON object with "path" a line')
    return _distinct(plan)


def shard_of(plan: list[tuple[Path, Path]], output: str | Path, shard: str) -> list[tuple[Path, Path]]:
    """Part "i/n" of a plan, 1 ≤ i ≤ n: parts are disjoint, and depend on the names of the targets alone.

    Raises:
        ValueError: a shard of another form.
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", shard)
    part, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= part <= count:
        raise ValueError(f"shard is {shard!r}; it must look like 1/4, the first of four")
    folder = locate(output)
    return [pair for pair in plan if zlib.crc32(os.fsencode(name_below(pair[1], folder))) % count == part - 1]


def _distinct(plan: list[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    taken: dict[Path, Path] = {}
    for path, target in plan:
        other = taken.setdefault(target.resolve(), path)
        if other is not path:
            raise AudioError(f"{target}: is the output of both {other} and {path}; give them different outputs")
    return plan
