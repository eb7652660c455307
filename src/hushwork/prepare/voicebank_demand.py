"""Prepare VoiceBank+DEMAND: pairs of clean and noisy speech, with the published test set.

The corpus is "Noisy speech database for training speech enhancement algorithms and TTS models" by
C. Valentini-Botinhao (University of Edinburgh, 2017, https://doi.org/10.7488/ds/2117), CC BY 4.0, 48 kHz. Download its
archives and unpack them side by side; nothing is downloaded here:

    ROOT/clean_trainset_28spk_wav/p226_001.wav    ROOT/noisy_trainset_28spk_wav/p226_001.wav
    ROOT/clean_testset_wav/p232_001.wav           ROOT/noisy_testset_wav/p232_001.wav
    ROOT/log_trainset_28spk.txt, ROOT/log_testset.txt (optional; they name the noise and the SNR of each file)
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hushwork.prepare.corpus import corpus_parser, run
from hushwork.prepare.items import AudioFile, Item, PrepareError, find_audio, match_pairs

# Customary in the literature, though both are men: 10802 pairs are left to train, 770 to validate.
VALID_SPEAKERS = ("p226", "p287")


def main(argv: Sequence[str] | None = None) -> int:
    parser = corpus_parser(__doc__, "voicebank_demand")
    parser.add_argument("--root", type=Path, required=True, help="the folder with the unpacked archives")
    parser.add_argument("--trainset", choices=("28spk", "56spk"), default="28spk", help="default: %(default)s")
    text = "training speakers to validate on (default: p226 p287; of 56spk, which lacks them, the first two)"
    parser.add_argument("--valid-speakers", nargs="+", metavar="SPEAKER", help=text)
    return run(parser.parse_args(argv), find_items)


def find_items(args: argparse.Namespace, skipped: list[str]) -> list[Item]:
    train = match_pairs(*_sides(args.root, f"trainset_{args.trainset}"), skipped)
    test = match_pairs(*_sides(args.root, "testset"), skipped)
    speakers = sorted({_speaker(clean) for clean, _ in train})
    valid = args.valid_speakers or (VALID_SPEAKERS if set(VALID_SPEAKERS) <= set(speakers) else speakers[:2])
    if not set(valid) < set(speakers):
        raise PrepareError(f"{args.root}: can validate on some, not all, of {' '.join(speakers)}; set --valid-speakers")
    items = []
    for pairs, log in ((train, f"log_trainset_{args.trainset}.txt"), (test, "log_testset.txt")):
        conditions = _read_log(args.root, log)
        for clean, noisy in pairs:
            speaker = _speaker(clean)
            noise_class, snr_db = conditions.get(clean.stem, (None, None))
            split = "test" if pairs is test else "valid" if speaker in valid else "train"
            labels: dict[str, Any] = {"kind": "pair", "split": split, "source": "VoiceBank+DEMAND"}
            labels |= {"licence": "CC-BY-4.0", "language": "en", "speaker": speaker}
            labels |= {"noise_class": noise_class, "snr_db": snr_db}
            items.append(Item((clean, noisy), labels))
    return items


def _speaker(file: AudioFile) -> str:
    return file.path.name.split("_")[0]


def _sides(root: Path, name: str) -> tuple[list[AudioFile], list[AudioFile]]:
    """The clean and the noisy files of one set. Copies at 16 kHz often carry a suffix; the original goes first."""
    folders = []
    for side in ("clean", "noisy"):
        found = sorted(path for path in root.glob(f"{side}_{name}*") if path.is_dir())
        if not found:
            raise PrepareError(f"{root / f'{side}_{name}_wav'}: no such folder. {__doc__}")
        folders.append(found[0])
    clean, noisy = (find_audio(folder, folder.name) for folder in folders)
    return clean, noisy


def _read_log(root: Path, name: str) -> dict[str, tuple[str, float]]:
    """Noise and SNR in dB by file, from lines such as ``p226_001 babble 15``; empty if there is no such log."""
    conditions = {}
    for path in [*root.glob(name), *root.glob(f"*/{name}")][:1]:
        for line in filter(None, path.read_text(encoding="utf-8").splitlines()):
            try:
                file, noise, snr_db = line.split()
                conditions[file] = (noise, float(snr_db))
            except ValueError as error:
                raise PrepareError(f"{path}: {line!r} is not like 'p226_001 babble 15'; repair or remove it") from error
    return conditions
