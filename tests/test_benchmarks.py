"""The benchmark scripts run and report what they measure; times themselves are not checked."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import benchmark
import benchmark_adapt as adapt
import benchmark_peers as peers
import benchmark_streams as streams
import layer_costs
import numpy as np
import peer_denoisers
import pytest
import torch

from hushwork import cli
from hushwork.audio.io import read_audio, write_audio
from hushwork.models.clockwork import ClockworkRNN
from hushwork.runs.numbers import Numbers


@pytest.mark.parametrize("delay", [0, 7, 480])
def test_a_delay_is_compensated(delay: int) -> None:
    reference = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    late = np.pad(reference, (delay, 0))[:16000]
    found = peers.aligned(late + 0.1, reference, 16000)
    np.testing.assert_allclose(found[: 16000 - delay], reference[: 16000 - delay] + 0.1, atol=1e-6)


class Passes:
    """A network that gives back its signal, or a mask of ones, and counts its steps in its states."""

    def __init__(self, num_states: int, as_mask: bool = False) -> None:
        self._inputs = [SimpleNamespace(name=name, shape=[1]) for name in ("signal", *"abc"[:num_states])]
        self._as_mask = as_mask
        self.steps = 0

    def get_inputs(self) -> list[SimpleNamespace]:
        return self._inputs

    def run(self, outputs: None, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        signal, *states = feed.values()
        self.steps += 1
        assert all(state == self.steps - 1 for state in states)
        return [np.ones_like(signal) if self._as_mask else signal, *(state + 1 for state in states)]


def test_networks_of_peers_are_run_frame_by_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    audio = np.random.default_rng(0).standard_normal(5001).astype(np.float32)
    monkeypatch.setattr(peer_denoisers, "onnx_sessions", lambda *names: [Passes(1, as_mask=True), Passes(1)])
    np.testing.assert_allclose(peer_denoisers.dtln()(audio), 4 * audio, atol=1e-5)  # each sample lies in four blocks
    monkeypatch.setattr(peer_denoisers, "onnx_sessions", lambda *names: [Passes(3)])
    np.testing.assert_allclose(peer_denoisers.gtcrn()(audio), audio, atol=1e-5)


def make_pairs(folder: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    for name in ("a.wav", "deep/b.wav"):
        clean = np.sin(np.arange(24000) / 20) * (np.sin(np.arange(24000) / 2000) > 0)
        for kind, noise in (("clean", 0.0), ("noisy", 0.05)):
            path = folder / kind / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_audio(path, 0.3 * clean + noise * rng.standard_normal(24000), 16000)
    return folder / "clean", folder / "noisy"


def test_peers_and_models_are_measured(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # One peer that takes half away and is late by 10 ms, and one that is not installed.
    half = ("numpy", 48000, lambda: lambda audio: 0.5 * np.pad(audio, (480, 0)))
    monkeypatch.setattr(peers, "PEERS", {"half": half, "absent": ("no_such_package", 16000, None)})
    monkeypatch.setattr(peers, "chosen_metrics", lambda names: ["si_sdr"])
    clean, noisy = make_pairs(tmp_path)
    out = tmp_path / "out" / "peers.json"
    options = ["--clean", str(clean), "--noisy", str(noisy), "--model", str(model_folder), "--seconds", "1"]
    assert peers.main([*options, "--best", "--rounds", "1", "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert "absent is skipped: no_such_package is not installed" in captured.err
    rows = {row["system"]: row for row in Numbers.read(out).rows}
    ours = f"hushwork {model_folder.parent.name}"
    assert {system for system, row in rows.items() if row.get("time")} == {"half", ours, f"{ours}, best"}
    assert set(rows) == {"noisy", "half", ours, f"{ours}, best"}
    # Neither the gain nor the delay of a peer counts against it.
    assert rows["half"]["si_sdr"][0] == pytest.approx(rows["noisy"]["si_sdr"][0], abs=0.3)
    assert captured.out.count("\n| ") == 4


def test_a_manifest_gives_scores_by_snr_and_class(
    model_folder: Path,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(peers, "PEERS", {})
    overrides = [f"data.manifest={corpus}", "data.num_test=10", "data.eval_max_s=0.6"]
    assert cli.main(["mixtures", *overrides, "-o", str(tmp_path)]) == 0
    manifest = tmp_path / "manifest.jsonl"
    assert f"10 pairs, {manifest}" in capsys.readouterr().out
    options = ["--manifest", str(manifest), "--metrics", "si_sdr", "--seconds", "1", "--rounds", "1"]
    out = ["--model", str(model_folder), "--out", str(tmp_path / "peers.json")]
    assert peers.main([*options, *out]) == 0
    rows = capsys.readouterr().out.splitlines()
    by_snr = [row.split(" | ") for row in rows if " dB | " in row]
    assert len(by_snr) == 5
    for label, files, noisy, *_ in by_snr:
        # The SNR is that of active speech, the SI-SDR of all of it, and noise of few samples is like speech.
        assert float(noisy) == pytest.approx(float(label.split()[1]), abs=4), (label, files)
    assert peers.main([*options, *out, "--metrics", "nonsense"]) == 1
    assert "metric 'nonsense' does not exist" in capsys.readouterr().err


def test_a_noisy_file_without_a_clean_one_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean, noisy = make_pairs(tmp_path)
    (clean / "deep" / "b.wav").unlink()
    assert peers.main(["--clean", str(clean), "--noisy", str(noisy)]) == 1
    assert "b.wav: has no clean file" in " ".join(capsys.readouterr().err.split())
    assert peers.main([]) == 1
    assert "--speed-only" in capsys.readouterr().err


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_the_masked_loop_ticks_at_the_periods(cell: str) -> None:
    torch.manual_seed(0)
    y, _ = layer_costs.MaskedLoop(cell, 8, [1, 4])(torch.randn(2, 9, layer_costs.INPUTS))
    changes = y.diff(dim=1).abs().amax(dim=0) > 0
    assert changes[:, :4].all()
    assert changes[:, 4:].any(dim=1).tolist() == [(t + 1) % 4 == 0 for t in range(8)]


def test_clockwork_keeps_no_more_for_backward_than_the_plain_layer() -> None:
    x = torch.randn(4, 64, 20)
    for cell, plain in layer_costs.PLAIN.items():
        layer = ClockworkRNN(input_size=20, hidden_sizes=16, periods=[1, 2, 4, 8], cell=cell)
        assert layer_costs.saved_bytes(layer, x) <= layer_costs.saved_bytes(plain(20, 64, batch_first=True), x)


def test_long_noise_is_written_in_blocks(tmp_path: Path) -> None:
    path = benchmark.noisy_file(tmp_path / "long.wav", 61)
    audio, rate = read_audio(path)
    assert audio.shape == (1, 61 * rate)
    assert audio.std() == pytest.approx(0.05, rel=0.01)


def test_streams_in_real_time_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_setaffinity", lambda *_: None)
    out = tmp_path / "streams.json"
    streams.main(["--model", "small", "--seconds", "0.02", "--rate", "8000", "--out", str(out)])
    first = Numbers.read(out).rows[0]
    assert set(first) == set(streams.COLUMNS)
    assert (first["model"], first["streams"]) == ("small", 1)
    assert 0 < first["cpu"] <= first["cpu_99"]


def test_a_part_writes_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_setaffinity", lambda *_: None)
    assert benchmark.main(["start", "--rounds", "1", "--out", str(tmp_path)]) == 0
    numbers = Numbers.read(tmp_path / "start.json")
    assert [row["command"] for row in numbers.rows] == ["`hushwork --help`", "`hushwork denoise`, a file of 1 s"]
    assert 0 < numbers.rows[0]["time"] < numbers.rows[1]["time"]


@pytest.mark.parametrize(("frame_ms", "num_streams"), [(5.0, 4), (5.0, 3), (20.1, 1), (4.0, 10)])
def test_a_core_is_full_when_its_queue_grows(frame_ms: float, num_streams: int) -> None:
    """Against a literal queue, of frames that arrive every 20 ms / N and last as long each."""
    num_frames, done, in_time = 500 * num_streams, 0.0, 0
    for number in range(num_frames):
        arrival = number * 0.02 / num_streams
        done = max(done, arrival) + frame_ms / 1000
        in_time += done - arrival <= 0.02
    found = streams.in_time_if_free(np.array([frame_ms / 1000]), num_streams)
    assert found == pytest.approx(in_time / num_frames, abs=0.002)
    assert (found == 1) == (frame_ms * num_streams <= 20)


def test_the_drill_runs_in_bouts_and_is_loudest_at_tones_of_its_motor() -> None:
    audio = adapt.drill(10 * 16000, np.random.default_rng([7, 0]))
    assert audio.dtype == np.float32
    assert np.abs(audio).max() == pytest.approx(0.3, rel=1e-4)
    powers = np.square(audio).reshape(-1, 1600).mean(axis=1)
    assert np.median(powers[powers > 0.1 * powers.max()]) > 100 * powers.min()
    spectrum = np.abs(np.fft.rfft(audio[: 2 * 16000] * np.hanning(2 * 16000)))
    assert spectrum[200:4000].max() > 20 * np.median(spectrum[200:4000])
    other = adapt.drill(10 * 16000, np.random.default_rng([7, 1]))
    assert np.corrcoef(audio, other)[0, 1] < 0.3


def test_changes_are_those_of_the_same_mixtures() -> None:
    before = {"si_sdr": np.array([1.0, 5.0, np.nan]), "estoi": np.array([0.5, 0.7, 0.6])}
    after = {"si_sdr": before["si_sdr"] + [1, 3, 0], "estoi": before["estoi"] + 0.1}
    rows = adapt.summary({("noise", "default"): before, ("noise", "adapted"): after, ("rest", "default"): before}).rows
    assert [(row["corpus"], row["model"]) for row in rows] == [
        ("noise", "default"), ("noise", "adapted"), ("rest", "default"),
    ]  # fmt: skip
    assert "si_sdr_change" not in rows[0]
    assert rows[1]["si_sdr"] == 5.0
    mean, low, high = rows[1]["si_sdr_change"]
    assert (mean, low, high) == (2.0, 1.0, 3.0)
    assert rows[1]["estoi_change"] == pytest.approx([0.1, 0.1, 0.1])
