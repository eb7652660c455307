"""``hushwork parity``: compare all ways of running a model."""

from __future__ import annotations

import argparse
from typing import Any

from hushwork.cli.common import MODEL_HELP


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "parity",
        help="compare all ways of running a model",
        description="Denoise a recording in every way (torch if installed, graphs, chunks, stream) and print how far "
        "they differ, in dB relative to the signal. Exit status 1 if any is above -80 dB.",
    )
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("audio", metavar="AUDIO", help="a recording; its first minute is used")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    import importlib.util

    from hushwork.audio.io import audio_info, read_audio, resample
    from hushwork.network.pretrained import load_pretrained
    from hushwork.streaming.parity import WORST_DB, difference_db, run_all

    model = load_pretrained(options.model)
    audio, rate = read_audio(options.audio, num_samples=60 * audio_info(options.audio).sample_rate)
    audio = resample(audio, rate, model.sample_rate)
    results = run_all(model, audio)
    if importlib.util.find_spec("torch"):
        import torch

        from hushwork.models.export import load_for_training

        with torch.inference_mode():
            results = {"torch": load_for_training(options.model)(torch.from_numpy(audio)).numpy(), **results}
    reference = next(iter(results))
    worst = float("-inf")
    for name in list(results)[1:]:
        decibels = difference_db(results[name], results[reference])
        worst = max(worst, decibels)
        print(f"{name:15} {decibels:7.1f} dB from {reference}")
    return 1 if worst > WORST_DB else 0
