"""Options of several commands."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hushwork.streaming.strength import Strength

MODEL_HELP = "default, small or offline (part of hushwork), last (the newest below ./runs), or a model folder"
FIXED_MIXTURES = (  # the settings that determine the mixtures for validation and test
    *("data", "data.manifest", "data.train_also", "data.replay*", "data.eval_*", "data.cache*"),
    *("experiment", "paths.*"),
)


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help=f"{MODEL_HELP}; default $HUSHWORK_MODEL, else default")


def add_strength(parser: argparse.ArgumentParser) -> None:
    purposes = "listening (default, full strength), or asr: for speech recognisers, --mix 0.8"
    parser.add_argument("--for", dest="purpose", choices=("listening", "asr"), default="listening", help=purposes)
    parser.add_argument("--mix", type=float, help="share of the denoised signal, 0 to 1 (default: by --for; else 1)")
    parser.add_argument(
        "--max-attenuation-db", type=float, metavar="DB", help="the most that a frequency is attenuated"
    )
    gate = "fade out sound that stays below this level, relative to full scale, such as -50 (default: off)"
    parser.add_argument("--gate", type=float, metavar="DB", help=gate)
    parser.add_argument("--noise-only", action="store_true", help="write the removed noise instead of the speech")


def strength_of(options: argparse.Namespace) -> Strength:
    from dataclasses import replace

    from hushwork.streaming.strength import PURPOSES

    given = {"mix": options.mix, "max_attenuation_db": options.max_attenuation_db, "gate_db": options.gate}
    given = {name: value for name, value in given.items() if value is not None}
    return replace(PURPOSES[options.purpose], noise_only=options.noise_only, **given)
