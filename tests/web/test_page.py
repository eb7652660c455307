"""The page in Chromium: recordings and the microphone, as a user operates it."""

from __future__ import annotations

import base64
import io
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from hushwork.cli import main
from hushwork.web.site import open_server, write_site

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: the page was not tried")
from selenium.webdriver.common.by import By  # noqa: E402 -- selenium may be missing
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and CHROMEDRIVER), reason="chromium and chromedriver are not installed: the page was not tried"
)
MICROPHONE_HZ, MICROPHONE_AMPLITUDE = 220, 0.25
WAIT_S = 60


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the page."""
    folder = tmp_path_factory.mktemp("site")
    write_site(folder, ["small", "default"])
    with open_server(folder, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute of a steady tone, a whole number of periods, so that clicks show."""
    path = tmp_path_factory.mktemp("microphone") / "tone.wav"
    t = np.arange(60 * 48000) / 48000
    soundfile.write(path, MICROPHONE_AMPLITUDE * np.sin(2 * np.pi * MICROPHONE_HZ * t), 48000)
    return path


@pytest.fixture
def browser(microphone: Path) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (
        *("headless=new", "no-sandbox", "disable-dev-shm-usage", "autoplay-policy=no-user-gesture-required"),
        *("use-fake-ui-for-media-stream", "use-fake-device-for-media-stream"),
        f"use-file-for-fake-audio-capture={microphone}",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(CHROMEDRIVER))
    yield driver
    driver.quit()


def wait(browser: Any, condition: Any, seconds: float = WAIT_S) -> Any:
    return WebDriverWait(browser, seconds, poll_frequency=0.1).until(lambda _: condition())


def by_id(browser: Any, name: str) -> Any:
    return browser.find_element(By.ID, name)


def open_page(browser: Any, address: str) -> None:
    browser.get(address)
    wait(browser, lambda: browser.execute_script("return document.body.dataset.ready"))


def set_value(browser: Any, name: str, value: str) -> None:
    """As by a user: change the value, and send the page an event."""
    script = """arguments[0].value = arguments[1];
        for (const event of ["input", "change"]) arguments[0].dispatchEvent(new Event(event))"""
    browser.execute_script(script, by_id(browser, name), value)


def errors(browser: Any) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def downloaded(browser: Any, link: Any) -> tuple[np.ndarray, int, str]:
    """What a link gives: samples (C, N), sample rate, subtype."""
    script = """const done = arguments[1];
        fetch(arguments[0].href).then((response) => response.blob()).then((blob) => {
            const reader = new FileReader();
            reader.onload = () => done(reader.result.split(",")[1]);
            reader.readAsDataURL(blob);
        })"""
    content = base64.b64decode(browser.execute_async_script(script, link))
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        return file.read(dtype="float32", always_2d=True).T, file.samplerate, file.subtype


def noisy_recording(path: Path, sample_rate: int = 48000, seconds: float = 2.5, subtype: str = "PCM_24") -> np.ndarray:
    """Voices of two channels in noise, with a high band."""
    rng = np.random.default_rng(0)
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    pitch = 2 * np.pi * np.cumsum(140 + 20 * np.sin(2 * np.pi * t)) / sample_rate
    voice = np.sin(2 * np.pi * 3 * t).clip(0) * sum(np.sin(k * pitch) / k for k in range(1, 30))
    audio = np.stack([0.2 * voice, 0.1 * voice]) + 0.02 * rng.standard_normal((2, len(t)))
    soundfile.write(path, audio.T, sample_rate, subtype=subtype)
    return audio


def give(browser: Any, *paths: Path) -> None:
    by_id(browser, "choose").send_keys("\n".join(map(str, paths)))


def links(browser: Any) -> list[Any]:
    return browser.find_elements(By.CSS_SELECTOR, "#list a[download]")


def test_recordings(browser: Any, site: str, tmp_path: Path) -> None:
    """What the page gives is what ``hushwork denoise`` gives; a file that cannot be read is named, others go on."""
    source, target, broken, flac = (tmp_path / name for name in ("noisy.wav", "clean.wav", "broken.mp3", "noisy.flac"))
    noisy_recording(source)
    soundfile.write(flac, *soundfile.read(source))
    broken.write_bytes(b"no sound at all")
    assert main(["denoise", str(source), "-o", str(target), "--model", "small"]) == 0
    expected = soundfile.read(target, dtype="float32", always_2d=True)[0].T
    open_page(browser, site)
    give(browser, broken, source, flac)
    wait(browser, lambda: len(links(browser)) == 2)
    refused = browser.find_element(By.CSS_SELECTOR, "#list > li")
    assert "broken.mp3" in refused.text
    assert "convert it to WAV" in refused.text
    for link, subtype, bound_db in zip(links(browser), ("PCM_24", "PCM_16"), (-60, -55), strict=True):
        actual, sample_rate, found = downloaded(browser, link)
        assert (sample_rate, found, actual.shape) == (48000, subtype, expected.shape)
        assert 10 * np.log10(np.square(actual - expected).sum() / np.square(expected).sum()) < bound_db
    # Other strength: denoised again, and bypassed altogether it is the recording.
    set_value(browser, "mix", "0")
    assert not links(browser)
    wait(browser, lambda: len(links(browser)) == 2)
    actual, *_ = downloaded(browser, links(browser)[0])
    given = soundfile.read(source, dtype="float32")[0].T
    np.testing.assert_allclose(actual, given, atol=2e-7)
    folder = tmp_path / "downloads"
    browser.execute_cdp_cmd("Page.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
    links(browser)[0].click()
    wait(browser, lambda: (folder / "noisy (denoised).wav").exists())
    assert errors(browser) == []
    elsewhere = "return performance.getEntriesByType('resource').map((each) => each.name)"
    assert [
        name for name in browser.execute_script(elsewhere) if not name.startswith((site, f"blob:{site}", "data:"))
    ] == []


def test_versions_switch_in_place(browser: Any, site: str, tmp_path: Path) -> None:
    noisy_recording(tmp_path / "noisy.wav", seconds=8)
    open_page(browser, site)
    give(browser, tmp_path / "noisy.wav")
    wait(browser, lambda: links(browser))
    play, before, after, _ = browser.find_elements(By.CSS_SELECTOR, "#list .row button")[:4]
    place = browser.find_element(By.CSS_SELECTOR, "#list input")
    play.click()
    wait(browser, lambda: float(place.get_property("value")) > 0.5)
    before.click()
    position = float(place.get_property("value"))
    assert position > 0.4
    assert "Pause" in play.text  # it plays on
    assert (before.get_attribute("aria-pressed"), after.get_attribute("aria-pressed")) == ("true", "false")
    wait(browser, lambda: float(place.get_property("value")) > position)
    play.click()
    wait(browser, lambda: "Play" in play.text)


def test_a_recording_can_be_cancelled(browser: Any, site: str, tmp_path: Path) -> None:
    silence = np.zeros((600 * 48000, 2), np.int16)
    soundfile.write(tmp_path / "long.wav", silence, 48000)
    noisy_recording(tmp_path / "short.wav", 16000, seconds=1)
    open_page(browser, site)
    give(browser, tmp_path / "long.wav", tmp_path / "short.wav")
    wait(browser, lambda: "left" in by_id(browser, "list").text)
    browser.find_element(By.CSS_SELECTOR, "#list button").click()
    wait(browser, lambda: links(browser))
    assert "long.wav" not in by_id(browser, "list").text


def start(browser: Any) -> None:
    by_id(browser, "start").click()
    wait(browser, lambda: by_id(browser, "state").text.startswith("On."))


def test_the_microphone_changes_settings_without_clicks(browser: Any, site: str) -> None:
    """A tone made inside the page's graph replaces the microphone: a busy machine loses sound of the browser's own."""
    open_page(browser, site)
    tone = """const [frequency, amplitude] = arguments;
        AudioContext.prototype.createMediaStreamSource = function () {
            const gain = new GainNode(this, { gain: amplitude });
            const oscillator = new OscillatorNode(this, { frequency });
            oscillator.connect(gain);
            oscillator.start();
            return gain;
        }"""
    browser.execute_script(tone, MICROPHONE_HZ, MICROPHONE_AMPLITUDE)
    start(browser)
    wait(browser, lambda: float(by_id(browser, "before").get_property("value")) > -20)
    by_id(browser, "record").click()
    changes = [("mix", "40"), ("limit", "12"), ("model", "default"), ("mix", "100"), ("limit", ""), ("model", "small")]
    begun = time.monotonic()
    for number, (name, value) in enumerate(changes, 1):
        set_value(browser, name, value)
        if number % 2:
            by_id(browser, "noise-only").click()
        by_id(browser, "bypass").click()
        wait(browser, lambda: time.monotonic() - begun > 0.6 * number)  # noqa: B023 -- called at once
    by_id(browser, "record").click()
    audio, sample_rate, _ = downloaded(browser, by_id(browser, "recording"))
    assert audio.shape[1] > 3 * sample_rate
    steepest = MICROPHONE_AMPLITUDE * (2 * np.pi * MICROPHONE_HZ / sample_rate) ** 2
    assert np.abs(np.diff(audio[0], 2)).max() < 10 * steepest  # a step of a tenth of the amplitude would be 30 times it
    assert np.abs(audio).max() > MICROPHONE_AMPLITUDE / 2
    by_id(browser, "start").click()
    assert by_id(browser, "state").text == "The microphone is off."
    assert errors(browser) == []


@pytest.mark.parametrize("seconds", [5, pytest.param(600, marks=pytest.mark.slow)], ids=["five seconds", "ten minutes"])
def test_live_sound_loses_nothing(seconds: int, browser: Any, site: str) -> None:
    """A bypassed denoiser, which computes all the same, gives the microphone, late by its latency: to the sample.

    What the browser's fake microphone itself loses on a busy machine is in both.
    """
    browser.get(site)
    script = """const [seconds] = arguments;
        window.results = null;
        (async () => {
            const { createDenoiser } = await import("./hushwork.js");
            const stream = await navigator.mediaDevices.getUserMedia({ audio: { noiseSuppression: false } });
            const context = new AudioContext({ sampleRate: 48000 });
            const denoiser = await createDenoiser(context, { model: "small", strength: { mix: 0 } });
            const source = context.createMediaStreamSource(stream);
            const late = new DelayNode(context, { maxDelayTime: 1, delayTime: denoiser.latencyS });
            const negative = new GainNode(context, { gain: -1 });
            const recorder = new AudioWorkletNode(context, "hushwork-recorder", { numberOfOutputs: 0 });
            let [samples, largest, passedS, loudest] = [0, 0, 0, 0];
            recorder.port.onmessage = ({ data }) => {
                samples += data.length;
                if (samples > 48000) largest = data.reduce((most, each) => Math.max(most, Math.abs(each)), largest);
            };
            denoiser.onstatus = (status) => {
                passedS = status.passedS;
                loudest = Math.max(loudest, status.after);
            };
            source.connect(denoiser).connect(recorder);
            source.connect(late).connect(negative).connect(recorder);
            denoiser.connect(context.destination);
            await context.resume();
            await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
            return [samples / 48000, largest, passedS, loudest];
        })().catch(String).then((results) => (window.results = results))"""
    browser.execute_script(script, seconds)
    results = wait(browser, lambda: browser.execute_script("return window.results"), seconds + WAIT_S)
    assert isinstance(results, list), results
    heard_s, largest, passed_s, loudest = results
    assert heard_s > 0.9 * seconds
    assert passed_s == 0
    assert loudest > MICROPHONE_AMPLITUDE / 2
    assert largest < 1e-4


def test_the_policy_of_the_page_permits_webassembly(browser: Any, site: str) -> None:
    """Without it the engine would fall back to JavaScript, silently and slower."""
    open_page(browser, site)
    empty = "new WebAssembly.Module(Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0))"
    assert browser.execute_script(f"return {empty} instanceof WebAssembly.Module")


def test_the_single_file_opens_from_disk(browser: Any, tmp_path: Path) -> None:
    assert main(["web", "--single-file", "--out", str(tmp_path / "one")]) == 0
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["index.html"]
    noisy_recording(tmp_path / "noisy.wav")
    open_page(browser, (tmp_path / "one/index.html").as_uri())
    give(browser, tmp_path / "noisy.wav")
    wait(browser, lambda: links(browser))
    start(browser)
    assert errors(browser) == []


def test_the_module_for_other_pages(browser: Any, site: str) -> None:
    """In an offline context of 44.1 kHz: noise gets quieter, and the bypass only delays."""
    browser.get(site)
    script = """const done = arguments[0];
        const render = async (strength) => {
            const { createDenoiser } = await import("./hushwork.js");
            const context = new OfflineAudioContext(1, 2 * 44100, 44100);
            const buffer = context.createBuffer(1, 2 * 44100, 44100);
            let seed = 1;
            buffer.getChannelData(0).forEach((_, k, samples) => {
                seed = (seed * 16807) % 2147483647;
                samples[k] = 0.1 * (seed / 2147483647 - 0.5);
            });
            const source = new AudioBufferSourceNode(context, { buffer });
            const denoiser = await createDenoiser(context, { model: "small", strength });
            source.connect(denoiser).connect(context.destination);
            source.start();
            const given = buffer.getChannelData(0).slice();
            const made = (await context.startRendering()).getChannelData(0);
            return [denoiser.latencyS * 44100, [...given], [...made]];
        };
        Promise.all([render({}), render({ mix: 0 })]).then(done, (error) => done(String(error)))"""
    browser.set_script_timeout(WAIT_S)
    results = browser.execute_async_script(script)
    assert isinstance(results, list), results
    (_, given, clean), (latency, _, bypassed) = results
    latency = round(latency)
    assert latency / 44100 < 0.045
    np.testing.assert_allclose(bypassed[latency:], given[: len(given) - latency], atol=1e-6)
    assert np.std(clean[44100:]) < 0.3 * np.std(given)
