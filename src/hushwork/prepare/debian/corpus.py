"""The finished corpus: copies removed, files moved to their places, credits and reports."""

from __future__ import annotations

import csv
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hushwork.data.recordings import SPLITS
from hushwork.markdown import markdown_table
from hushwork.prepare.debian.jobs import Outcome, Product, Rejected
from hushwork.prepare.debian.packages import Workspace, kept_copyright, write_json
from hushwork.prepare.debian.rules import Package

MIN_VALID_MINUTES = 20.0  # of tiers A and B in valid; from there on tier C is not needed


@dataclass
class Corpus:
    """Recordings of the corpus and rejected ones, for manifest and reports."""

    products: list[Product]
    rejected: list[Rejected]


def assemble(outcomes: Iterable[Outcome], rejected: list[Rejected]) -> Corpus:
    """Reject copies of a recording and, if tiers A and B suffice, tier C speech in valid."""
    outcomes = list(outcomes)
    corpus = Corpus([], rejected + [row for outcome in outcomes for row in outcome.rejected])
    products = sorted((product for outcome in outcomes for product in outcome.products), key=lambda p: p.recording.path)
    clean_valid_s = sum(
        product.recording.duration_s
        for product in products
        if product.recording.split == "valid" and product.tier in ("A", "B")
    )
    seen: dict[str, str] = {}
    for product in products:
        recording, reason = product.recording, None
        if product.tier == "C" and recording.split == "valid" and clean_valid_s >= 60 * MIN_VALID_MINUTES:
            reason = "tier C speech in valid, where tiers A and B suffice"
        elif product.fingerprint in seen:
            reason = f"copy of {seen[product.fingerprint]}"
        elif product.fingerprint:
            seen[product.fingerprint] = recording.path
        if reason:
            path = product.original if recording.kind == "noise" else recording.path
            corpus.rejected.append(Rejected(recording.kind, product.package, path, reason))
        else:
            corpus.products.append(product)
    corpus.rejected.sort(key=lambda row: (row.kind, row.package, row.path, row.reason))
    return corpus


def sort_files(corpus: Corpus, workspace: Workspace) -> None:
    """Move files between OUT and WORK so that OUT holds those of the corpus, and WORK the others for later runs."""
    used = {product.recording.path for product in corpus.products}
    for path in sorted(used):
        if not (workspace.out / path).is_file():
            (workspace.out / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(workspace.unused(path), workspace.out / path)
    for folder in (workspace.out / "speech", workspace.out / "noise"):
        for file in sorted(folder.rglob("*.flac")):
            path = file.relative_to(workspace.out).as_posix()
            if path not in used:
                workspace.unused(path).parent.mkdir(parents=True, exist_ok=True)
                shutil.move(file, workspace.unused(path))
        for file in sorted(folder.rglob("*"), reverse=True):
            if file.is_dir() and not any(file.iterdir()):
                file.rmdir()


def minutes(products: Iterable[Product]) -> float:
    return round(sum(product.recording.duration_s for product in products) / 60, 2)


def grouped_minutes(products: Iterable[Product], key: Callable[[Product], str]) -> dict[str, dict[str, float]]:
    """Minutes by ``key`` and split."""
    groups: dict[tuple[str, str], list[Product]] = defaultdict(list)
    for product in products:
        groups[key(product), product.recording.split].append(product)
    table: dict[str, dict[str, float]] = defaultdict(dict)
    for name, split in sorted(groups, key=lambda group: (group[0], SPLITS.index(group[1]))):
        table[name][split] = minutes(groups[name, split])
    return dict(table)


def summarise(corpus: Corpus, versions: dict[str, str], missing: Sequence[str], size: str) -> dict[str, Any]:
    speech = [product for product in corpus.products if product.recording.kind == "speech"]
    noise = [product for product in corpus.products if product.recording.kind == "noise"]
    speakers = {product.recording.speaker: product for product in speech}.values()
    return {
        "size": size,
        "speech_minutes": grouped_minutes(speech, lambda product: "all"),
        "speech_minutes_by_tier": grouped_minutes(speech, lambda product: str(product.tier)),
        "speech_active_minutes": round(sum(product.active_s or 0 for product in speech) / 60, 2),
        "speakers": dict(Counter(product.recording.split for product in speakers)),
        "speakers_by_tier": dict(sorted(Counter(f"{p.tier} {p.recording.split}" for p in speakers).items())),
        "noise_minutes": grouped_minutes(noise, lambda product: "all"),
        "noise_minutes_by_class": grouped_minutes(noise, lambda product: str(product.recording.noise_class)),
        "noise_files": dict(Counter(product.recording.split for product in noise)),
        "rejected": len(corpus.rejected),
        "packages": versions,
        "packages_not_found": list(missing),
    }


def write_reports(
    corpus: Corpus, packages: Sequence[Package], versions: dict[str, str], workspace: Workspace, size: str
) -> None:
    """Write rejected.csv, report.json, CREDITS.md and the copyright files in licences."""
    missing = [package.name for package in packages if package.name not in versions]
    with (workspace.out / "rejected.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["kind", "package", "source", "reason"])
        writer.writerows([row.kind, row.package, row.path, row.reason] for row in corpus.rejected)
    write_json(workspace.out / "report.json", summarise(corpus, versions, missing, size))
    lines = [
        "# Credits",
        "",
        "The recordings of this corpus come from the Debian packages below. They were resampled, trimmed and levelled,",
        "and those of volunteers noise-gated, or cleaned by DeepFilterNet 3 where the manifest's sources say so; their",
        "licences still apply. The copyright files name the authors.",
        "",
    ]
    used = [package for package in packages if package.name in versions]
    shutil.rmtree(workspace.out / "licences", ignore_errors=True)
    (workspace.out / "licences").mkdir()
    for package in used:
        if kept_copyright(package.name, workspace).is_file():
            shutil.copyfile(
                kept_copyright(package.name, workspace), workspace.out / "licences" / f"{package.name}.copyright"
            )
    names = ["package", "version", "used", "minutes", "licence", "copyright file"]
    lines.append(
        markdown_table(names, [credit(package, versions[package.name], corpus, workspace) for package in used])
    )
    if missing:
        lines += ["", f"Skipped, as apt does not find them: {', '.join(missing)}."]
    (workspace.out / "CREDITS.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def credit(package: Package, version: str, corpus: Corpus, workspace: Workspace) -> list[str]:
    products = [product for product in corpus.products if product.package == package.name]
    kinds = Counter(
        "music" if product.recording.noise_class == "music" else product.recording.kind for product in products
    )
    speakers = {product.recording.speaker for product in products if product.recording.speaker}
    used = ", ".join(f"{count} {kind} files" for kind, count in sorted(kinds.items())) or "nothing"
    if speakers:
        used += f" of {len(speakers)} speaker{'s' if len(speakers) > 1 else ''}"
    file = f"licences/{package.name}.copyright"
    link = f"[{file}]({file})" if (workspace.out / file).is_file() else "in a package it depends on"
    return [package.name, version, used, f"{minutes(products):.1f}", package.licence, link]
