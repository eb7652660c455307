"""The results of a batch as one HTML page with players and spectrograms, the worst files first.

The page needs no server and no network; it links to the recordings where they are. Remote files are fetched one by one
to be compared; players get copies of the worst, since browsers open few kinds of URLs.
"""

from __future__ import annotations

import base64
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from hushwork.atomic import write_atomically
from hushwork.audio.io import resample
from hushwork.audio.remote import URL, fetch, is_remote, is_url
from hushwork.files import comparison
from hushwork.files.comparison import EXCERPT_S, Judge, Measures, draw, measure, write_sounds
from hushwork.files.job import Outcome
from hushwork.judges import distill_mos, dnsmos
from hushwork.streaming.recordings import FAILURES

GENERATOR = b'<meta name="generator" content="hushwork">'
ILLUSTRATED = 50
PLAYED_BY_BROWSERS = ("http:", "https:", "file:")
MAX_NAME = 255  # bytes in the name of a file or folder
MAX_WINDOWS = 3
"""Seconds of a file that a judge scores: scores take longer than the rest of the report."""
JUDGES: dict[str, tuple[str, float, Judge]] = {
    "DistillMOS": ("distillmos", distill_mos.WINDOW_S, distill_mos.distill_mos),
    "DNSMOS": ("speechmos", dnsmos.WINDOW_S, lambda audio, sample_rate: dnsmos.dnsmos(audio, sample_rate)["ovrl"]),
}
"""Networks that predict ratings of listeners: package, seconds of a window, and the score of a window at 16 kHz."""


def check_page(path: str | Path, *, overwrite: bool = False) -> None:
    """Refuse, before any work, a file that :func:`write_report` should not write.

    Raises:
        ValueError: its name does not end in .html or is a URL, or it exists, is no hushwork report, and must not be
            overwritten.
    """
    if is_url(str(path)):
        raise ValueError(f"{path}: the report is written to a local file; name one, and upload it afterwards")
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"{path}: the report is a web page; give it a name that ends in .html")
    if path.is_dir():
        raise ValueError(f"{path}: is a folder, expected a file name for the report")
    if path.exists() and not overwrite and GENERATOR not in path.read_bytes()[:1000]:
        raise ValueError(f"{path}: exists already; choose another file for the report, or --overwrite")


def write_report(
    path: str | Path,
    outcomes: Sequence[Outcome],
    run: Mapping[str, str],
    *,
    illustrated: int = ILLUSTRATED,
    progress: Callable[[float], object] | None = None,
) -> None:
    """Write the page ``path`` on denoised files; an existing one is replaced.

    Files that failed come first, then the others, the worst first: those that may have lost speech, by how much; then
    by the score after denoising of the first judge installed; then by the estimated SNR. The worst get spectrograms,
    and in the folder :func:`files_folder` beside the page FLAC files of the removed signal and copies of remote
    recordings.

    Args:
        path: ends in .html; its folder is made.
        outcomes: of :func:`hushwork.files.denoise.denoise_files`.
        run: facts of the run by name, which the page shows: model, settings, date.
        illustrated: how many of the worst files get spectrograms and removed signals.
        progress: called with the share done since the last call; in all 1.

    Raises:
        ValueError: see :func:`check_page`.
        OSError: the page or a file of its folder cannot be written.
    """
    path = Path(path)
    check_page(path, overwrite=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    judges = {name: partial(_mean_score, name) for name, (package, *_) in JUDGES.items() if find_spec(package)}
    failed = [(outcome.source, outcome.error) for outcome in outcomes if outcome.error]
    written = [outcome for outcome in outcomes if not outcome.error]
    step = 1 / max(1, len(written) + min(illustrated, len(written)))

    entries: list[_Entry] = []
    for outcome in written:
        try:
            with _near(outcome) as (source, target):
                entries.append(_Entry(outcome, measure(source, target, judges)))
        except FAILURES as error:
            failed.append((outcome.source, f"was denoised, but could not be compared ({error})"))
        if progress:
            progress(step)
    entries.sort(key=_Entry.badness)
    for rank, entry in enumerate(entries[:illustrated], 1):
        entry.illustrate(files_folder(path), rank)
        if progress:
            progress(step)

    with write_atomically(path) as part:
        part.write_text(_page(path.parent, entries, failed, run), encoding="utf-8")


def files_folder(page: str | Path) -> Path:
    """The folder of a page's audio: ``<stem>_files`` beside it, the stem cut to the longest name of a folder."""
    page, stem = Path(page), Path(page).stem
    while len(os.fsencode(f"{stem}_files")) > MAX_NAME:
        stem = stem[:-1]
    return page.with_name(f"{stem}_files")


def _mean_score(name: str, audio: np.ndarray, sample_rate: int) -> float:
    """The score of a judge, the mean of a few windows spread over the recording (N,)."""
    _, window_s, score = JUDGES[name]
    audio = resample(audio, sample_rate, 16000)
    size = round(window_s * 16000)
    count = min(MAX_WINDOWS, math.ceil(len(audio) / size))
    if len(audio) < size:
        audio = np.resize(audio, size)
    starts = np.linspace(0, len(audio) - size, count).astype(int)
    return float(np.mean([score(audio[start : start + size], 16000) for start in starts]))


@contextmanager
def _near(outcome: Outcome) -> Iterator[tuple[Path, Path]]:
    """Source and target, or local copies of remote ones."""
    with TemporaryDirectory(prefix="hushwork-") as folder:
        found = []
        for kind, path in (("source", outcome.source), ("target", outcome.target)):
            found.append(Path(folder) / f"{kind}{path.suffix}" if is_remote(path) else path)
            if is_remote(path):
                fetch(path, found[-1])
        yield found[0], found[1]


@dataclass
class _Entry:
    """A file on the page. Only the worst have pictures, and audio beside the page; both by kind."""

    outcome: Outcome
    measures: Measures
    pictures: dict[str, bytes] = field(default_factory=dict)
    sounds: dict[str, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def badness(self) -> tuple[float, ...]:
        """A key to sort by, worst first; files without a score come before others."""
        measures = self.measures
        scores = [after for _, after in measures.quality.values()][:1]
        quality = [-math.inf if math.isnan(value) else value for value in (*scores, measures.snr_db)]
        return (-measures.speech_loss if measures.seems_to_lose_speech else 0.0, *quality)

    def illustrate(self, folder: Path, rank: int) -> None:
        """Draw the pictures, and write the removed signal and copies of remote files to a folder; note failures."""
        remote = {"before": is_remote(self.outcome.source), "after": is_remote(self.outcome.target), "removed": True}
        sounds = {kind: folder / f"{kind}-{rank:02}.flac" for kind, is_written in remote.items() if is_written}
        try:
            with _near(self.outcome) as (source, target):
                self.pictures = draw(source, target)
                folder.mkdir(exist_ok=True)
                write_sounds(source, target, sounds)
            self.sounds = sounds
        except FAILURES as error:  # such as more channels than FLAC holds
            self.notes.append(f"The audio for the players could not be written: {error}")


@dataclass(frozen=True)
class _Column:
    """A column of numbers: its head, the number to sort by, and its format."""

    head: str
    value: Callable[[_Entry], float]
    print: Callable[[float], str]


def _decibels(value: float) -> str:
    return f"{value:.1f}".replace("-", "−")


def _percent(share: float) -> str:
    """A share in [0, 1] in percent: two digits, and only 0 is shown as 0."""
    return f"{100 * share:.0f}" if share == 0 or share >= 0.1 else f"{max(100 * share, 0.01):.1g}"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


COLUMNS = (
    _Column("length", lambda entry: entry.outcome.duration_s, _time),
    _Column("speech lost, %", lambda entry: entry.measures.speech_loss, _percent),
    _Column("estimated SNR, dB", lambda entry: entry.measures.snr_db, _decibels),
    *(
        _Column(f"{name} {when}", lambda entry, name=name, k=k: entry.measures.quality[name][k], "{:.2f}".format)  # type: ignore[misc]
        for name in JUDGES
        for k, when in enumerate(("before", "after"))
    ),
    _Column("level before, dBFS", lambda entry: entry.measures.level_db[0], _decibels),
    _Column("level after, dBFS", lambda entry: entry.measures.level_db[1], _decibels),
    _Column("clipped before, %", lambda entry: entry.measures.clipped[0], _percent),
    _Column("clipped after, %", lambda entry: entry.measures.clipped[1], _percent),
    _Column("samples repaired", lambda entry: entry.outcome.repaired, "{:,.0f}".format),
)


def _page(folder: Path, entries: Sequence[_Entry], failed: Sequence[tuple[Path, str]], run: Mapping[str, str]) -> str:
    """The page as HTML; :data:`TEMPLATES` escapes all values."""
    judges = [name for name in JUDGES if entries and name in entries[0].measures.quality]
    missing = {name: package for name, (package, *_) in JUDGES.items() if name not in judges}
    columns = [column for column in COLUMNS if column.head.split()[0] not in missing]
    return TEMPLATES.get_template("report.html").render(
        failures=[(source, error.removeprefix(f"{source}: ")) for source, error in failed],
        facts=_facts(entries, failed),
        run=run,
        illustrated=sum(bool(entry.pictures) for entry in entries),
        heads=[column.head for column in columns],
        files=[
            {
                "outcome": entry.outcome,
                "loses_speech": entry.measures.seems_to_lose_speech,
                "cells": [_cell(column, entry) for column in columns],
                "recordings": _recordings(entry, folder),
                "notes": [*entry.outcome.notes, *entry.measures.notes, *entry.notes],
            }
            for entry in entries
        ],
        order=f"{judges[0]} after denoising" if judges else "estimated SNR",
        missing=missing,
        max_windows=MAX_WINDOWS,
        constants=comparison,
    )


def _facts(entries: Sequence[_Entry], failed: Sequence[object]) -> dict[str, str]:
    """The summary."""
    facts = {"files denoised": f"{len(entries)}", "failed": f"{len(failed)}"}
    facts["of audio"] = _time(sum(entry.outcome.duration_s for entry in entries))
    facts["may have lost speech"] = f"{sum(entry.measures.seems_to_lose_speech for entry in entries)}"
    snr_db = _mean([entry.measures.snr_db for entry in entries])
    if not math.isnan(snr_db):
        facts["mean estimated SNR"] = f"{_decibels(snr_db)} dB"
    for name in entries[0].measures.quality if entries else ():
        before, after = (_mean([entry.measures.quality[name][k] for entry in entries]) for k in range(2))
        if not math.isnan(before + after):
            facts[f"mean {name}"] = f"{before:.2f} → {after:.2f}"
    return facts


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _cell(column: _Column, entry: _Entry) -> tuple[str, str, str]:
    """Head, number to sort by, and text."""
    value = column.value(entry)
    return column.head, f"{value:.6g}", "–" if math.isnan(value) else column.print(value)


def _recordings(entry: _Entry, folder: Path) -> Iterator[dict[str, Any]]:
    """The recordings of a file: kind, link, picture, the link that a player opens, and whether that is an excerpt."""
    outcome = entry.outcome
    for kind, path in (("before", outcome.source), ("after", outcome.target), ("removed", None)):
        copy = entry.sounds.get(kind)
        link, player = (_link(each, folder) if each else "" for each in (path or copy, copy or path))
        if link or kind in entry.pictures:
            yield {
                "kind": kind,
                "link": link,
                "picture": base64.b64encode(entry.pictures.get(kind, b"")).decode(),
                "player": player if not URL.match(player) or player.startswith(PLAYED_BY_BROWSERS) else "",
                "is_excerpt": copy and outcome.duration_s > EXCERPT_S,
            }


def _printable(value: Any) -> Any:
    """Text with control characters shown as their pictures, and characters that no page can hold as �."""
    if isinstance(value, Markup):
        return value
    text = str(value).translate({code: 0x2400 + code for code in range(32)} | {127: "\u2421"})
    return re.sub("[\x80-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", text)


TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    finalize=_printable,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters["percent"] = _percent


def _link(path: Path, folder: Path) -> str:
    """The URL of a file as seen from a page in ``folder``."""
    if is_remote(path):
        return quote(str(path), safe=":/?&=%+@,;")
    try:
        relative = Path(os.path.relpath(path, folder))
    except ValueError:  # another drive
        return path.absolute().as_uri()
    return quote(os.fsencode(relative.as_posix()))
