"""Build a speech and noise corpus from Debian packages: voice prompts, talking games and their sounds.

Run on a Debian or Ubuntu machine (or container) with ``apt-get update`` done once:

    hushwork prepare debian --size small     # under 300 MB of downloads
    hushwork prepare debian                  # about 7.3 GB of downloads

It downloads packages with apt, unpacks their audio, and writes 16 kHz mono FLAC files with one ``manifest.jsonl``.
Speech is checked for bandwidth, clipping and noise; recordings of volunteers pass a mild noise gate; clips are
trimmed, brought to -26 dBFS and joined to files of 6 to 10 s. Noise is sorted into classes by name, and dropped if a
voice activity detector hears speech in it. No speaker and no noise source is in two splits. The rules are in
``debian_rules.toml``. An interrupted run continues where it stopped; equal packages give equal bytes.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import multiprocessing
import os
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from hushwork.data.manifest import SPLITS, load_manifest, write_manifest
from hushwork.prepare.debian_packages import (
    MEGABYTE,
    Deb,
    Inventory,
    Place,
    PreparationError,
    check_space,
    check_tools,
    download,
    find_debs,
    kept_copyright,
    read_inventory,
    unpack,
    write_json,
)
from hushwork.prepare.debian_recordings import (
    Job,
    NoiseItem,
    NoiseJob,
    Outcome,
    Product,
    Rejected,
    SpeechJob,
    finished_outcome,
    job_key,
    run_job,
)
from hushwork.prepare.debian_rules import Package, Rules

MIN_VALID_MINUTES = 20.0  # tiers A and B in valid must reach this for tier C to be left out there
MUSIC_SPLITS = ("train", "train", "train", "valid", "test")  # in turn, piece by piece
NOISE_BATCH = 48  # recordings in a job


# ---------------------------------------------------------------- planning


@dataclass
class Plan:
    """What to make of a package, and the speakers that are left out by rule."""

    jobs: list[Job] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)


def plan_package(package: Package, inventory: Inventory, rules: Rules) -> Plan:
    """The jobs for an unpacked package."""
    plan = Plan()
    if package.speech:
        plan_speech(package, inventory, rules, plan)
    if package.noise:
        plan_noise(package, inventory, rules, plan)
    if package.music:
        items = [
            NoiseItem(path, "music", split, f"{package.name}/{PurePosixPath(path).stem}", rules.noise_weight("music"))
            for path, split in zip(inventory.files, itertools.cycle(MUSIC_SPLITS), strict=False)
        ]
        plan.jobs.append(NoiseJob(package.name, inventory.version, package.licence, 0, tuple(items)))
    return plan


def plan_speech(package: Package, inventory: Inventory, rules: Rules, plan: Plan) -> None:
    speakers: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in inventory.files:
        if named := rules.speaker(package.name, path):
            speakers[named].append(path)
    for (speaker, language), clips in sorted(speakers.items()):
        split, tier = rules.speech_split(speaker, language), rules.tier(speaker)
        reason = rules.rejected_speaker(speaker)
        if not reason and split == "test" and tier == "C":
            reason = "tier C speaker of a language in test: not clean enough to measure on"
        if reason:
            plan.rejected.append(Rejected("speech", package.name, f"{speaker} ({len(clips)} clips)", reason))
        else:
            where = (package.name, inventory.version, package.licence)
            plan.jobs.append(SpeechJob(speaker, language, split, tier, *where, tuple(clips)))


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


# ---------------------------------------------------------------- the corpus


@dataclass
class Corpus:
    """What the manifest and the reports are written from."""

    products: list[Product]
    rejected: list[Rejected]


def assemble(outcomes: Iterable[Outcome], rejected: list[Rejected]) -> Corpus:
    """Leave out copies of a recording and, if there is enough without it, tier C speech in valid."""
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
            reason = "tier C speaker of a language in valid, which has enough without"
        elif product.fingerprint in seen:
            reason = f"copy of {seen[product.fingerprint]}"
        elif product.fingerprint:
            seen[product.fingerprint] = recording.path
        if reason:
            where = product.original if recording.kind == "noise" else recording.path
            corpus.rejected.append(Rejected(recording.kind, product.package, where, reason))
        else:
            corpus.products.append(product)
    corpus.rejected.sort(key=lambda row: (row.kind, row.package, row.path, row.reason))
    return corpus


def sort_files(corpus: Corpus, place: Place) -> None:
    """Let OUT/speech and OUT/noise hold the files of the corpus and no others: these wait in WORK for a later run."""
    used = {product.recording.path for product in corpus.products}
    for path in sorted(used):
        if not (place.out / path).is_file():
            (place.out / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(place.unused(path), place.out / path)
    for folder in (place.out / "speech", place.out / "noise"):
        for file in sorted(folder.rglob("*.flac")):
            path = file.relative_to(place.out).as_posix()
            if path not in used:
                place.unused(path).parent.mkdir(parents=True, exist_ok=True)
                shutil.move(file, place.unused(path))
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
    corpus: Corpus, packages: Sequence[Package], versions: dict[str, str], place: Place, size: str
) -> None:
    """CREDITS.md with the copyright files in licences, rejected.csv and report.json."""
    missing = [package.name for package in packages if package.name not in versions]
    with (place.out / "rejected.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["kind", "package", "source", "reason"])
        writer.writerows([row.kind, row.package, row.path, row.reason] for row in corpus.rejected)
    write_json(place.out / "report.json", summarise(corpus, versions, missing, size))
    lines = [
        "# Credits",
        "",
        "The recordings of this corpus come from the Debian packages below. They were resampled, trimmed and levelled,",
        "and those of volunteers gated; their licences stay. Authors are named in the copyright files.",
        "",
        "| package | version | taken | minutes | licence | copyright file |",
        "|---|---|---|---|---|---|",
    ]
    used = [package for package in packages if package.name in versions]
    shutil.rmtree(place.out / "licences", ignore_errors=True)
    (place.out / "licences").mkdir()
    for package in used:
        if kept_copyright(package.name, place).is_file():
            shutil.copyfile(kept_copyright(package.name, place), place.out / "licences" / f"{package.name}.copyright")
    lines += [credit_line(package, versions[package.name], corpus, place) for package in used]
    if missing:
        lines += ["", f"Not found in apt and left out: {', '.join(missing)}."]
    (place.out / "CREDITS.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def credit_line(package: Package, version: str, corpus: Corpus, place: Place) -> str:
    products = [product for product in corpus.products if product.package == package.name]
    kinds = Counter(
        "music" if product.recording.noise_class == "music" else product.recording.kind for product in products
    )
    speakers = {product.recording.speaker for product in products if product.recording.speaker}
    taken = ", ".join(f"{count} {kind} files" for kind, count in sorted(kinds.items())) or "nothing"
    if speakers:
        taken += f" of {len(speakers)} speaker{'s' if len(speakers) > 1 else ''}"
    text = f"licences/{package.name}.copyright"
    text = f"[{text}]({text})" if (place.out / text).is_file() else "in a package it depends on"
    return f"| {package.name} | {version} | {taken} | {minutes(products):.1f} | {package.licence} | {text} |"


# ---------------------------------------------------------------- running


class Builder:
    """Runs the stages and keeps what is finished in WORK, so that the next run continues there."""

    def __init__(self, place: Place, size: str, workers: int, progress: Progress, rules: Rules) -> None:
        self.place, self.size, self.workers, self.progress, self.rules = place, size, workers, progress, rules
        self.packages = rules.packages(size)

    def run(self) -> Corpus:
        """Download and unpack what is needed, then process."""
        debs = find_debs(self.packages)
        for package in self.packages:
            if package.name not in debs:
                self.progress.console.print(f"warning: apt does not find {package.name}, it is left out")
        needed = [deb for deb in debs.values() if self._needs_tree(deb)]
        self._fetch(needed)
        return self.process()

    def process(self) -> Corpus:
        """Make the corpus of the packages that are unpacked."""
        versions, jobs, rejected = self._plan()
        if not any(isinstance(job, SpeechJob) for job in jobs):
            raise PreparationError("none of the packages that apt finds holds speech; run apt-get update and try again")
        outcomes = [
            *self._run_jobs("speech (clips)", jobs, SpeechJob),
            *self._run_jobs("noise (files)", jobs, NoiseJob),
        ]
        corpus = assemble(outcomes, rejected)
        sort_files(corpus, self.place)
        manifest_file = self.place.out / "manifest.jsonl"
        write_manifest(manifest_file, [product.recording for product in corpus.products])
        write_reports(corpus, self.packages, versions, self.place, self.size)
        manifest = load_manifest(manifest_file, self.place.sample_rate)
        self.progress.console.print(f"{manifest_file}: {len(manifest.recordings)} recordings, sha256 {manifest.sha256}")
        return corpus

    def _needs_tree(self, deb: Deb) -> bool:
        """Whether there is work left on this package and its files are not there."""
        inventory = read_inventory(deb.package, self.place)
        if inventory is None or inventory.version != deb.version:
            return True
        if self.place.tree(deb.package).is_dir():
            return False
        package = next(package for package in self.packages if package.name == deb.package)
        jobs = plan_package(package, inventory, self.rules).jobs
        return any(finished_outcome(job, self.place, self._marker(job)) is None for job in jobs)

    def _marker(self, job: Job) -> Path:
        return self.place.work / "done" / f"{job.name}.json"

    def _fetch(self, debs: Sequence[Deb]) -> None:
        if not debs:
            return
        total = sum(deb.size for deb in debs)
        self.progress.console.print(f"{len(debs)} packages to download and unpack, {total / MEGABYTE:.1f} MB")
        self.place.work.mkdir(parents=True, exist_ok=True)
        check_space(debs, self.place)
        download(debs, self.place, self.progress)
        task = self.progress.add_task("unpack (MB)", total=total / MEGABYTE)
        calls = [(deb, self.place) for deb in sorted(debs, key=lambda deb: -deb.size)]
        for (deb, _), _ in run_parallel(unpack, calls, self.workers):
            self.progress.update(task, advance=deb.size / MEGABYTE)

    def _plan(self) -> tuple[dict[str, str], list[Job], list[Rejected]]:
        versions, jobs, rejected = {}, [], []
        for package in self.packages:
            if inventory := read_inventory(package.name, self.place):
                versions[package.name] = inventory.version
                plan = plan_package(package, inventory, self.rules)
                jobs += plan.jobs
                rejected += plan.rejected
        return versions, jobs, rejected

    def _run_jobs(self, description: str, jobs: Sequence[Job], kind: type[Job]) -> list[Outcome]:
        """Outcomes of the jobs of one kind, from earlier runs where they are finished."""
        jobs = [job for job in jobs if isinstance(job, kind)]
        task = self.progress.add_task(description, total=sum(job.effort for job in jobs))
        outcomes, pending = [], []
        for job in jobs:
            if outcome := finished_outcome(job, self.place, self._marker(job)):
                outcomes.append(outcome)
                self.progress.update(task, advance=job.effort)
            else:
                pending.append((job, self.place))
        pending.sort(key=lambda call: -call[0].effort)  # long ones first, so that no worker is left alone at the end
        for (job, _), outcome in run_parallel(run_job, pending, self.workers):
            write_json(self._marker(job), {"key": job_key(job, self.place), "outcome": asdict(outcome)})
            outcomes.append(outcome)
            self.progress.update(task, advance=job.effort)
        return outcomes


def run_parallel(function: Callable[..., Any], calls: Sequence[tuple], workers: int) -> Iterator[tuple[tuple, Any]]:
    """Each of ``calls`` (argument tuples) with its result, in the order in which they finish."""
    if workers <= 1 or len(calls) <= 1:
        for call in calls:
            yield call, function(*call)
        return
    # Forked workers would inherit the locks of the progress display's thread.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(function, *call): call for call in calls}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="hushwork prepare debian", description="Build a speech and noise corpus from Debian packages."
    )
    parser.add_argument("--out", type=Path, default=Path("data/debian"), help="folder of the corpus (%(default)s)")
    parser.add_argument("--work", type=Path, help="folder of downloads and unpacked packages (OUT/.work)")
    parser.add_argument("--keep-work", action="store_true", help="keep downloads and unpacked packages at the end")
    parser.add_argument(
        "--size",
        choices=("small", "full"),
        default="full",
        help="small downloads under 300 MB, full 7.3 GB (%(default)s)",
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (%(default)s)")
    parser.add_argument("--sample-rate", type=int, default=16000, help="Hz; most sources have 16000 (%(default)s)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    place = Place(options.out, options.work or options.out / ".work", options.sample_rate)
    columns = (
        TextColumn("{task.description:16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    try:
        check_tools()
        place.out.mkdir(parents=True, exist_ok=True)
        with Progress(*columns) as progress:
            Builder(place, options.size, options.jobs, progress, Rules.load()).run()
        if not options.keep_work:
            for folder in ("debs", "unpacked"):
                shutil.rmtree(place.work / folder, ignore_errors=True)
    except PreparationError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
