"""Write a corpus as tar shards with an Arrow manifest, or its manifest alone as an Arrow file.

    hushwork prepare shards data/debian/manifest.jsonl -o data/debian_shards
    hushwork prepare shards data/debian/manifest.jsonl -o s3://bucket/debian --shard-size 1GB
    hushwork prepare shards data/debian/manifest.jsonl -o data/debian/manifest.arrow

The shards have webdataset's layout: ``000000012.flac`` and ``000000012.json`` follow each other, for a pair
``000000012.clean.flac`` and ``000000012.noisy.flac``. Audio files are copied unchanged; the JSON is the line of
the manifest. A shard holds recordings of one kind and split, shuffled, in the same order every time. Train with the
``manifest.arrow`` beside them (``data.manifest=…/manifest.arrow``), which has the place of each recording.

An Arrow file alone must be beside the JSONL manifest, as its paths are relative to that folder. It opens in seconds,
even with millions of lines.

The corpus is checked before anything is written. Each shard appears when it is complete; the same command again makes
those that are missing or, on a disk, older than their files.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from hushwork.audio.io import split_shard
from hushwork.audio.remote import Stamp, is_remote, locate, stamps
from hushwork.data.arrow import write_arrow, write_or_publish
from hushwork.data.manifest import Manifest, load_manifest
from hushwork.data.recordings import KINDS, SPLITS, Recording
from hushwork.prepare.items import PrepareError

PLAN = "plan.json"
UNITS = {"": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9}


@dataclass(frozen=True)
class Shard:
    """A planned shard: its name, the rows of its recordings, its size in bytes, and the newest change of its files."""

    name: str
    rows: list[int]
    size: int
    newest_ns: int


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="hushwork prepare shards", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", help="manifest of the corpus")
    parser.add_argument("-o", "--output", required=True, help="folder or URL of the shards; or a file named *.arrow")
    parser.add_argument(
        "--shard-size", type=_bytes, default="1GB", help="approximate size, such as 500MB (default: %(default)s)"
    )
    parser.add_argument("--sample-rate", type=int, default=16000, help="of the corpus in Hz (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=4, help="shards written at the same time (default: %(default)s)")
    options = parser.parse_args(arguments)
    manifest, output = load_manifest(options.manifest, options.sample_rate), locate(options.output)
    if output.suffix == ".arrow":
        write_alone(manifest, output)
    else:
        write_shards(manifest, output, options.shard_size, options.jobs)
    return 0


def write_alone(manifest: Manifest, output: Path) -> None:
    """Write the manifest as an Arrow file. Raises :class:`PrepareError` in another folder."""
    if is_remote(output) or output.resolve().parent != manifest.root.resolve():
        raise PrepareError(f"{output}: must be in {manifest.root}, as the paths in the manifest are relative to it")
    write_arrow(output, manifest.recordings)
    print(f"{output}: {len(manifest.recordings)} recordings")


def write_shards(manifest: Manifest, output: Path, shard_size: int, jobs: int) -> None:
    """Write the shards that are missing or older than their files, and the Arrow manifest.

    Raises:
        PrepareError: the folder holds other shards, or a file is in a shard already.
    """
    shards = list(plan_shards(manifest, shard_size))
    _keep_plan(output, {"manifest": manifest.sha256, "shard_size": shard_size})
    found = stamps(output / shard.name for shard in shards)
    missing = [shard for shard in shards if not _is_made(shard, output, found.get(output / shard.name))]
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(write_shard, shard, manifest, output) for shard in missing]
        try:
            for future in track(futures, "writing shards", console=Console(stderr=True), transient=True):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    # In the order of the corpus, so that the same seed draws the same mixtures from either.
    shard_of = np.zeros(len(manifest.recordings), np.int32)
    offsets = np.zeros(len(manifest.recordings), np.int64)
    for number, shard in enumerate(shards):
        shard_of[shard.rows] = number
        offsets[shard.rows] = np.cumsum([0, *(_size(manifest, row) for row in shard.rows[:-1])])
    write_arrow(
        output / "manifest.arrow",
        (_inside(manifest, row, shards[shard_of[row]].name, int(offsets[row])) for row in range(len(offsets))),
        {shard.name: shard.size for shard in shards},
    )
    print(f"{output}: {len(shards)} shards, {len(missing)} of them written now, {len(offsets)} recordings")


def plan_shards(manifest: Manifest, shard_size: int) -> Iterator[Shard]:
    """Distribute the recordings over shards: equal manifests and sizes give equal shards.

    Raises:
        PrepareError: a file is in a shard already.
    """
    for kind in KINDS:
        for split in SPLITS:
            rows = np.intersect1d(manifest.recordings.rows("kind", kind), manifest.recordings.rows("split", split))
            rng = np.random.default_rng([int(manifest.sha256[:16], 16), KINDS.index(kind), SPLITS.index(split)])
            members: list[int] = []
            count = size = newest = 0
            for row in map(int, rng.permutation(rows)):
                more = _size(manifest, row)
                if members and size + more > shard_size:
                    yield Shard(f"{kind}-{split}-{count:06d}.tar", members, _whole(size), newest)
                    count, size, newest, members = count + 1, 0, 0, []
                members.append(row)
                size += more
                newest = max(newest, *(path.stat().st_mtime_ns for _, path in _audio(manifest, row)))
            if members:
                yield Shard(f"{kind}-{split}-{count:06d}.tar", members, _whole(size), newest)


def write_shard(shard: Shard, manifest: Manifest, output: Path) -> None:
    """Raises :class:`PrepareError` if a file has changed since the shard was planned."""
    with write_or_publish(output / shard.name) as part:
        with tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as tar:
            for row in shard.rows:
                for name, audio in _audio(manifest, row):
                    with audio.open("rb") as file:
                        tar.addfile(_header(name, audio.stat().st_size), file)
                line = manifest.recordings[row].line()
                tar.addfile(_header(f"{row:09d}.json", len(line)), io.BytesIO(line))
        if part.stat().st_size != shard.size:
            raise PrepareError(f"{shard.name}: a file was changed while the shard was written; run this again")


def _header(name: str, size: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)  # without time and owner, so that equal shards are equal
    header.size = size
    return header


def _audio(manifest: Manifest, row: int) -> list[tuple[str, Path]]:
    """Member names and files of a recording."""
    recording = manifest.recordings[row]
    paths = [path for path in (recording.path, recording.noisy_path) if path]
    for path in paths:
        if split_shard(path):
            raise PrepareError(f"{path}: is in a shard already; make shards from the manifest of the files")
    roles = (".clean", ".noisy") if len(paths) > 1 else ("",)
    return [
        (f"{row:09d}{role}{Path(path).suffix.lower()}", manifest.file(path))
        for role, path in zip(roles, paths, strict=True)
    ]


def _size(manifest: Manifest, row: int) -> int:
    """Bytes of a recording in a shard, headers included."""
    sizes = [path.stat().st_size for _, path in _audio(manifest, row)]
    return sum(_in_tar(size) for size in (*sizes, len(manifest.recordings[row].line())))


def _inside(manifest: Manifest, row: int, shard: str, offset: int) -> Recording:
    """A recording with its paths in the shard."""
    places = []
    for _, path in _audio(manifest, row):
        size = path.stat().st_size
        places.append(f"{shard}#{offset + tarfile.BLOCKSIZE}+{size}")
        offset += _in_tar(size)
    return replace(manifest.recordings[row], path=places[0], noisy_path=places[1] if len(places) > 1 else None)


def _in_tar(size: int) -> int:
    return tarfile.BLOCKSIZE * (1 + -(-size // tarfile.BLOCKSIZE))


def _whole(size: int) -> int:
    """Bytes of a tar file with members of this size: two empty blocks end it, and it is padded to whole records."""
    return -(-(size + 2 * tarfile.BLOCKSIZE) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


def _is_made(shard: Shard, output: Path, stamp: Stamp | None) -> bool:
    if stamp is None or stamp[0] != shard.size:
        return False
    return is_remote(output) or int(stamp[1]) >= shard.newest_ns


def _keep_plan(output: Path, plan: dict[str, str | int]) -> None:
    path = output / PLAN
    if path.exists():
        if json.loads(path.read_text("utf-8")) != plan:
            raise PrepareError(f"{output}: holds shards of another manifest or size; choose or empty a folder")
        return
    output.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plan), encoding="utf-8")


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]B)?", text.strip().upper())
    if not match or (size := round(float(match[1]) * UNITS[match[2] or ""])) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 500MB or 1GB")
    return size
