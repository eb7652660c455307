"""Prepare LibriSpeech with noise from a folder, to be mixed in training.

LibriSpeech (V. Panayotov et al., 2015, https://www.openslr.org/12, CC BY 4.0, 16 kHz) is laid out as

    ROOT/LibriSpeech/train-clean-100/84/121123/84-121123-0000.flac
    NOISE/rain/roof.wav    (the first folder is the class of noise; each file is in one split)

The name of a subset determines its split: train-…, dev-… (valid) or test-….
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from torchaudio.datasets import LIBRISPEECH

from hushwork.prepare.corpus import add_split_options, corpus_parser, run
from hushwork.prepare.items import AudioFile, Item, PrepareError, noise_items

SUBSETS = (
    "train-clean-100", "train-clean-360", "train-other-500", "dev-clean", "dev-other", "test-clean", "test-other",
)  # fmt: skip
DEFAULT_SUBSETS = ["train-clean-100", "dev-clean", "test-clean"]
SPLITS = {"train": "train", "dev": "valid", "test": "test"}


def main(argv: Sequence[str] | None = None) -> int:
    parser = corpus_parser(__doc__, "librispeech")
    parser.add_argument("--root", type=Path, required=True, help="the folder that holds the folder LibriSpeech")
    text = f"of {', '.join(SUBSETS)} (default: {' '.join(DEFAULT_SUBSETS)})"
    parser.add_argument("--subsets", nargs="+", choices=SUBSETS, default=DEFAULT_SUBSETS, metavar="SUBSET", help=text)
    parser.add_argument("--download", action="store_true", help="fetch missing subsets (train-clean-100: 6.3 GB)")
    parser.add_argument("--noise", type=Path, required=True, metavar="DIR", help="the noise")
    parser.add_argument("--noise-licence", default="unknown", help="default: %(default)s")
    add_split_options(parser, 0.1)
    return run(parser.parse_args(argv), find_items)


def find_items(args: argparse.Namespace, skipped: list[str]) -> list[Item]:
    root = args.root.resolve()
    if root.name == "LibriSpeech" and not (root / "LibriSpeech").is_dir():
        root = root.parent
    items = [item for subset in args.subsets for item in _subset_items(root, subset, args.download, skipped)]
    return items + noise_items(args.noise, args.noise_licence)


def _subset_items(root: Path, subset: str, download: bool, skipped: list[str]) -> list[Item]:
    if download:
        root.mkdir(parents=True, exist_ok=True)
    try:
        corpus = LIBRISPEECH(root, subset, download=download)
    except RuntimeError as error:
        raise PrepareError(
            f"{root / 'LibriSpeech' / subset}: cannot be opened ({error}). Unpack {subset}.tar.gz from "
            "https://www.openslr.org/12 into --root, or add --download"
        ) from error
    if len(corpus) == 0:
        raise PrepareError(
            f"{root / 'LibriSpeech' / subset}: no SPEAKER/CHAPTER/*.flac in it; unpack {subset}.tar.gz again"
        )
    items = []
    for index in range(len(corpus)):
        try:
            # Only the metadata: decoding by torchaudio would need TorchCodec.
            name, _, _, speaker, _, _ = corpus.get_metadata(index)
        except (OSError, ValueError) as error:
            skipped.append(f"{root / 'LibriSpeech' / subset}: recording {index + 1} in the order of names: {error}")
            continue
        file = AudioFile(root / "LibriSpeech" / name, "speech", PurePosixPath(name))
        labels = {"kind": "speech", "split": SPLITS[subset.split("-")[0]], "source": f"LibriSpeech/{subset}"}
        labels |= {"licence": "CC-BY-4.0", "speaker": str(speaker), "language": "en"}
        items.append(Item((file,), labels))
    return items
