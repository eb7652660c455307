"""Training mixtures: speech of one speaker in random noise.

Every random draw is a pure function of (seed, epoch, index), so the number of workers and devices changes nothing.
Signals are float32 arrays (N,) at the corpus's sample rate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields

import numpy as np
from torch.utils.data import Dataset

from hushwork.augment.mixing import (
    active_rms,
    change_speed,
    convolve,
    equalize,
    first_sound,
    fit_length,
    limit_band,
    scale_to_snr,
    shift_formants,
    simulate_room,
    with_lead,
    with_pause,
)
from hushwork.augment.noises import calls, coloured_noise, fan, gusts, hum, knocks, speech_shaped
from hushwork.data.batch import Key, Mixture
from hushwork.data.manifest import Manifest
from hushwork.data.pool import Pool, Reader
from hushwork.data.recordings import Recording, Recordings
from hushwork.data.shards import ShardOrder

NUM_ROOMS = 256
CLEAN_DB = 30.0
GENERATORS = {"coloured": coloured_noise, "hum": hum, "fan": fan, "knocks": knocks, "calls": calls, "gusts": gusts}
SYNTHETIC_NOISES = ("babble", "speech_shaped", *GENERATORS)
LEADS = ("zeros", "dither", "quiet", "onset")


@dataclass(frozen=True, kw_only=True)
class MixingConfig:
    """Random settings of each training mixture; pairs are uniform ranges, probabilities lie in [0, 1].

    Args:
        segment_s: seconds of a mixture.
        snr_db: active speech over noise.
        level_db: active level of the clean speech, dB relative to full scale.
        max_noises: 1 to this many noises are added, the further ones up to 10 dB below the first.
        synthetic_noises: probability by kind, together at most 1, that a noise is synthetic rather than a recording:
            "babble" (4 to 8 training speakers at once), "speech_shaped" (steady noise with the spectrum of such
            babble), "coloured" (steady noise with a random spectrum of up to ±20 dB), "hum" (mains and harmonics),
            "fan" (coloured noise with blade tones, slowly swelling), "knocks" (struck objects), "calls" (gliding tones
            of animals and alarms) and "gusts" (coloured noise of changing level).
        noise_speed: factor by which recorded noise is played faster.
        speed: factor by which the speech is played faster, pitch and formants with it.
        formants: factor by which the formants of the speech move besides, its pitch staying where it is.
        eq_db: largest gain or cut of the random equaliser, on speech and noise each.
        leads: probability by kind, together at most 1, of a special beginning: a lead of 0.3 s to half the segment with
            digital silence ("zeros"), dither of 16 bits ("dither") or noise that is 20 to 40 dB quieter than later
            ("quiet"); or speech from sample 0 on ("onset").
        eq_probability, reverse_probability, room_probability, band_probability, clip_probability, pause_probability,
            gate_probability, clean_probability: probability of each. Recorded noise may be reversed. In a room the
            target keeps the direct sound and the first 50 ms. A limited band (3.4 to 7 kHz) applies to target and
            mixture, clipping (at 30 to 90 % of the peak) to the mixture alone. A pause is half a second or more without
            speech; a gate mutes such pauses in the mixture too. Clean speech has its noise a further 30 dB below.
        max_shares: at most this share of the speech comes from this source (of the manifest), by source.

    Raises:
        ValueError: the lower end of a range is above the upper one, or a probability is outside [0, 1].
    """

    segment_s: float = 4.0
    snr_db: tuple[float, float] | list[float] = (-5.0, 20.0)
    level_db: tuple[float, float] | list[float] = (-36.0, -16.0)
    max_noises: int = 2
    synthetic_noises: Mapping[str, float] = field(default_factory=dict)
    leads: Mapping[str, float] = field(default_factory=dict)
    noise_speed: tuple[float, float] | list[float] = (1.0, 1.0)
    speed: tuple[float, float] | list[float] = (0.9, 1.1)
    formants: tuple[float, float] | list[float] = (1.0, 1.0)
    eq_db: float = 6.0
    eq_probability: float = 0.3
    reverse_probability: float = 0.0
    room_probability: float = 0.0
    band_probability: float = 0.0
    clip_probability: float = 0.0
    pause_probability: float = 0.0
    gate_probability: float = 0.0
    clean_probability: float = 0.0
    max_shares: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("snr_db", "level_db", "speed", "formants", "noise_speed"):
            low, high = getattr(self, name)
            if not low <= high:
                raise ValueError(f"{name} is [{low}, {high}]; the first number must not exceed the second")
        for name in (each.name for each in fields(self) if each.name.endswith("_probability")):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in [0, 1]")
        if self.segment_s <= 0 or min(self.speed[0], self.formants[0], self.noise_speed[0]) <= 0 or self.max_noises < 1:
            raise ValueError("segment_s, speed, formants and noise_speed must be above 0 and max_noises at least 1")
        for name, kinds in (("synthetic_noises", SYNTHETIC_NOISES), ("leads", LEADS)):
            chosen = getattr(self, name)
            for kind, probability in chosen.items():
                if kind not in kinds or not 0 <= probability <= 1:
                    raise ValueError(f"{name}: {kind} is {probability}; choose from {', '.join(kinds)}, each in [0, 1]")
            if sum(chosen.values()) > 1 + 1e-9:
                raise ValueError(f"{name}: the probabilities sum to {sum(chosen.values()):g}; lower them to at most 1")


class NoisyMixtureDataset(Dataset[Mixture]):
    """Endless training mixtures: item (epoch, index) is speech of one speaker in random noise.

    Args:
        manifest: speech and noise of its split "train" are mixed.
        mixing: random settings of each mixture.
        num_mixtures: in an epoch.
        sample_rate: Hz, of the corpus.
        seed: of all random numbers.
        keep_decoded: see :class:`Reader`.
        order: makes the order of a pass through all utterances, shard after shard; None draws speech at random.

    Raises:
        ManifestError: the split has no speech or no noise, or its speech is not in shards.
    """

    def __init__(
        self,
        manifest: Manifest,
        mixing: MixingConfig,
        *,
        num_mixtures: int,
        sample_rate: int,
        seed: int,
        keep_decoded: bool = False,
        order: Callable[[Recordings, Reader], ShardOrder] | None = None,
    ) -> None:
        self._reader = Reader(manifest, keep_decoded)
        self._mixing = mixing
        self._num_mixtures = num_mixtures
        self._sample_rate = sample_rate
        self._seed = seed
        if order and mixing.max_shares:
            raise ValueError("mixing.max_shares needs data.order=random; data.order=shards takes each utterance once")
        speech = manifest.require("speech", "train")
        self._speech = order(speech, self._reader) if order else Pool(speech, self._reader, mixing.max_shares)
        self._noise = Pool(manifest.require("noise", "train"), self._reader)

    def __len__(self) -> int:
        return self._num_mixtures

    def __getitem__(self, key: Key) -> Mixture:
        epoch, index = key
        rng = np.random.default_rng([self._seed, epoch, index])
        mixing = self._mixing
        num_samples = round(mixing.segment_s * self._sample_rate)
        first = None
        if isinstance(self._speech, ShardOrder):
            first, voices = self._speech.draw(epoch * self._num_mixtures + index)
            speaker = first.speaker or ""
        else:
            voices = self._speech
            speaker = voices.draw_group(rng)
        clean, pause = self._speech_segment(voices, speaker, num_samples, rng, first)
        # Without leads no number is drawn, so that the mixtures of earlier versions stay the same.
        lead = drawn_kind(mixing.leads, rng) if mixing.leads else None
        if lead == "onset":
            start = first_sound(clean, self._sample_rate)
            clean, pause = fit_length(clean[start:], num_samples), None
        reverberant = clean
        if rng.random() < mixing.room_probability:
            response, early = simulate_room(int(rng.integers(NUM_ROOMS)), self._sample_rate)
            reverberant, clean = convolve(clean, response), convolve(clean, early)
        snr_db = float(rng.uniform(*mixing.snr_db))
        if rng.random() < mixing.clean_probability:
            snr_db += CLEAN_DB
        noise, noise_class = self._noise_segment(voices, num_samples, rng)
        noise = scale_to_snr(reverberant, noise, snr_db, self._sample_rate)
        noisy = reverberant + noise
        if rng.random() < mixing.band_probability:
            cutoff_hz = min(rng.uniform(3400, 7000), 0.45 * self._sample_rate)
            noisy, clean = (limit_band(audio, cutoff_hz, self._sample_rate) for audio in (noisy, clean))
        level = active_rms(clean, self._sample_rate)
        gain = 10 ** (rng.uniform(*mixing.level_db) / 20) / level if level > 0 else 1.0
        gain = min(gain, 0.99 / max(float(np.abs(noisy).max()), 1e-9))
        noisy, clean = noisy * np.float32(gain), clean * np.float32(gain)
        if rng.random() < mixing.clip_probability:
            limit = np.abs(noisy).max() * rng.uniform(0.3, 0.9)
            noisy = noisy.clip(-limit, limit)
        if pause and rng.random() < mixing.gate_probability:
            noisy[slice(*pause)] = clean[slice(*pause)] = 0
        if lead and lead != "onset":
            longest = max(num_samples // 2, 1)
            length = int(rng.integers(min(longest, round(0.3 * self._sample_rate)), longest + 1))
            noisy, clean = with_lead(noisy, clean, lead, length, rng)
        return Mixture(
            noisy=noisy, clean=clean, name=f"{epoch}/{index}", speaker=speaker, noise_class=noise_class, snr_db=snr_db
        )

    def _speech_segment(
        self, voices: Pool, speaker: str, num_samples: int, rng: np.random.Generator, first: Recording | None
    ) -> tuple[np.ndarray, tuple[int, int] | None]:
        """Speech (N,), and begin and end of a pause inserted into it, or None."""
        pause = None
        factor = rng.uniform(*self._mixing.speed)
        needed = int(num_samples * factor) + 1
        speech = voices.fill(speaker, needed, self._sample_rate, rng, first)
        speech = fit_length(change_speed(speech, factor, self._sample_rate), num_samples)
        if list(self._mixing.formants) != [1, 1]:  # draws no number in vain: mixtures stay the same
            speech = shift_formants(speech, rng.uniform(*self._mixing.formants), self._sample_rate)
        if rng.random() < self._mixing.pause_probability:
            longest = max(num_samples // 2, 1)
            length = int(rng.integers(min(longest, self._sample_rate // 2), longest + 1))
            start = int(rng.integers(num_samples - length + 1))
            speech, pause = with_pause(speech, start, length, self._sample_rate), (start, start + length)
        return self._equalized(speech, rng), pause

    def _noise_segment(self, voices: Pool, num_samples: int, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        total, first_class = self._noise_of_one_kind(voices, num_samples, rng)
        for _ in range(rng.integers(self._mixing.max_noises)):
            noise, _ = self._noise_of_one_kind(voices, num_samples, rng)
            total = total + scale_to_snr(total, noise, rng.uniform(0, 10), self._sample_rate)
        return total, first_class

    def _noise_of_one_kind(self, voices: Pool, num_samples: int, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        if kind := drawn_kind(self._mixing.synthetic_noises, rng):
            return self._synthetic_noise(kind, voices, num_samples, rng), kind
        name = self._noise.draw_group(rng)
        factor = rng.uniform(*self._mixing.noise_speed)
        noise = self._noise.fill(name, int(num_samples * factor) + 1, self._sample_rate, rng)
        noise = fit_length(change_speed(noise, factor, self._sample_rate), num_samples)
        if rng.random() < self._mixing.reverse_probability:
            noise = noise[::-1]
        return self._equalized(noise, rng), name

    def _synthetic_noise(self, kind: str, voices: Pool, num_samples: int, rng: np.random.Generator) -> np.ndarray:
        if kind in GENERATORS:
            return GENERATORS[kind](num_samples, self._sample_rate, rng)
        talkers = [voices.draw_group(rng) for _ in range(rng.integers(4, 9))]
        babble = np.sum([voices.fill(talker, num_samples, self._sample_rate, rng) for talker in talkers], axis=0)
        return babble if kind == "babble" else speech_shaped(babble, rng)

    def _equalized(self, audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if rng.random() >= self._mixing.eq_probability:
            return audio
        return equalize(audio, rng.uniform(-self._mixing.eq_db, self._mixing.eq_db, size=8))


def drawn_kind(kinds: Mapping[str, float], rng: np.random.Generator) -> str | None:
    """One of these kinds, drawn by its probability, or None."""
    drawn = rng.random()
    for kind, probability in kinds.items():
        drawn -= probability
        if drawn < 0:
            return kind
    return None
