"""The jobs for each package, and the speakers that the rules exclude."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from hushwork.prepare.debian.jobs import Job, NoiseItem, NoiseJob, Rejected, SpeechJob
from hushwork.prepare.debian.packages import Inventory
from hushwork.prepare.debian.rules import Package, Rules

MUSIC_SPLITS = ("train", "train", "train", "valid", "test")  # in turn, piece by piece
NOISE_BATCH = 48  # recordings in a job


@dataclass
class Plan:
    """The jobs for a package, and the speakers that the rules exclude."""

    jobs: list[Job] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)


def plan_package(package: Package, inventory: Inventory, rules: Rules, *, restore: bool) -> Plan:
    """The jobs for an unpacked package; ``restore``: clean the noisy speech to train on."""
    plan = Plan()
    if package.speech:
        plan_speech(package, inventory, rules, plan, restore=restore)
    if package.noise:
        plan_noise(package, inventory, rules, plan)
    if package.music:
        items = [
            NoiseItem(path, "music", split, f"{package.name}/{PurePosixPath(path).stem}", rules.noise_weight("music"))
            for path, split in zip(inventory.files, itertools.cycle(MUSIC_SPLITS), strict=False)
        ]
        plan.jobs.append(NoiseJob(package.name, inventory.version, package.licence, 0, tuple(items)))
    return plan


def plan_speech(package: Package, inventory: Inventory, rules: Rules, plan: Plan, *, restore: bool) -> None:
    speakers: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in inventory.files:
        if speaker_and_language := rules.speaker(package.name, path):
            speakers[speaker_and_language].append(path)
    for (speaker, language), clips in sorted(speakers.items()):
        split, tier = rules.speech_split(speaker, language), rules.tier(speaker)
        reason = rules.rejected_speaker(speaker)
        if not reason and split == "test" and tier == "C":
            reason = "tier C speaker of a language in test: not clean enough to measure on"
        if reason:
            plan.rejected.append(Rejected("speech", package.name, f"{speaker} ({len(clips)} clips)", reason))
        else:
            origin = (package.name, inventory.version, package.licence)
            restored = restore and split == "train" and tier in ("C", "N")
            plan.jobs.append(SpeechJob(speaker, language, split, tier, *origin, tuple(clips), restored))


def plan_noise(package: Package, inventory: Inventory, rules: Rules, plan: Plan) -> None:
    assert package.noise is not None
    items: list[NoiseItem] = []
    clicks: list[NoiseItem] = []
    for path in inventory.files:
        if noise_class := rules.noise_class(package.name, path):
            weight = rules.noise_weight(noise_class)
            item = NoiseItem(path, noise_class, package.noise, package.name, weight)
            (clicks if rules.is_key_click(package.name, noise_class) else items).append(item)
    for number, start in enumerate(range(0, len(items), NOISE_BATCH)):
        batch = tuple(items[start : start + NOISE_BATCH])
        plan.jobs.append(NoiseJob(package.name, inventory.version, package.licence, number, batch))
    if clicks:
        plan.jobs.append(NoiseJob(package.name, inventory.version, package.licence, 0, tuple(clicks), typing=True))
