"""Task 4.2 on substitute data: classify 25 words of unseen speakers.

The paper uses words of the TIMIT corpus, which needs a licence. Here seven voices of a text-to-speech model speak them
(``make_spoken_words.py``), five for training and two for testing, as in the paper; the rest is the paper's recipe.

Shapes: N networks, B words, T frames, C coefficients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchaudio
from torch import Tensor

from clockwork_paper.networks import Bank, Momentum, count_parameters
from clockwork_paper.outcome import Outcome
from hushwork.audio.io import AudioError, read_audio

FOLDER = Path(__file__).with_name("words")
SAMPLE_RATE = 16_000
SLOT_S = 1.8
SILENCE_DBFS = -60.0
# Five words per ending: the sounds that differ come early, and must be remembered until the end.
WORDS = (
    *("making", "walking", "cooking", "looking", "working"),
    *("biblical", "cyclical", "technical", "classical", "critical"),
    *("tradition", "addition", "audition", "recognition", "competition"),
    *("musicians", "discussions", "regulations", "accusations", "conditions"),
    *("subway", "leeway", "freeway", "highway", "hallway"),
)
TRAIN_VOICES = ("af_heart", "am_michael", "bf_emma", "bm_george", "am_fenrir")
TEST_VOICES = ("af_sarah", "am_puck")
VOICES = TRAIN_VOICES + TEST_VOICES

COEFFICIENTS = 13
PERIODS = tuple(2**k for k in range(7))
SIZES = {
    500: {"srn": 10, "lstm": 5, "cw": 10},
    1000: {"srn": 18, "lstm": 8, "cw": 19},
    2500: {"srn": 34, "lstm": 17, "cw": 40},
    5000: {"srn": 54, "lstm": 26, "cw": 65},
    10000: {"srn": 84, "lstm": 41, "cw": 102},
}
PAPER = {"srn": (66.8, 4.7), "lstm": (34.2, 5.6), "cw": (16.8, 3.5)}  # table 3: error in percent, mean and sd
LEARNING_RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
MOMENTUM = 0.9
NOISE_SD = 0.6
BATCH = 25
PATIENCE = 5
MAX_EPOCHS = 300
SEARCH_SEEDS = 3


@dataclass(frozen=True)
class Words:
    """Coefficients (B, T, C), zero after the last frame of each word; index of that frame (B,); label (B,)."""

    features: Tensor
    last: Tensor
    labels: Tensor

    def __getitem__(self, chosen: Tensor) -> Words:
        last = self.last[chosen]
        return Words(self.features[chosen][:, : int(last.max()) + 1], last, self.labels[chosen])


def read_words(folder: Path, voices: Sequence[str]) -> list[np.ndarray]:
    """The 25 words of each voice, without leading and trailing silence.

    Raises:
        AudioError: a file is missing, cannot be read or is shorter than its words.
    """
    slot = round(SLOT_S * SAMPLE_RATE)
    words = []
    for voice in voices:
        path = folder / f"{voice}.ogg"
        audio, rate = read_audio(path)
        if rate != SAMPLE_RATE or audio.shape[-1] < slot * len(WORDS):
            raise AudioError(f"{path}: expected {len(WORDS)} slots of {SLOT_S} s at {SAMPLE_RATE} Hz")
        for spoken in audio[0, : slot * len(WORDS)].reshape(len(WORDS), slot):
            levels = 10 * np.log10(np.square(spoken.reshape(-1, 160)).mean(1) + 1e-12)
            audible = np.flatnonzero(levels > SILENCE_DBFS)
            if not len(audible):
                raise AudioError(f"{path}: a word is silent")
            words.append(spoken[audible[0] * 160 : (audible[-1] + 1) * 160])
    return words


def coefficients(word: np.ndarray) -> Tensor:
    """13 mel-frequency cepstral coefficients (T, C) every 10 ms over 25 ms, after a pre-emphasis of 0.97."""
    audio = torchaudio.functional.preemphasis(torch.from_numpy(word), 0.97)
    spectra = {"n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 26}
    return torchaudio.transforms.MFCC(SAMPLE_RATE, n_mfcc=COEFFICIENTS, melkwargs=spectra)(audio).T


def load(folder: Path, train_voices: Sequence[str], test_voices: Sequence[str]) -> tuple[Words, Words]:
    """Training and test words; each coefficient has mean 0 and variance 1 over the training frames."""
    sets = [[coefficients(word) for word in read_words(folder, voices)] for voices in (train_voices, test_voices)]
    frames = torch.cat(sets[0])
    mean, sd = frames.mean(0), frames.std(0)
    return tuple(  # type: ignore[return-value]
        Words(
            torch.nn.utils.rnn.pad_sequence([(word - mean) / sd for word in words], batch_first=True),
            torch.tensor([len(word) - 1 for word in words]),
            torch.arange(len(WORDS)).repeat(len(words) // len(WORDS)),
        )
        for words in sets
    )


def logits_of(bank: Bank, words: Words, noise: Tensor | None = None) -> Tensor:
    """Logits (N, B, 25) at each word's last frame."""
    x = words.features.expand(len(bank.weights["out"]), -1, -1, -1)
    outputs = bank.run(x if noise is None else x + noise, x.shape[2])
    return outputs[:, torch.arange(len(words.last)), words.last]


def errors(logits: Tensor, words: Words) -> Tensor:
    """Percentage of words that each network (N,) gets wrong."""
    return 100 * (logits.argmax(-1) != words.labels).float().mean(1)


def train(bank: Bank, train_words: Words, test_words: Words, rates: Tensor, max_epochs: int, seed: int) -> Tensor:
    """Errors (N,) on ``test_words`` in percent, of each network as it was when its training error stopped falling."""
    optimizer = Momentum(bank, rates, MOMENTUM)
    generator = torch.Generator().manual_seed(seed)
    lowest = torch.full_like(rates, torch.inf)
    waiting = torch.zeros_like(rates)
    result = torch.full_like(rates, 100.0)
    for _ in range(max_epochs):
        seen = torch.zeros_like(rates)
        for chosen in torch.randperm(len(train_words.labels), generator=generator).split(BATCH):
            batch = train_words[chosen]
            noise = NOISE_SD * torch.randn(len(rates), *batch.features.shape, generator=generator)
            logits = logits_of(bank, batch, noise)
            labels = batch.labels.expand(len(rates), -1)
            losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none").sum(1)
            optimizer.step(losses)
            seen += losses.detach()
        better = seen < lowest
        lowest = torch.where(better, seen, lowest)
        running = waiting < PATIENCE
        waiting = torch.where(better & running, 0, waiting + 1)
        with torch.no_grad():
            result = torch.where(running, errors(logits_of(bank, test_words), test_words), result)
        if not running.any():
            break
    return result


def run(kind: str, size: int, folder: Path, max_epochs: int, num_seeds: int) -> Outcome:
    """Choose the learning rate on the last training voice, then train on all five and test ``num_seeds`` networks."""
    hidden = SIZES[size][kind]

    def errors_of(words: tuple[Words, Words], seeds: Sequence[int], rates: Sequence[float]) -> Tensor:
        plan = [(rate, seed) for rate in rates for seed in seeds]
        bank = Bank(
            kind,
            hidden,
            PERIODS,
            [seed for _, seed in plan],
            num_inputs=COEFFICIENTS,
            num_outputs=len(WORDS),
        )
        found = train(bank, *words, torch.tensor([rate for rate, _ in plan]), max_epochs, seeds[0])
        return found.view(len(rates), len(seeds))

    aside = load(folder, TRAIN_VOICES[:-1], TRAIN_VOICES[-1:])
    searched = errors_of(aside, range(10_000, 10_000 + SEARCH_SEEDS), LEARNING_RATES)
    search = dict(zip(LEARNING_RATES, searched.mean(1).tolist(), strict=True))
    rate = min(search, key=lambda each: search[each])
    return Outcome(
        kind=kind,
        size=size,
        parameters=count_parameters(kind, hidden, PERIODS, COEFFICIENTS, len(WORDS)),
        hidden=hidden,
        rate=rate,
        search={f"{key:g}": value for key, value in search.items()},
        scores=errors_of(load(folder, TRAIN_VOICES, TEST_VOICES), range(num_seeds), [rate]).flatten().tolist(),
    )
