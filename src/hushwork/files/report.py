"""What became of a batch of files, as one HTML page with players and spectrograms, the worst files first.

The page needs no server and no network; it links to the recordings where they are. Those at URLs are fetched one by one
to be compared; players get copies of the worst, since few kinds of URLs can be opened by a browser.
"""

from __future__ import annotations

import base64
import html
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory
from urllib.parse import quote

import numpy as np

from hushwork.atomic import write_atomically
from hushwork.audio.io import resample
from hushwork.audio.remote import URL, fetch, is_remote, is_url
from hushwork.files.comparison import (
    EXCERPT_S,
    FLAGGED,
    HEARD_S,
    PICTURE_RANGE_DB,
    STANDS_OUT_DB,
    TURNED_DOWN_DB,
    Judge,
    Measures,
    draw,
    measure,
    write_sounds,
)
from hushwork.files.denoise import Outcome
from hushwork.judges import distill_mos, dnsmos
from hushwork.streaming.recordings import FAILURES

GENERATOR = b'<meta name="generator" content="hushwork">'
ILLUSTRATED = 50
HEARD_BY_BROWSERS = ("http:", "https:", "file:")
MAX_NAME = 255  # bytes in the name of a file or folder
MAX_WINDOWS = 3
"""That a judge rates of a file: it takes longer than all else."""
JUDGES: dict[str, tuple[str, float, Judge]] = {
    "DistillMOS": ("distillmos", distill_mos.WINDOW_S, distill_mos.distill_mos),
    "DNSMOS": ("speechmos", dnsmos.WINDOW_S, lambda audio, sample_rate: dnsmos.dnsmos(audio, sample_rate)["ovrl"]),
}
"""Networks that imitate listeners, by name: the package, seconds of a window, and the score of a window at 16 kHz."""


def check_page(path: str | Path, *, overwrite: bool = False) -> None:
    """Refuse, before any work, a file that :func:`write_report` should not write.

    Raises:
        ValueError: its name does not end in .html or is a URL, or it exists, is no report of ours, and is not to be
            replaced.
    """
    if is_url(str(path)):
        raise ValueError(f"{path}: the report is written to a local file; copy it there afterwards")
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
    about: Mapping[str, str],
    *,
    illustrated: int = ILLUSTRATED,
    progress: Callable[[float], object] | None = None,
) -> None:
    """Write the page ``path`` on files that were denoised; an existing one is replaced.

    Files that failed come first, then all others, the worst first: those that seem to have lost speech, most of it
    first, then by the score of the first judge installed after denoising, then by the estimated SNR. The worst get
    spectrograms, and what was removed from them as FLAC files in a folder beside the page, :func:`files_folder`;
    copies of what lies at URLs too.

    Args:
        path: ends in .html; its folder is made.
        outcomes: of :func:`hushwork.files.denoise.denoise_files`.
        about: what the page says of the run, by name: model, settings, date.
        illustrated: how many of the worst files get spectrograms and what was removed from them.
        progress: called with the share done since the last call; in all 1.

    Raises:
        ValueError: see :func:`check_page`.
        OSError: the page, or a file of its folder, cannot be written.
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
        part.write_text(_page(path.parent, entries, failed, about), encoding="utf-8")


def files_folder(page: str | Path) -> Path:
    """Where a page has its sounds: ``<stem>_files`` beside it, the stem cut to what the name of a folder can hold."""
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
    """Source and target, or copies of what is remote."""
    with TemporaryDirectory(prefix="hushwork-") as folder:
        found = []
        for kind, path in (("source", outcome.source), ("target", outcome.target)):
            found.append(Path(folder) / f"{kind}{path.suffix}" if is_remote(path) else path)
            if is_remote(path):
                fetch(path, found[-1])
        yield found[0], found[1]


@dataclass
class _Entry:
    """A file on the page; only the worst have pictures, and sounds beside the page; both by kind."""

    outcome: Outcome
    measures: Measures
    pictures: dict[str, bytes] = field(default_factory=dict)
    sounds: dict[str, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def badness(self) -> tuple[float, ...]:
        """A key to sort by, worst first; what could not be judged comes before what could."""
        measures = self.measures
        scores = [after for _, after in measures.quality.values()][:1]
        quality = [-math.inf if math.isnan(value) else value for value in (*scores, measures.snr_db)]
        return (-measures.speech_loss if measures.seems_to_lose_speech else 0.0, *quality)

    def illustrate(self, folder: Path, rank: int) -> None:
        """Draw the pictures, and write what was removed and what is remote into a folder; what fails is noted."""
        remote = {"before": is_remote(self.outcome.source), "after": is_remote(self.outcome.target), "removed": True}
        sounds = {kind: folder / f"{kind}-{rank:02}.flac" for kind, wanted in remote.items() if wanted}
        try:
            with _near(self.outcome) as (source, target):
                self.pictures = draw(source, target)
                folder.mkdir(exist_ok=True)
                write_sounds(source, target, sounds)
            self.sounds = sounds
        except FAILURES as error:  # such as more channels than FLAC holds
            self.notes.append(f"What is to be heard could not be written: {error}")


@dataclass(frozen=True)
class _Column:
    """A column of numbers: its head, the number to sort by, and how it is printed."""

    head: str
    value: Callable[[_Entry], float]
    print: Callable[[float], str]


def _decibels(value: float) -> str:
    return f"{value:.1f}".replace("-", "−")


def _percent(share: float) -> str:
    """Of a share in [0, 1]: two digits, and what is not 0 does not look like it."""
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


def _page(folder: Path, entries: Sequence[_Entry], failed: Sequence[tuple[Path, str]], about: Mapping[str, str]) -> str:
    judges = [name for name in JUDGES if entries and name in entries[0].measures.quality]
    missing = {name: package for name, (package, *_) in JUDGES.items() if name not in judges}
    columns = [column for column in COLUMNS if column.head.split()[0] not in missing]
    illustrated = sum(bool(entry.pictures) for entry in entries)
    template = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        failures="".join(_failure(source, error) for source, error in failed),
        no_failures="" if failed else "hidden",
        no_files="" if entries else "hidden",
        facts=_definitions(_facts(entries, failed)),
        about=_definitions(about),
        limit=f"The worst {illustrated} have pictures, and what was removed." if illustrated < len(entries) else "",
        heads="".join(f'<th scope="col"><button type="button">{column.head}</button></th>' for column in columns),
        rows="\n".join(_rows(rank, entry, columns, folder) for rank, entry in enumerate(entries, 1)),
        order=f"{judges[0]} after denoising" if judges else "estimated SNR",
        missing=" ".join(
            f"{name} is missing: the package {package} is not installed." for name, package in missing.items()
        ),
        heard_s=f"{HEARD_S:.0f}",
        max_windows=MAX_WINDOWS,
        removed_min=f"{EXCERPT_S / 60:.0f}",
        stands_out_db=f"{STANDS_OUT_DB:.0f}",
        turned_down_db=f"{TURNED_DOWN_DB:.0f}",
        flagged=_percent(FLAGGED),
        range_db=f"{PICTURE_RANGE_DB:.0f}",
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


def _definitions(items: Mapping[str, str]) -> str:
    return "".join(f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in items.items())


def _failure(source: Path, error: str) -> str:
    return f"<li>{_name(source)}<p>{_text(error.removeprefix(f'{source}: '))}</p></li>"


def _rows(rank: int, entry: _Entry, columns: Sequence[_Column], folder: Path) -> str:
    """The two rows of a file: its numbers, and its sound."""
    outcome = entry.outcome
    cells = []
    for column in columns:
        value = column.value(entry)
        text = "–" if math.isnan(value) else column.print(value)
        cells.append(f'<td data-head="{column.head}" data-value="{value:.6g}">{text}</td>')
    flag = '<strong class="flag">speech lost?</strong>' if entry.measures.seems_to_lose_speech else ""
    recordings = {"before": outcome.source, "after": outcome.target, "removed": None}
    sounds = "".join(_sound(kind, path, entry, folder) for kind, path in recordings.items())
    notes = "".join(f"<p>{_text(note)}</p>" for note in (*outcome.notes, *entry.measures.notes, *entry.notes))
    return (
        f'<tbody><tr><td data-head="rank" data-value="{rank}">{rank}</td>'
        f'<th scope="row">{_name(outcome.source)}{flag}</th>{"".join(cells)}</tr>\n'
        f'<tr class="sound"><td colspan="{len(columns) + 2}"><div>{sounds}</div>{notes}</td></tr></tbody>'
    )


def _sound(kind: str, path: Path | None, entry: _Entry, folder: Path) -> str:
    """A recording of a file, as far as it is there: link, picture and player."""
    parts = []
    copy = entry.sounds.get(kind)
    if kind in entry.pictures:
        data = base64.b64encode(entry.pictures[kind]).decode()
        parts.append(f'<img alt="spectrogram {kind}" src="data:image/png;base64,{data}">')
    if recording := path or copy:
        link = _link(recording, folder)
        limit = f", first {EXCERPT_S / 60:.0f} min" if copy and entry.outcome.duration_s > EXCERPT_S else ""
        parts.insert(0, f'<figcaption><a href="{link}">{kind}</a>{limit}</figcaption>')
        heard = _link(copy, folder) if copy else link
        label = f"{kind}: {_text(entry.outcome.source.name)}"
        if not URL.match(heard) or heard.startswith(HEARD_BY_BROWSERS):
            parts.append(f'<audio controls preload="none" src="{heard}" aria-label="{label}"></audio>')
    return f"<figure>{''.join(parts)}</figure>" if parts else ""


def _name(path: Path) -> str:
    """A file's path as HTML, what matters of it standing out; <bdi> keeps its direction of writing to itself."""
    folder = str(path)[: -len(path.name)]
    return f"<bdi>{_text(folder)}<b>{_text(path.name)}</b></bdi>"


def _text(words: str) -> str:
    """Words as HTML. Control characters are shown as their pictures, what no page can hold as �."""
    words = words.translate({code: 0x2400 + code for code in range(32)} | {127: "\u2421"})
    return html.escape(re.sub("[\x80-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", words))


def _link(path: Path, folder: Path) -> str:
    """The URL of a file as seen from a page in ``folder``."""
    if is_remote(path):
        return quote(str(path), safe=":/?&=%+@,;")
    try:
        relative = Path(os.path.relpath(path, folder))
    except ValueError:  # another drive
        return path.absolute().as_uri()
    return quote(os.fsencode(relative.as_posix()))
