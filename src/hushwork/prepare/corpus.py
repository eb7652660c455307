"""The common part of all preparers: convert audio, split it, and write a valid manifest.

A preparer (``hushwork.prepare.<corpus>``) lists the content of its corpus as items; :func:`run` does the rest.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from hushwork.audio.io import AudioError, audio_info, read_audio, resample, write_audio
from hushwork.data.manifest import load_manifest, printable, write_manifest
from hushwork.data.recordings import KINDS, SPLITS, Recording
from hushwork.prepare.items import Item, PrepareError

SILENT_CHANNEL_DB = -60.0
# A segment is filled with further recordings of a speaker or class, each faded in and out. With recordings of a few
# milliseconds that takes thousands of them, and training would be very slow.
MIN_SPLIT_S = 0.2
PATHS_SHOWN = 10


def corpus_parser(description: str | None, corpus: str) -> argparse.ArgumentParser:
    """An argument parser with the options of all preparers."""
    parser = argparse.ArgumentParser(
        prog=f"hushwork prepare {corpus.replace('_', '-')}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("data", corpus), help="where to write (default: %(default)s)")
    parser.add_argument("--sample-rate", type=_positive, default=16000, help="in Hz (default: %(default)s)")
    parser.add_argument(
        "--jobs",
        type=_positive,
        default=min(8, os.cpu_count() or 1),
        help="files at the same time (default: cores, at most 8)",
    )
    parser.add_argument("--strict", action="store_true", help="fail, and write no manifest, if a file must be skipped")
    return parser


def add_split_options(parser: argparse.ArgumentParser, share: float) -> None:
    """``--valid`` and ``--test``, each ``share`` by default."""
    for split in ("valid", "test"):
        parser.add_argument(f"--{split}", type=float, default=share, help=f"share of {split} (default: %(default)s)")


def add_speaker_option(parser: argparse.ArgumentParser) -> None:
    """``--speaker-pattern``, for :func:`speaker_of`."""
    text = "regular expression for the speaker in a file's path below its folder: its first group, or its whole match"
    parser.add_argument("--speaker-pattern", type=_regex, metavar="REGEX", help=text)


def assign_splits(keys: Iterable[str], valid: float, test: float, what: str) -> dict[str, str]:
    """The split of each key, by its SHA-256: the same on every machine, and unchanged when keys are added.

    If a split would be empty, it gets the nearest key of the largest split.

    Args:
        keys: speakers, noise sources or other keys that must stay in one split.
        valid, test: shares from 0 to 1; a split with share 0 gets nothing.
        what: name of the keys, for the message.

    Raises:
        PrepareError: the shares leave nothing for training, or there are fewer keys than splits.
    """
    if valid < 0 or test < 0 or valid + test >= 1:
        raise PrepareError(f"--valid {valid} and --test {test} must be 0 or more, and together less than 1")
    position = {key: int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64 for key in keys}
    order = sorted(position, key=lambda key: position[key])
    needed = [split for split, share in (("test", test), ("valid", valid), ("train", 1.0)) if share > 0]
    if len(order) < len(needed):
        raise PrepareError(
            f"found {len(order)} {what}, but {' + '.join(needed)} need at least {len(needed)}, as none may be in two "
            "splits; add recordings, or omit a split by --test 0 or --valid 0"
        )
    splits = {k: "test" if position[k] < test else "valid" if position[k] < test + valid else "train" for k in order}
    while missing := [split for split in needed if split not in splits.values()]:
        fullest = Counter(splits.values()).most_common(1)[0][0]
        candidates = [key for key in order if splits[key] == fullest]
        splits[candidates[-1 if missing[0] == "train" else 0]] = missing[0]
    return splits


def assign_all(items: Sequence[Item], valid: float, test: float) -> list[str]:
    """The split of each item: its own, or else drawn with these shares, by speaker or noise source.

    Noise is assigned only to splits with speech, if there is speech at all.

    Raises:
        PrepareError: see :func:`assign_splits`.
    """
    splits = [item.labels["split"] for item in items]
    shares = {"valid": valid, "test": test}
    for is_noise, label, what in ((False, "speaker", "speakers"), (True, "source", "noise files")):
        rows = [row for row, item in enumerate(items) if (item.labels["kind"] == "noise") == is_noise]
        keys = {row: printable(items[row].labels[label]) for row in rows if splits[row] is None}
        if keys:
            where = f"{what} in {items[min(keys)].files[0].root}"
            split_of = assign_splits(keys.values(), shares["valid"], shares["test"], where)
        for row, key in keys.items():
            splits[row] = split_of[key]
        if used := {splits[row] for row in rows}:
            shares = {split: share if split in used else 0.0 for split, share in shares.items()}
    return splits


def check_splits(items: Sequence[Item], recordings: Sequence[Recording]) -> None:
    """Check that all splits can be used.

    Args:
        items: those with a split of their own.
        recordings: usable recordings of these and other items.

    Raises:
        PrepareError: all speech, pairs or noise of a split was skipped or is too short, or a split has no noise.
    """
    lasts: dict[tuple[str, str], float] = defaultdict(float)
    for recording in recordings:
        lasts[recording.split, recording.kind] += recording.duration_s
    for item in items:
        lasts[item.labels["split"], item.labels["kind"]] += 0.0
    for (split, kind), duration_s in lasts.items():
        if duration_s < MIN_SPLIT_S:
            left = [r.path for r in recordings if (r.split, r.kind) == (split, kind)]
            gone = [str(i.files[0].path) for i in items if (i.labels["split"], i.labels["kind"]) == (split, kind)]
            state = f"lasts {duration_s:.3f} s in all, too short to train on" if left else "was all skipped"
            raise PrepareError(f"the {kind} of the split {split} {state}: {_some(left or gone)}; add recordings to it")
        if kind == "speech" and (split, "pair") not in lasts and (split, "noise") not in lasts:
            raise PrepareError(f"the split {split} has speech, but no noise to mix it with; add noise to it")


def _some(paths: Sequence[str]) -> str:
    return ", ".join([*paths[:PATHS_SHOWN], "…"] if len(paths) > PATHS_SHOWN else paths)


def run(args: argparse.Namespace, find_items: Callable[[argparse.Namespace, list[str]], list[Item]]) -> int:
    """Prepare a corpus: list it, convert files that need it, write ``OUT/manifest.jsonl`` and validate it.

    Args:
        args: parsed by :func:`corpus_parser` with the preparer's own options.
        find_items: returns the items for ``args``, and appends skipped files, with reasons, to the list.

    Returns:
        The exit status, 0.

    Raises:
        PrepareError, ManifestError: the corpus is not usable.
    """
    skipped: list[str] = []
    out = args.out.resolve()
    shares = getattr(args, "valid", 0.0), getattr(args, "test", 0.0)
    items = find_items(args, skipped)
    assign_all(items, *shares)  # bad shares fail before anything is converted
    converted = _convert_all(items, out, args.sample_rate, args.jobs, skipped)
    if skipped:
        print(f"warning: skipped {len(skipped)} file(s):", *skipped, sep="\n  ", file=sys.stderr)
    if skipped and args.strict:
        raise PrepareError("files were skipped and --strict is set; repair or remove them and run again")
    if not converted:
        raise PrepareError("no usable file is left; see the files above")
    splits = assign_all([item for item, _ in converted], *shares)
    recordings = [replace(recording, split=split) for (_, recording), split in zip(converted, splits, strict=True)]
    check_splits([item for item in items if item.labels["split"]], recordings)
    write_manifest(out / "manifest.jsonl", recordings)
    load_manifest(out / "manifest.jsonl", args.sample_rate)
    _print_summary(out / "manifest.jsonl", recordings)
    return 0


def _convert_all(
    items: list[Item], out: Path, sample_rate: int, jobs: int, skipped: list[str]
) -> list[tuple[Item, Recording]]:
    """The usable items with their recordings; a split of None is still to be drawn."""
    owners: dict[str, Path] = {}
    for file in (file for item in items for file in item.files):
        if file.path.is_relative_to(out / "audio"):
            raise PrepareError(f"{file.path}: is output of an earlier run; choose an --out outside of the corpus")
        if owners.setdefault(file.output, file.path) != file.path:
            raise PrepareError(f"{file.path} and {owners[file.output]} differ by suffix only; remove one of them")
    made = []
    with ThreadPoolExecutor(jobs) as pool, Progress(console=Console(stderr=True), transient=True) as progress:
        futures = [pool.submit(_convert, item, out, sample_rate) for item in items]
        try:
            for item, future in progress.track(list(zip(items, futures, strict=True)), description="preparing"):
                try:
                    made.append((item, future.result()))
                except (AudioError, PrepareError) as error:
                    skipped.append(str(error))
                except OSError as error:  # such as a name that is too long once it ends in .flac
                    skipped.append(f"{item.files[0].path}: cannot be converted ({error.strerror})")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return made


def _convert(item: Item, out: Path, sample_rate: int) -> Recording:
    files = item.files
    infos = [audio_info(file.path) for file in files]
    if infos[0].num_samples == 0:
        raise PrepareError(f"{files[0].path}: holds no samples")
    if len({(info.num_samples, info.sample_rate) for info in infos}) > 1:
        sizes = [f"{info.num_samples} samples at {info.sample_rate} Hz" for info in infos]
        raise PrepareError(f"{files[1].path}: has {sizes[1]}, its clean file {files[0].path} {sizes[0]}")
    in_place = [
        (info.num_channels, info.sample_rate) == (1, sample_rate) and not file.is_container
        for info, file in zip(infos, files, strict=True)
    ]
    names = [str(file.path) if here else file.output for file, here in zip(files, in_place, strict=True)]
    is_done = [
        here or _is_made_from(out / name, file.path, sample_rate)
        for name, file, here in zip(names, files, in_place, strict=True)
    ]
    # Files used in place are read too: a truncated one must be found now, not in training.
    if any(in_place) or not all(is_done):
        audios = [_read_whole(file.path) for file in files]
        for audio, name, done in zip(_mix_down(audios), names, is_done, strict=True):
            if not done:
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                write_audio(out / name, resample(audio, infos[0].sample_rate, sample_rate), sample_rate)
    labels: dict[str, Any] = {
        label: printable(value) if isinstance(value, str) else value for label, value in item.labels.items()
    }
    return Recording(
        path=names[0],
        noisy_path=names[1] if len(names) > 1 else None,
        sample_rate=sample_rate,
        duration_s=round(audio_info(out / names[0]).duration_s, 6),
        **labels,
    )


def _is_made_from(path: Path, source: Path, sample_rate: int) -> bool:
    """Whether ``path`` is ``source``, as it is now, at ``sample_rate``. Writing is atomic, so a header is enough."""
    try:
        info = audio_info(path)
    except AudioError:
        return False
    if path.stat().st_mtime < source.stat().st_mtime:
        return False
    return info.sample_rate == sample_rate and abs(info.duration_s - audio_info(source).duration_s) < 0.01


def _read_whole(path: Path) -> np.ndarray:
    audio, _ = read_audio(path)
    if audio.shape[1] != (expected := audio_info(path).num_samples):
        raise PrepareError(f"{path}: ends after {audio.shape[1]} of {expected} samples")
    if not np.isfinite(audio).all():
        raise PrepareError(f"{path}: holds samples that are not finite numbers")
    if not audio.any():
        raise PrepareError(f"{path}: is silent, all its samples are 0")
    return audio


def _mix_down(audios: list[np.ndarray]) -> list[np.ndarray]:
    """The mean (1, N) of the channels of each audio (C, N), without silent ones.

    A pair drops the channels that are silent in its clean file, so that the speech keeps the same level in both.
    """
    mixed = []
    for audio in audios:
        reference = audios[0] if len(audios[0]) == len(audio) else audio
        peaks = np.abs(reference).max(axis=1)
        mixed.append(audio[peaks >= peaks.max() * 10 ** (SILENT_CHANNEL_DB / 20)].mean(axis=0, keepdims=True))
    return mixed


def _print_summary(manifest: Path, recordings: list[Recording]) -> None:
    table = Table("split", "kind", title=str(manifest))
    for column in ("files", "minutes", "speakers"):
        table.add_column(column, justify="right")
    for split in SPLITS:
        for kind in KINDS:
            if chosen := [r for r in recordings if r.split == split and r.kind == kind]:
                speakers = {recording.speaker for recording in chosen if recording.speaker}
                minutes = sum(recording.duration_s for recording in chosen) / 60
                table.add_row(split, kind, str(len(chosen)), f"{minutes:.1f}", str(len(speakers) or ""))
    Console().print(table)


def _positive(text: str) -> int:
    if not (text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _regex(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular expression ({error})") from error
