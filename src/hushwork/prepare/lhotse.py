"""Prepare lhotse CutSets as speech, with noise from a folder, to be mixed in training.

    hushwork prepare lhotse --cuts cuts.jsonl.gz --noise DIR      # split by speaker
    hushwork prepare lhotse --cuts train.jsonl.gz --valid-cuts dev.jsonl.gz --noise DIR

A cut is written as a file of its own, mixed down to one channel: its part of the recording,
with the transforms of lhotse. Speaker, text and language are those of its supervisions; cuts without a speaker, or
with several, are skipped, and so are mixed ones. A speaker stays in one split.

Needs the extra ``lhotse`` (``pip install -e '.[lhotse]'``).
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from lhotse import CutSet
from lhotse.cut import MonoCut, MultiCut
from rich.console import Console
from rich.progress import track

from hushwork.audio.io import AudioError, audio_info, resample, write_audio
from hushwork.prepare.corpus import add_split_options, corpus_parser, run
from hushwork.prepare.items import AudioFile, Item, PrepareError, noise_items


def main(argv: Sequence[str] | None = None) -> int:
    parser = corpus_parser(__doc__, "lhotse")
    options: dict[str, Any] = {"nargs": "+", "type": Path, "metavar": "CUTS"}
    parser.add_argument("--cuts", required=True, help="CutSets to train on; alone they are split by speaker", **options)
    parser.add_argument("--valid-cuts", default=[], help="CutSets to validate on", **options)
    parser.add_argument("--test-cuts", default=[], help="CutSets to test on", **options)
    parser.add_argument("--licence", default="unknown", help="of the speech (default: %(default)s)")
    parser.add_argument("--noise", type=Path, required=True, metavar="DIR", help="the noise")
    parser.add_argument("--noise-licence", default="unknown", help="default: %(default)s")
    add_split_options(parser, 0.1)
    return run(parser.parse_args(argv), find_items)


def find_items(args: argparse.Namespace, skipped: list[str]) -> list[Item]:
    first = "train" if args.valid_cuts or args.test_cuts else None
    sets = {first: args.cuts, "valid": args.valid_cuts, "test": args.test_cuts}
    items = [item for split, paths in sets.items() for path in paths for item in _cut_items(path, split, args, skipped)]
    return items + noise_items(args.noise, args.noise_licence)


def _cut_items(path: Path, split: str | None, args: argparse.Namespace, skipped: list[str]) -> list[Item]:
    if not path.is_file():
        raise PrepareError(f"{path}: no such file; expected a CutSet such as cuts.jsonl.gz")
    try:
        cuts = CutSet.from_file(path).to_eager()
    except Exception as error:  # lhotse raises no exception class of its own
        raise PrepareError(f"{path}: cannot be read as a CutSet ({error})") from error
    folder = args.out.resolve() / "cuts"
    items = []
    for cut in track(cuts, f"reading {path.name}", console=Console(stderr=True), transient=True):
        try:
            labels = _labels(cut)
            file = folder / f"{path.name.split('.')[0]}/{_file_name(cut.id)}.flac"
            _write(cut, file, args.sample_rate)
        except (PrepareError, AudioError) as error:
            skipped.append(f"{path}: cut {cut.id}: {error}")
            continue
        labels |= {"kind": "speech", "split": split, "source": path.name.split(".")[0], "licence": args.licence}
        items.append(Item((AudioFile(file, "cuts", PurePosixPath(file.relative_to(folder).as_posix())),), labels))
    return items


def _labels(cut: Any) -> dict[str, Any]:
    if not isinstance(cut, MonoCut | MultiCut) or cut.recording is None:
        raise PrepareError("is mixed or has no recording")
    found: dict[str, list[str]] = {"speaker": [], "language": [], "text": []}
    for supervision in sorted(cut.supervisions, key=lambda supervision: supervision.start):
        for name, values in found.items():
            if value := getattr(supervision, name):
                values.append(str(value))
    if len(set(found["speaker"])) != 1:
        raise PrepareError(f"has {len(set(found['speaker']))} speakers in its supervisions, expected one")
    languages = set(found["language"])
    return {
        "speaker": found["speaker"][0],
        "language": languages.pop() if len(languages) == 1 else None,
        "text": " ".join(found["text"]) or None,
    }


def _write(cut: Any, file: Path, sample_rate: int) -> None:
    """Write the cut as a file, unless it exists."""
    try:
        if abs(audio_info(file).duration_s - cut.duration) < 0.01 and audio_info(file).sample_rate == sample_rate:
            return
    except AudioError:
        pass
    try:
        audio = cut.load_audio()
    except Exception as error:  # its readers raise exceptions of many classes
        raise PrepareError(f"cannot be read ({error})") from error
    file.parent.mkdir(parents=True, exist_ok=True)
    write_audio(file, resample(audio.mean(axis=0, keepdims=True), cut.sampling_rate, sample_rate), sample_rate)


def _file_name(identity: str) -> str:
    if not re.fullmatch(r"[\w.+-]+", identity) or identity.startswith("."):
        raise PrepareError("its id is not a valid file name; use letters, digits and -_.+ only")
    return identity
