"""Outcomes of the jobs of a sweep."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException


class SweepError(CompactHydraException):
    """A sweep cannot start, or not all of its trials succeeded."""


class PrunedError(Exception):
    """A trial was ended by its search's pruner."""


def error_of(job: JobReturn) -> Exception | None:
    """The exception that ended a job; None if it completed."""
    return job._return_value if job.status is JobStatus.FAILED else None  # the public property prints and raises


def raise_failures(jobs: Sequence[JobReturn]) -> None:
    """Raises:
    SweepError: jobs failed, with their folders and errors; those that were pruned do not count.
    """
    jobs = [job for job in jobs if not isinstance(error_of(job), PrunedError)]
    failed = {job.hydra_cfg.hydra.runtime.output_dir: error_of(job) for job in jobs if job.hydra_cfg and error_of(job)}
    if failed:
        lines = [f"  {folder}: {type(error).__name__}: {error}" for folder, error in failed.items()]
        first = next(iter(failed.values()))
        raise SweepError("\n".join([f"{len(failed)} of {len(jobs)} trials failed:", *lines])) from first
