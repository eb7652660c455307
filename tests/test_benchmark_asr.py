"""The word error rates, with a recogniser that cannot hear but is told what was said."""

from dataclasses import replace

import numpy as np
import pytest

import benchmark_asr as script
from hushwork.data.manifest import load_manifest, write_manifest

RATE = 16_000


@pytest.fixture
def spoken(corpus, tmp_path):
    """The test corpus, in which every speaker says a sentence of four words in English."""
    manifest = load_manifest(corpus, RATE)
    recordings = [
        replace(r, path=str(manifest.file(r.path)), text="One two, three-four!", language="en-GB")
        if r.kind == "speech"
        else replace(r, path=str(manifest.file(r.path)))
        for r in manifest.recordings
    ]
    path = tmp_path / "manifest.jsonl"
    write_manifest(path, recordings)
    return path


def test_errors_are_counted_by_system_and_snr(spoken, model_folder, monkeypatch, capsys):
    # It hears all words of quiet audio, half of them otherwise; denoising in this test makes audio quiet.
    def recogniser():
        return lambda audio: "one two three four" if audio.std() < 1e-3 else "one two"

    monkeypatch.setitem(script.RECOGNISERS, "moonshine", recogniser)
    monkeypatch.setattr(
        script,
        "denoise",
        lambda audio, rate, model, strength: audio * (1 - strength.mix if strength.max_attenuation_db is None else 1),
    )
    words = ["--speech", str(spoken), "--noise", str(spoken), "--model", str(model_folder), "--files", "2"]
    assert script.main(words) == 0
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    table = {row[0]: row[1:] for row in rows}
    assert table["noisy"][1:] == table["mix 0.5"][1:] == table["at most 12 dB"][1:] == ["50.0"] * 4
    assert table["denoised"] == ["0.0"] * 5
    assert table["clean"][0] == "50.0"


def test_what_is_missing_is_named(corpus, model_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(script.RECOGNISERS, "moonshine", lambda: lambda audio: "")
    assert script.main(["--speech", str(corpus), "--model", str(model_folder)]) == 1
    assert "no English recording of the split 'test' has a text" in capsys.readouterr().err


def test_words_are_compared_without_case_and_signs():
    assert script.normal("Don't stop -- Twenty-one, HE said 3.") == "don't stop twenty one he said 3"
    assert np.isclose(script.word_error_rate(["a b"], ["a b c d"]).item(), 0.5)
