"""Training on new recordings with replay of a known corpus, so that performance on it is kept."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from torch.utils.data import Dataset

from hushwork.data.batch import Key, Mixture, within_share
from hushwork.data.datasets import NoisySpeechDataset
from hushwork.data.manifest import Manifest, check_splits
from hushwork.data.recordings import SPLITS, Concatenation, ManifestError


@dataclass(frozen=True)
class Corpora:
    """The new recordings, the known ones, and both.

    Attributes:
        new: in splits without speech, with the speech of the known ones.
        known: the corpus that is replayed.
        both: its hash is that of both hashes, in hexadecimal and one a line.
    """

    new: Manifest
    known: Manifest
    both: Manifest

    @classmethod
    def of(cls, new: Manifest, known: Manifest) -> Corpora:
        """Raises :class:`ManifestError` if a speaker or a noise source is in two splits."""
        known = replace(known, recordings=known.recordings.relocated(known.root.resolve()))
        lacking = [split for split in SPLITS if not new.select("speech", split) and not new.select("pair", split)]
        speech = [known.select("speech", split) for split in lacking]
        both = Concatenation([new.recordings, known.recordings])
        if problems := check_splits(both):
            raise ManifestError("\n  ".join([f"{new.root} with {known.root}: {len(problems)} problem(s)", *problems]))
        sha256 = hashlib.sha256(f"{new.sha256}\n{known.sha256}\n".encode()).hexdigest()
        return cls(
            new=replace(new, recordings=Concatenation([new.recordings, *speech])),
            known=known,
            both=replace(new, recordings=both, sha256=sha256),
        )


class ReplayDataset(Dataset[Mixture]):
    """Mixtures of two corpora, alternating.

    Args:
        new: mixtures of the new recordings.
        known: mixtures of the known corpus.
        share: share of the known mixtures, 0 to 1, spread evenly over the indices.

    Raises:
        ValueError: a share outside [0, 1].
    """

    def __init__(self, new: NoisySpeechDataset, known: NoisySpeechDataset, share: float) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"data.replay_share is {share}; it must lie in [0, 1]")
        self._new, self._known, self._share = new, known, share

    def __len__(self) -> int:
        return len(self._new)

    def __getitem__(self, key: Key) -> Mixture:
        epoch, index = key
        is_known, before = within_share(index, self._share)
        if is_known:
            return replace(self._known[epoch, before], replayed=True)
        return self._new[epoch, index - before]
