"""The starter corpus: the parts of its builder that need no model, and the corpus in the package."""

from __future__ import annotations

import io
from collections import defaultdict
from pathlib import Path
from typing import Any

import make_starter as starter
import numpy as np
import pytest
import soundfile
from starter_corpus import noises, voices

import hushwork.data
from hushwork.data.manifest import Manifest, load_manifest
from hushwork.data.recordings import SPLITS
from hushwork.prepare import kokoro, utterances
from hushwork.prepare.items import PrepareError

STARTER = Path(hushwork.data.__file__).parent / "starter"
RATE = 16_000

BABBLERS = [np.random.default_rng(index).standard_normal(20_000) for index in range(8)]


def _noise(source: Any, seed: int, num_samples: int = RATE) -> np.ndarray:
    if source.noise_class == "babble":
        source = noises.with_voices(source, BABBLERS)
    return noises.level(source.make(num_samples, RATE, np.random.default_rng(seed)))


@pytest.fixture(scope="module")
def shipped() -> Manifest:
    return load_manifest(STARTER / "manifest.jsonl", sample_rate=RATE)


@pytest.mark.parametrize("source", noises.NOISES, ids=lambda source: source.name)
def test_noise_is_level_finite_and_fixed_by_its_seed(source: Any) -> None:
    audio = _noise(source, seed=1)
    assert audio.shape == (RATE,)
    assert audio.dtype == np.float32
    assert np.isfinite(audio).all()
    assert np.abs(audio).max() < 1
    assert 10 * np.log10(np.mean(audio.astype(float) ** 2)) == pytest.approx(-26, abs=0.5)
    np.testing.assert_array_equal(audio, _noise(source, seed=1))
    assert not np.array_equal(audio, _noise(source, seed=2))


def test_files_of_one_noise_source_differ() -> None:
    source = noises.NOISES[0]
    assert source.count > 1
    assert not np.array_equal(noises.make_noise(source, 1), noises.make_noise(source, 2))


def test_noise_sources_are_unique_and_every_class_is_in_every_split() -> None:
    assert len({source.name for source in noises.NOISES}) == len(noises.NOISES)
    classes: dict[str, set[str]] = defaultdict(set)
    for source in noises.NOISES:
        classes[source.noise_class].add(source.split)
    assert all(splits == set(SPLITS) for splits in classes.values())


def test_sentences_are_in_one_split_only() -> None:
    sentences = voices.read_sentences()
    assert len({sentence.text for sentence in sentences}) == len(sentences)
    count: dict[str, int] = defaultdict(int)
    for sentence in sentences:
        count[sentence.language] += 1
    assert count["en"] >= 100
    assert all(count[language] >= 25 for language in ("es", "fr", "it", "pt"))


def test_a_malformed_sentence_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "sentences.txt"
    path.write_text("# heading\ntrain | en | Fine.\ntrain | en\n", encoding="utf-8")
    with pytest.raises(PrepareError, match="line 3"):
        voices.read_sentences(path)


def test_voices_are_in_one_split_and_have_enough_sentences() -> None:
    names = [voice for split in kokoro.VOICES.values() for voice in split]
    assert len(names) == len(set(names)) == 50
    sentences = voices.read_sentences()
    for split, languages in kokoro.VOICES.items():
        assert {name[1] for name in languages} == {"f", "m"}
        assert len({language[:2] for language in languages.values()}) >= 3
        for voice, language in languages.items():
            plan = voices.plan_voice(voice, split, language, sentences)
            assert plan == voices.plan_voice(voice, split, language, reversed(sentences))
            assert sum(len(utterance.text) for utterance in plan) > 20 * 16
            assert all(kokoro.SPEEDS[0] <= utterance.speed <= kokoro.SPEEDS[1] for utterance in plan)


@pytest.mark.parametrize(
    ("ipa", "language", "expected"),
    [
        ("ðə d^ʒˈuːəlɚ", "en-US", "ðə ʤˈuələɹ"),
        ("ðə t^ʃˈə^ʊz", "en-GB", "ðə ʧˈQz"),
        ("bˈʌʔn̩", "en-US", "bˈʌtᵊn"),
        ("la- ʁeynjˈɔ̃", "fr", "la ʁeynjˈɔ̃"),
    ],
)
def test_ipa_is_written_in_the_alphabet_of_the_model(ipa: str, language: str, expected: str) -> None:
    assert kokoro.to_kokoro(ipa, language) == expected


def _tone(seconds: float) -> np.ndarray:
    times = np.arange(round(seconds * kokoro.MODEL_RATE)) / kokoro.MODEL_RATE
    return (0.02 * np.sin(2 * np.pi * 200 * times)).astype(np.float32)


def test_speech_is_trimmed_and_brought_to_its_level() -> None:
    silence = np.zeros(kokoro.MODEL_RATE, np.float32)
    audio = utterances.master_speech(np.concatenate([silence, _tone(4.0), silence]))
    assert len(audio) / RATE == pytest.approx(4.2, abs=0.1)
    middle = audio[RATE : 3 * RATE]
    assert 10 * np.log10(np.mean(middle**2)) == pytest.approx(-26, abs=0.2)
    assert utterances.speech_problems(audio, sounds=45) == []


def test_faulty_speech_is_told_from_good() -> None:
    good = utterances.master_speech(_tone(4.5))
    assert "lasts" in utterances.speech_problems(good[: 2 * RATE], sounds=22)[0]
    assert "phonemes a second" in utterances.speech_problems(good, sounds=200)[0]
    holed = good.copy()
    holed[RATE : 2 * RATE] = 0
    assert any("silent" in problem for problem in utterances.speech_problems(holed, sounds=45))
    clicking = good.copy()
    clicking[RATE] += 0.8
    assert any("clicks" in problem for problem in utterances.speech_problems(clicking, sounds=45))
    clicking[RATE] = np.nan
    assert "not finite" in utterances.speech_problems(clicking, sounds=45)[0]


def test_equal_audio_gives_equal_ogg_bytes() -> None:
    audio = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    stream = starter.encode_opus(audio, 36_000, serial=1)
    assert starter.set_ogg_serial(stream, 2) == starter.encode_opus(audio, 36_000, serial=2) != stream
    assert soundfile.info(io.BytesIO(stream)).samplerate == RATE


def test_ogg_checksums_are_those_of_the_library() -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(RATE), RATE, format="OGG", subtype="OPUS")
    stream = buffer.getvalue()
    assert starter.set_ogg_serial(stream, int.from_bytes(stream[14:18], "little")) == stream


def test_missing_programs_are_named_with_their_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kokoro.shutil, "which", lambda name: None)
    with pytest.raises(PrepareError, match=r"(?s)apt-get install espeak-ng.*apt-get install npm"):
        kokoro.check_tools()


def test_a_folder_without_a_corpus_is_not_replaced(tmp_path: Path) -> None:
    kept = tmp_path / "out" / "thesis.txt"
    kept.parent.mkdir()
    kept.touch()
    with pytest.raises(PrepareError, match="not empty"):
        starter.install(tmp_path / "built", kept.parent)
    assert kept.exists()


def test_shipped_corpus_has_the_promised_size(shipped: Manifest) -> None:
    assert sum(path.stat().st_size for path in STARTER.rglob("*") if path.is_file()) < 12_000_000
    minutes: dict[str, float] = defaultdict(float)
    for recording in shipped.recordings:
        minutes[recording.kind] += recording.duration_s / 60
    assert 17 < minutes["speech"] < 23
    assert 9 < minutes["noise"] < 11
    assert len({recording.speaker for recording in shipped.recordings if recording.speaker}) >= 40
    assert all(shipped.select(kind, split) for kind in ("speech", "noise") for split in SPLITS)
    assert {recording.licence for recording in shipped.recordings} == {"Apache-2.0"}


def test_the_shipped_corpus_has_the_splits_of_the_script(shipped: Manifest) -> None:
    for split in SPLITS:
        speakers = {recording.speaker for recording in shipped.select("speech", split)}
        assert speakers
        assert speakers <= {f"kokoro-{voice}" for voice in kokoro.VOICES[split]}
        sources = {recording.source for recording in shipped.select("noise", split)}
        assert sources == {f"synth-{source.name}" for source in noises.NOISES if source.split == split}


def test_shipped_files_are_those_of_the_manifest(shipped: Manifest) -> None:
    files = {path.relative_to(STARTER).as_posix() for path in STARTER.rglob("*.ogg")}
    assert files == {recording.path for recording in shipped.recordings}


def test_shipped_readme_states_the_figures_of_the_manifest(shipped: Manifest) -> None:
    assert (STARTER / "README.md").read_text(encoding="utf-8") == starter.render_readme(shipped.recordings)
