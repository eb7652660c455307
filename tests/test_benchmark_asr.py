"""Word error rates of the benchmark, with a stand-in recogniser that depends on loudness only."""

from dataclasses import replace

import benchmark_asr as script
import numpy as np
import pytest

from hushwork.data.manifest import load_manifest, write_manifest
from hushwork.runs.numbers import Numbers

RATE = 16_000


@pytest.fixture
def spoken(paired_corpus, tmp_path):
    """The pairs, in English, three at 0 dB and three at 5 dB; one of the first kind in another language."""
    manifest = load_manifest(paired_corpus, RATE)
    recordings = [
        replace(
            pair,
            path=str(manifest.file(pair.path)),
            noisy_path=str(manifest.file(pair.noisy_path)),
            language="fr" if k == 0 else "en-GB",
            snr_db=5.0 * (k % 2),
        )
        for k, pair in enumerate(manifest.recordings)
    ]
    write_manifest(tmp_path / "manifest.jsonl", recordings)
    return tmp_path / "manifest.jsonl"


def test_errors_are_counted_by_system_and_snr(spoken, model_folder, tmp_path, monkeypatch):
    # It reads three of four words where there is the tone that makes recordings noisy, more than a little of it.
    tone = np.sin(np.arange(RATE) * np.pi / 4)

    def recogniser():
        return lambda audio: (
            "One two three -- Four!" if abs(audio[: len(tone)] @ tone[: len(audio)]) < 30 else "one two three"
        )

    def denoise(audio, rate, model, strength):
        clean = audio - 0.02 * np.sin(np.arange(len(audio)) * np.pi / 4)
        return audio if strength.max_attenuation_db else audio + strength.mix * (clean - audio)

    monkeypatch.setitem(script.RECOGNISERS, "moonshine", recogniser)
    monkeypatch.setattr(script, "denoise", denoise)
    out = tmp_path / "rates.json"
    assert script.main(["--manifest", str(spoken), "--model", str(model_folder), "--out", str(out)]) == 0
    numbers = Numbers.read(out)
    assert numbers.what == "5 recordings"
    rows = {row["system"]: [*row.values()][1:] for row in numbers.rows}
    assert [column.title for column in numbers.columns.values()] == [
        "WER %",
        "all",
        "difference to noisy",
        "0 dB",
        "5 dB",
    ]
    assert rows["noisy"] == rows["at most 12 dB"] == [25, [0, 0, 0], 25, 25]
    assert rows["denoised"] == [0, [-25, -25, -25], 0, 0]


def test_missing_parts_are_named(paired_corpus, model_folder, monkeypatch, capsys):
    monkeypatch.setitem(script.RECOGNISERS, "moonshine", lambda: lambda audio: "")
    assert script.main(["--manifest", str(paired_corpus), "--model", str(model_folder)]) == 1
    assert "has no pairs of English speech" in capsys.readouterr().err


def test_words_are_compared_without_case_and_signs():
    words = script.recogniser.words("Don't stop -- Twenty-one, HE said 3.")
    assert words == ["don't", "stop", "twenty", "one", "he", "said", "3"]
