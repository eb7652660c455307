"""``hushwork check``: checks that a denoised file keeps what it must of its source, from the two files alone.

Shapes: C channels, N samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from hushwork.audio.formats import codec_of, muxer_for
from hushwork.audio.io import AudioError, AudioInfo, audio_info, planned_subtype, read_blocks
from hushwork.audio.lengths import counted_length_s, tracks
from hushwork.audio.libsndfile import can_be_format
from hushwork.audio.metadata import read_metadata
from hushwork.audio.metadata_items import TAG, Item

BLOCK_S = 8.0
DELAY_S = 60.0
SILENCE_S = 0.25  # of digital silence before and behind a sample, so that no sound reaches into it
SILENT = 10 ** (-80 / 20)
LOUDER_DB = 0.1
LENGTH_S = 0.1
VOCODERS = ("amr_nb",)  # codecs that keep speech, but not its waveform
VOCODER_S = 0.005
LONG_FRAME = 4096  # samples of a frame of lossless codecs; the last one may be shorter than its header states
FULL = 1 - 2**-15


@dataclass(frozen=True)
class Promise:
    """A line of the contract: whether it was kept, and the values found."""

    name: str
    kept: bool
    found: str


def check_pair(source: str | Path, target: str | Path) -> list[Promise]:
    """Check all promises that can be checked from two files.

    Args:
        source: the input.
        target: the output.

    Raises:
        AudioError: one of them cannot be read.
    """
    before, after = audio_info(source, search=True), audio_info(target, search=True)
    same_suffix = Path(source).suffix.lower() == Path(target).suffix.lower()
    promises = list(_headers(before, after, Path(target) if same_suffix else None))
    promises.append(_length(source, target, before, after))
    if same_suffix and (not before.format.isupper() or before.format == "OGG"):  # formats that hold other tracks too
        promises.append(_tracks(source, target, before.subtype == after.subtype))
    held, holds = read_metadata(source), read_metadata(target)
    if same_suffix and held.items and held.kind == holds.kind:  # differs where the format had to change
        promises.append(_metadata(held.items, holds.items))
    if (before.num_channels, before.sample_rate) == (after.num_channels, after.sample_rate):
        promises += _samples(Path(source), Path(target), before, after.padding)
        slack = round(VOCODER_S * before.sample_rate) if after.subtype in VOCODERS else 0
        promises.append(_delay(Path(source), Path(target), before.sample_rate, slack))
    return promises


def _headers(before: AudioInfo, after: AudioInfo, target: Path | None) -> Iterator[Promise]:
    compared = {
        "sample rate": (before.sample_rate, after.sample_rate),
        "channels": (before.num_channels, after.num_channels),
    }
    for name, (was, is_now) in compared.items():
        yield Promise(name, was == is_now, str(is_now) if was == is_now else f"{is_now}, was {was}")
    if target is None:  # another suffix: another format is intended
        return
    yield _format(before, after, target)
    # Some formats name the program that wrote the file.
    lost = [name for name, text in before.tags.items() if name != "software" and after.tags.get(name) != text]
    yield Promise("tags", not lost, f"lost: {', '.join(lost)}" if lost else f"{len(before.tags)} kept")


def _format(before: AudioInfo, after: AudioInfo, target: Path) -> Promise:
    was, is_now = (f"{info.format} {info.subtype}" for info in (before, after))
    if was == is_now:
        return Promise("format", True, is_now)
    try:
        planned = planned_subtype(target, before)
    except AudioError:
        planned = ""
    # Another format only where the source's format cannot have this suffix.
    may_differ = muxer_for(target, before) or not can_be_format(before.format)
    if codec_of(planned) == codec_of(after.subtype) and (before.format == after.format or may_differ):
        return Promise("format", True, f"{is_now}, because {was} cannot be written so")
    return Promise("format", False, f"{is_now}, was {was}")


def _length(source: str | Path, target: str | Path, before: AudioInfo, after: AudioInfo) -> Promise:
    """Compare the lengths counted from packets, frames or bytes, independently of what the readers return."""
    was_s, is_now_s = counted_length_s(source), counted_length_s(target)
    slack_s = LENGTH_S + (after.padding + LONG_FRAME * bool(before.bits)) / after.sample_rate
    slack_s += before.padding / before.sample_rate
    found = f"{float(is_now_s):.2f} s" + ("" if was_s == is_now_s else f", {float(was_s):.2f} s in the source")
    return Promise("length", abs(float(is_now_s - was_s)) <= slack_s, found)


def _tracks(source: str | Path, target: str | Path, same_codec: bool) -> Promise:
    (before, unknown), (after, _) = tracks(source), tracks(target)
    lost = list((before - after).elements())
    if not same_codec:  # reported with the format
        sound = next((track for track in lost if track[0] == "audio"), None)
        lost = [track for track in lost if track is not sound]
    if lost:
        return Promise("tracks", False, f"lost: {', '.join(' '.join(track).strip() for track in lost)}")
    left_out = f", {unknown} of no known codec left out" if unknown else ""
    return Promise("tracks", True, f"{before.total()} kept{left_out}")


def _metadata(before: list[Item], after: list[Item]) -> Promise:
    lost = Counter(before) - Counter(after)
    names = dict.fromkeys(name.removeprefix(TAG).decode("utf-8", "replace").strip() for name, _ in lost)
    return Promise("metadata", not lost, f"lost: {', '.join(names)}" if lost else f"{len(before)} kept")


def _samples(source: Path, target: Path, info: AudioInfo, padding: int) -> Iterator[Promise]:
    was = is_now = 0
    size = round(BLOCK_S * info.sample_rate)
    broken = full_before = full_after = 0
    power_before = power_after = loudest_in_silence = 0.0
    margin = round(SILENCE_S * info.sample_rate)
    nothing = np.zeros((info.num_channels, 0), np.float32)
    for noisy, clean in zip_longest(read_blocks(source, size), read_blocks(target, size), fillvalue=nothing):
        was, is_now = was + noisy.shape[1], is_now + clean.shape[1]
        common = min(noisy.shape[1], clean.shape[1])
        noisy, clean = noisy[:, :common], clean[:, :common]
        broken += int(np.count_nonzero(~np.isfinite(clean)))
        noisy, clean = np.nan_to_num(noisy, posinf=0, neginf=0), np.nan_to_num(clean, posinf=0, neginf=0)
        full_before += int(np.count_nonzero(np.abs(noisy) >= FULL))
        full_after += int(np.count_nonzero(np.abs(clean) >= FULL))
        power_before += float(np.square(noisy, dtype=np.float64).sum())
        power_after += float(np.square(clean, dtype=np.float64).sum())
        silent = _deep_silence(noisy, margin)
        loudest_in_silence = max(loudest_in_silence, float(np.abs(clean[:, silent]).max(initial=0)))
    found = str(is_now) if was == is_now else f"{is_now}, was {was}"
    yield Promise("samples", 0 <= is_now - was <= padding, found)
    yield Promise("finite", not broken, f"{broken} samples are NaN or infinite" if broken else "all samples")
    found = f"{full_after} samples at full scale, {full_before} before"
    yield Promise("no clipping added", full_after <= full_before, found)
    change_db = 10 * np.log10((power_after + 1e-20) / (power_before + 1e-20))
    yield Promise("not louder", bool(change_db <= LOUDER_DB), f"{change_db:+.1f} dB in all")
    found = f"{20 * np.log10(max(loudest_in_silence, 1e-10)):.0f} dB at most in digital silence"
    yield Promise("silence stays", loudest_in_silence <= SILENT, found)


def _deep_silence(noisy: np.ndarray, margin: int) -> np.ndarray:
    """Where all channels (C, N) are 0, and for ``margin`` samples to either side: booleans (N,)."""
    sounds = np.concatenate([[0], np.cumsum(np.abs(noisy).max(axis=0) > 0)])
    places = np.arange(noisy.shape[1])
    first, last = places - margin, places + margin + 1
    inside = (first >= 0) & (last <= noisy.shape[1])  # the neighbouring blocks are not known
    return inside & (sounds[last.clip(0, len(places))] == sounds[first.clip(0)])


def _beginning(path: Path, count: int) -> np.ndarray:
    """Up to ``count`` samples (C, N)."""
    block: np.ndarray = next(read_blocks(path, count))
    return block


def _delay(source: Path, target: Path, sample_rate: int, slack: int) -> Promise:
    """The delay of the target's first minute in samples, by the maximum of the cross-correlation."""
    count = round(DELAY_S * sample_rate)
    noisy, clean = (np.nan_to_num(_beginning(path, count)).mean(axis=0) for path in (source, target))
    size = 1 << int(np.ceil(np.log2(max(len(noisy) + len(clean), 2))))
    correlation = np.fft.irfft(np.fft.rfft(clean, size) * np.conj(np.fft.rfft(noisy, size)), size)
    strongest = int(np.argmax(correlation))
    found = correlation[strongest] > 1e-9
    lag = strongest - size * (strongest > size // 2)
    return Promise("no delay", not found or abs(lag) <= slack, f"{lag} samples" if found else "silence")
