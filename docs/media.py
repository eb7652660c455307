#!/usr/bin/env python3
"""Make the clips and figures of README and site with the shipped model `default`.

    hushwork prepare debian    # for the clips of a natural voice; without it they stay as they are
    python docs/media.py

Writes docs/media/listen/*.mp3, docs/figures/before_after.jpg, wave_to_wave.svg and clockwork.svg.

Shapes: N samples, T frames, F bins.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import soundfile
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import hushwork
from hushwork import load_for_training, load_pretrained

DOCS = Path(__file__).parent
STARTER = Path(hushwork.__file__).parent / "data" / "starter"
RATE = 16000
# Name of the clip, speech, noise, SNR in dB. Speech and noise have the same level in both corpora.
CLIPS = [
    ("vacuum", "speech/test/bf_emma_02.ogg", "noise/test/vacuum-c_01.ogg", 0),
    ("rain", "speech/test/am_michael_02.ogg", "noise/test/rain-c_01.ogg", 5),
    ("typing", "speech/test/bm_lewis_01.ogg", "noise/test/typing-c_01.ogg", 0),
    ("babble", "speech/test/bf_isabella_01.ogg", "noise/test/babble-c_01.ogg", 5),
]
# A natural voice, of the validation split of hushwork prepare debian: Maxim Topal, CC BY 3.0.
DEBIAN = DOCS.parent / "data" / "debian"
NATURAL_CLIPS = [
    ("natural_engine", "speech/valid/ast_ru_maxim/ast_ru_maxim_0130.flac", "noise/test/engine-c_01.ogg", 0),
    ("natural_typing", "speech/valid/ast_ru_maxim/ast_ru_maxim_0142.flac", "noise/test/typing-c_01.ogg", 0),
]
MODULES, FRAMES = (1, 2, 4, 8), 16
CELL, LEFT, TOP = 36, 150, 46


def mixture(speech: Path, noise: str, snr_db: float) -> tuple[np.ndarray, np.ndarray]:
    """Noisy and clean speech (N,), half a second of noise first, peak at -3 dBFS."""
    voice, _ = soundfile.read(speech, dtype="float32")
    sound, _ = soundfile.read(STARTER / noise, dtype="float32")
    clean = np.pad(voice[: 5 * RATE], (RATE // 2, RATE // 4))
    noisy = clean + 10 ** (-snr_db / 20) * np.resize(sound, clean.shape)
    scale = 0.7 / np.abs(noisy).max()
    return noisy * scale, clean * scale


def make_clips(folder: Path) -> None:
    denoiser = load_pretrained()
    folder.mkdir(parents=True, exist_ok=True)
    clips = [(name, STARTER / speech, noise, snr_db) for name, speech, noise, snr_db in CLIPS]
    if DEBIAN.is_dir():
        clips += [(name, DEBIAN / speech, noise, snr_db) for name, speech, noise, snr_db in NATURAL_CLIPS]
    else:
        print(f"{DEBIAN} is not there: the clips of a natural voice stay as they are")
    for name, speech, noise, snr_db in clips:
        noisy, _ = mixture(speech, noise, snr_db)
        clean = hushwork.denoise(noisy, RATE, denoiser)
        for kind, audio in (("noisy", noisy), ("clean", clean)):
            soundfile.write(folder / f"{name}_{kind}.mp3", audio, RATE, format="MP3", compression_level=0.4)
        if name == "vacuum":
            draw_before_after(noisy, clean, DOCS / "figures" / "before_after.jpg")


def spectrogram(axis: Axes, audio: np.ndarray, title: str) -> None:
    axis.specgram(audio, NFFT=512, noverlap=384, Fs=RATE, vmin=-110, vmax=-40, cmap="magma")
    axis.set(title=title, xlabel="s", ylim=(0, 8000))
    axis.set_yticks([0, 2000, 4000, 6000, 8000], ["0", "2", "4", "6", "8 kHz"])


def draw_before_after(noisy: np.ndarray, clean: np.ndarray, path: Path) -> None:
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    spectrogram(left, noisy, "before: a voice and a vacuum cleaner")
    spectrogram(right, clean, "after: hushwork denoise")
    figure.savefig(path, dpi=110, pil_kwargs={"quality": 85})


def draw_wave_to_wave(path: Path) -> None:
    """What the shipped model does with two seconds of speech, step by step."""
    import torch

    _, speech, noise, snr_db = CLIPS[0]
    noisy, _ = mixture(STARTER / speech, noise, snr_db)
    noisy = noisy[RATE // 2 : RATE // 2 + 2 * RATE]
    denoiser = load_for_training()
    with torch.inference_mode():
        spectrum = denoiser.analysis(torch.from_numpy(noisy)[None])
        mask, _ = denoiser.estimate_mask(spectrum)
        masked = denoiser.apply_mask(spectrum, mask)
        clean = denoiser.synthesis(masked, noisy.size)[0].numpy()
    shape = f"({spectrum.shape[1]} frames, {spectrum.shape[2]} bins)"
    decibels = [20 * np.log10(np.abs(x[0].numpy()).T + 1e-5) for x in (spectrum, masked)]
    figure = Figure(figsize=(7, 11), layout="constrained")
    axes = figure.subplots(5, 1)
    times = np.arange(noisy.size) / RATE
    extent = (0.0, 2.0, 0.0, 8.0)
    for axis, audio in ((axes[0], noisy), (axes[4], clean)):
        pieces = audio.reshape(-1, 80)
        axis.fill_between(times[::80], pieces.min(1), pieces.max(1))
    axes[0].set_title(f"1  Noisy wave: ({noisy.size:,} samples), 16 kHz", loc="left")
    axes[1].set_title(f"2  Its magnitude spectrum: {shape}", loc="left")
    axes[2].set_title(f"3  Mask of the network, 0 (black) to 1 (white): {shape}", loc="left")
    axes[3].set_title(f"4  Magnitude times mask: {shape}", loc="left")
    axes[4].set_title(f"5  Inverse transform with the noisy phase: ({clean.size:,} samples)", loc="left")
    for axis, picture in ((axes[1], decibels[0]), (axes[3], decibels[1])):
        axis.imshow(
            picture, origin="lower", aspect="auto", interpolation="none", extent=extent, vmin=-60, vmax=20, cmap="magma"
        )
    axes[2].imshow(
        mask[0].numpy().T,
        origin="lower",
        aspect="auto",
        interpolation="none",
        extent=extent,
        vmin=0,
        vmax=1,
        cmap="gray",
    )
    for axis in axes[1:4]:
        axis.set_ylabel("kHz")
    for axis in (axes[0], axes[4]):
        axis.set(xlim=(0, 2), ylim=(-0.75, 0.75))
    axes[4].set_xlabel("s")
    mpl.rcParams["svg.hashsalt"] = "hushwork"  # the same file in every run
    figure.savefig(path, dpi=110, metadata={"Date": None})


def draw_clockwork(path: Path) -> None:
    """Which module of a clockwork layer is updated at which frame; a bar steps through the frames."""
    width, height = LEFT + FRAMES * CELL + 20, TOP + len(MODULES) * CELL + 86
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        ' font-family="sans-serif" font-size="14">',
        "<title>Updates of the modules of a clockwork layer, frame by frame</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{LEFT}" y="18">frame</text>',
    ]
    for frame in range(FRAMES):
        x = LEFT + frame * CELL
        parts.append(f'<text x="{x + CELL / 2}" y="38" text-anchor="middle">{frame}</text>')
        for row, period in enumerate(MODULES):
            fill = "#0b6e99" if frame % period == 0 else "#d8e7ee"
            y = TOP + row * CELL
            parts.append(f'<rect x="{x + 1}" y="{y + 1}" width="{CELL - 2}" height="{CELL - 2}" rx="4" fill="{fill}"/>')
        updates = sum(frame % period == 0 for period in MODULES)
        y = TOP + len(MODULES) * CELL + 20
        parts.append(f'<text x="{x + CELL / 2}" y="{y}" text-anchor="middle">{updates}</text>')
    for row, period in enumerate(MODULES):
        y = TOP + row * CELL + CELL / 2 + 5
        parts.append(f'<text x="8" y="{y}">module, period {period}</text>')
    y = TOP + len(MODULES) * CELL
    step = ";".join(str(LEFT + frame * CELL) for frame in range(FRAMES))
    parts += [
        f'<text x="8" y="{y + 20}">modules at work</text>',
        f'<rect x="{LEFT}" y="{TOP - 4}" width="{CELL}" height="{len(MODULES) * CELL + 32}" fill="none"'
        f' stroke="#c0392b" stroke-width="3" rx="5"><animate attributeName="x" values="{step}" calcMode="discrete"'
        ' dur="16s" repeatCount="indefinite"/></rect>',
        f'<rect x="8" y="{y + 46}" width="18" height="18" rx="3" fill="#0b6e99"/>',
        f'<text x="34" y="{y + 60}">updated: reads the input, itself and slower modules</text>',
        f'<rect x="400" y="{y + 46}" width="18" height="18" rx="3" fill="#d8e7ee"/>',
        f'<text x="426" y="{y + 60}">holds its last value, costs nothing</text>',
        "</svg>",
    ]
    path.write_text("\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    make_clips(DOCS / "media" / "listen")
    draw_wave_to_wave(DOCS / "figures" / "wave_to_wave.svg")
    draw_clockwork(DOCS / "figures" / "clockwork.svg")
