"""A corpus in numbers, for ``hushwork data-report``: durations, speakers, licences, and the quality of its audio.

Signals are float32 arrays (N,); levels are in dB relative to full scale.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from rich.console import Console
from rich.progress import track

from hushwork.augment.mixing import active_rms
from hushwork.data.manifest import Manifest
from hushwork.data.pool import Reader
from hushwork.data.recordings import KINDS, SPLITS, Recording
from hushwork.evaluation.metrics import available_metrics
from hushwork.judges.dnsmos import dnsmos
from hushwork.markdown import markdown_table

FRAME_S = 0.02
SILENT = 1e-6  # -120 dB
DNSMOS_S = 9.01  # seconds that DNSMOS scores
LEVELS_DB = np.arange(-60, 1, 6)
SNRS_DB = np.arange(0, 91, 10)


def describe(manifest: Manifest, files: int) -> str:
    """Markdown: minutes, speakers and licences, then levels, SNR and DNSMOS of recordings spread over the corpus.

    Args:
        manifest: of the corpus.
        files: number of recordings of speech, and number of noise, that are measured in each split.
    """
    sections = [
        f"# {manifest.root}",
        f"{len(manifest.recordings)} recordings, manifest SHA-256 `{manifest.sha256}`.",
        "## Minutes",
        _minutes(manifest),
        "## Licences",
        markdown_table(["licence", "minutes"], _share(manifest, lambda recording: recording.licence)),
    ]
    if any(recording.language for recording in manifest.recordings):
        title = ["language", "minutes of speech"]
        sections += ["## Languages", markdown_table(title, _share(manifest, lambda recording: recording.language))]
    for kind in ("speech", "noise"):
        sample = [r for split in SPLITS for r in _spread(manifest.select(kind, split), files)]
        if sample:
            sections += [f"## {kind.capitalize()}, {len(sample)} recordings", _measure(manifest, sample, kind)]
    return "\n\n".join(sections) + "\n"


def speech_to_noise_floor_db(audio: np.ndarray, sample_rate: int) -> float:
    """Level of speech above the noise floor in dB: the 95th less the 10th percentile of the levels of 20 ms frames.

    Digital silence counts as -120 dB. Speech without pauses has no frames of background, and gets too low a value.
    """
    size = round(FRAME_S * sample_rate)
    frames = audio[: len(audio) // size * size].reshape(-1, size)
    levels = np.sqrt(np.mean(np.square(frames, dtype=np.float64), axis=1)).clip(SILENT)
    high, low = np.percentile(levels, [95, 10]) if len(levels) else (SILENT, SILENT)
    return float(20 * np.log10(high / low))


def _minutes(manifest: Manifest) -> str:
    rows = []
    for split in SPLITS:
        for kind in KINDS:
            chosen = manifest.select(kind, split)
            if not chosen:
                continue
            minutes = sum(recording.duration_s for recording in chosen) / 60
            weighted = sum(recording.duration_s * recording.weight for recording in chosen) / 60
            speakers = len({recording.speaker for recording in chosen} - {None})
            classes = len({recording.noise_class for recording in chosen} - {None})
            sources = len({recording.source for recording in chosen})
            rows.append([split, kind, len(chosen), f"{minutes:.1f}", f"{weighted:.1f}", speakers, classes, sources])
    names = ["split", "kind", "files", "minutes", "times weight", "speakers", "noise classes", "sources"]
    return markdown_table(names, rows)


def _share(manifest: Manifest, key: Callable[[Recording], str | None]) -> list[list[object]]:
    minutes: dict[str, float] = defaultdict(float)
    for recording in manifest.recordings:
        if name := key(recording):
            minutes[name] += recording.duration_s / 60
    return [[name, f"{amount:.1f}"] for name, amount in sorted(minutes.items(), key=lambda item: -item[1])]


def _spread(recordings: Sequence[Recording], count: int) -> list[Recording]:
    places = np.linspace(0, len(recordings) - 1, min(count, len(recordings))).round().astype(int)
    return [recordings[place] for place in places]


def _measure(manifest: Manifest, recordings: Sequence[Recording], kind: str) -> str:
    reader = Reader(manifest)
    values: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    judge = kind == "speech" and "dnsmos" in available_metrics()
    for recording in track(recordings, f"measuring {kind}", console=Console(stderr=True), transient=True):
        audio = reader.read(recording.path)
        measured: dict[str, float] = {
            "level dBFS": 20 * np.log10(max(active_rms(audio, recording.sample_rate), SILENT))
        }
        if kind == "speech":
            measured["speech to noise floor dB"] = speech_to_noise_floor_db(audio, recording.sample_rate)
        if judge and recording.sample_rate >= 16000:
            # Shorter speech is repeated, as the authors' own script does.
            scores = dnsmos(np.resize(audio, round(DNSMOS_S * recording.sample_rate)), recording.sample_rate)
            measured |= {f"DNSMOS {name}": value for name, value in scores.items()}
        group = recording.source if kind == "speech" else recording.noise_class or "unknown"
        for name, value in measured.items():
            values[recording.split, group][name].append(value)
            values["all", ""][name].append(value)
    names = list(values["all", ""])
    rows: list[list[object]] = []
    for (split, group), by_name in sorted(values.items()):
        cells = [_mean_and_range(by_name.get(name, [])) for name in names]
        rows.append([split, group, len(next(iter(by_name.values()))), *cells])
    title = "source" if kind == "speech" else "noise class"
    overall = values["all", ""]
    sections = [
        "Mean, and in brackets the 5th and 95th percentile of the recordings.",
        markdown_table(["split", title, "files", *names], rows),
        _histogram("level dBFS", overall["level dBFS"], LEVELS_DB),
    ]
    if kind == "speech":
        sections.append(_histogram("speech to noise floor dB", overall["speech to noise floor dB"], SNRS_DB))
    return "\n\n".join(sections)


def _mean_and_range(values: list[float]) -> str:
    if not values:
        return ""
    low, high = np.percentile(values, [5, 95])
    digits = 2 if abs(high) < 10 and low > 0 else 1
    return f"{np.mean(values):.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _histogram(name: str, values: list[float], edges: np.ndarray) -> str:
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    rows = [
        [f"{low} to {high}", count, "#" * round(40 * count / max(counts.max(), 1))]
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
    ]
    return markdown_table([name, "files", ""], rows)
