"""Prepare the Microsoft DNS Challenge: clean speech and noise to be mixed, and the 2020 synthetic test set as pairs.

Download it with the scripts of https://github.com/microsoft/DNS-Challenge; nothing is downloaded here. The
first of these layouts that exists below ROOT is used:

    datasets_fullband/clean_fullband/*/**.wav   or   datasets/clean/**.wav   or   clean/**.wav
    datasets_fullband/noise_fullband/*.wav      or   datasets/noise/*.wav    or   noise/*.wav
    test_set/synthetic/no_reverb/clean/clean_fileid_12.wav   (optional, also below datasets/)
    test_set/synthetic/no_reverb/noisy/clnsp102_traffic_248091_3_snr5_tl-21_fileid_12.wav
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hushwork.prepare.corpus import add_speaker_option, add_split_options, corpus_parser, run
from hushwork.prepare.items import AudioFile, Item, PrepareError, find_audio, match_pairs, speaker_of

CLEAN = ("datasets_fullband/clean_fullband", "clean_fullband", "datasets/clean", "clean")
NOISE = ("datasets_fullband/noise_fullband", "noise_fullband", "datasets/noise", "noise")
TEST = ("datasets/test_set/synthetic/no_reverb", "test_set/synthetic/no_reverb")
LANGUAGES = {"read": "en", "french": "fr", "german": "de", "italian": "it", "russian": "ru", "spanish": "es"}
PUBLIC_DOMAIN = "LicenseRef-LibriVox-public-domain"
MIXED = "LicenseRef-DNS-Challenge"  # the README of the challenge lists the licences of its corpora

# Speakers in the names of clean files: LibriVox, OpenSLR, VCTK, VocalSet, CREMA-D.
SPEAKERS = re.compile(
    r"book_\d+_chp_\d+_(reader_\d+)|(SLR\d+_\w*?_[a-z]{3}_\d{5})_|^(p\d{3})_|^([fm]\d+)_|^(\d{4})_[A-Z]{3}_"
)
CUT_NUMBERS = re.compile(r"([_-](seg)?f?\d+)+$")
FREESOUND = re.compile(r"(.+)_Freesound_validated_(.+?)(_\d+)?")
FILE_ID = re.compile(r"fileid_(\d+)$")
TEST_NOISY = re.compile(r"(clnsp\d+)_(?:([a-z_]+)_\d+_\d+|.+)_snr(-?\d+)_")


def main(argv: Sequence[str] | None = None) -> int:
    parser = corpus_parser(__doc__, "dns")
    parser.add_argument("--root", type=Path, required=True, help="the folder with the challenge's data")
    parser.add_argument("--clean", type=Path, metavar="DIR", help="the clean speech, if not where expected below ROOT")
    parser.add_argument("--noise", type=Path, metavar="DIR", help="the noise, if not where expected below ROOT")
    add_speaker_option(parser)
    add_split_options(parser, 0.05)
    return run(parser.parse_args(argv), find_items)


def find_items(args: argparse.Namespace, skipped: list[str]) -> list[Item]:
    def speaker(file: AudioFile) -> str:
        return speaker_of(file, args.speaker_pattern) if args.speaker_pattern else speaker_by_name(file)

    clean = find_audio(args.clean or _first(args.root, CLEAN, "--clean"), "clean")
    noise = find_audio(args.noise or _first(args.root, NOISE, "--noise"), "noise")
    items = []
    for file in clean:
        group = file.folders[0] if file.folders else "clean"
        labels = {"kind": "speech", "split": file.split, "speaker": speaker(file), "source": f"DNS-Challenge/{group}"}
        labels["licence"] = PUBLIC_DOMAIN if "_reader_" in file.path.name else MIXED
        items.append(Item((file,), labels | {"language": LANGUAGES.get(group.split("_")[0])}))
    for file in noise:
        noise_class, source, licence = noise_by_name(file)
        labels = {"kind": "noise", "split": file.split, "source": source, "licence": licence}
        items.append(Item((file,), labels | {"noise_class": noise_class}))
    test = next((args.root / name for name in TEST if (args.root / name).is_dir()), None)
    return items + (_test_pairs(test, skipped) if test else [])


def speaker_by_name(file: AudioFile) -> str:
    """The speaker in the file's name; or else its path without trailing numbers, so that cuts get one name."""
    match = SPEAKERS.search(file.path.stem)
    return match[match.lastindex or 0] if match else CUT_NUMBERS.sub("", file.stem)


def noise_by_name(file: AudioFile) -> tuple[str, str, str]:
    """Noise class, source and licence. ``door_Freesound_validated_235661_0``, ``…_1``, … are cuts of one source."""
    if match := FREESOUND.fullmatch(file.path.stem):
        return match[1], f"freesound/{match[2]}", "CC0-1.0"
    return "audioset", f"audioset/{file.stem}", "CC-BY-4.0"


def _test_pairs(folder: Path, skipped: list[str]) -> list[Item]:
    def file_id(file: AudioFile) -> str:
        if not (match := FILE_ID.search(file.path.stem)):
            raise PrepareError(f"{file.path}: expected a name that ends in fileid_NUMBER; move it out of the test set")
        return match[1]

    clean_files, noisy_files = (find_audio(folder / side, f"test_set/{side}") for side in ("clean", "noisy"))
    items = []
    for clean, noisy in match_pairs(clean_files, noisy_files, skipped, file_id):
        match = TEST_NOISY.match(noisy.path.stem)
        labels: dict[str, Any] = {
            "kind": "pair",
            "split": "test",
            "source": "DNS-Challenge/2020 no_reverb",
            "licence": MIXED,
        }
        labels |= {"speaker": clean.path.stem}
        if match:
            labels |= {"speaker": match[1], "noise_class": match[2] or "audioset", "snr_db": float(match[3])}
        items.append(Item((clean, noisy), labels))
    return items


def _first(root: Path, names: Sequence[str], option: str) -> Path:
    if found := next((root / name for name in names if (root / name).is_dir()), None):
        return found
    raise PrepareError(
        f"{root}: has none of the folders {', '.join(names)}; give {option} DIR, or use one of these layouts. {__doc__}"
    )
