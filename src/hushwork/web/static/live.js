// The microphone: through the denoiser to an output, with meters and recording.

import { createDenoiser } from "./hushwork.js";
import { WavWriter } from "./wav.js";

const decibels = (peak) => Math.max(-60, 20 * Math.log10(peak + 1e-9));

const FADE_S = 0.03;

const REASONS = {
  NotAllowedError: "The page may not use the microphone. Allow it in the browser's settings for this page, then start again.",
  NotFoundError: "There is no microphone.",
  NotReadableError: "The microphone is in use by another program, or the system does not allow it.",
  OverconstrainedError: "This microphone is not there any more; choose another one.",
};

export function startLive(settings) {
  const names = ["start", "bypass", "record", "recording", "input", "output", "output-label", "before", "after", "before-db", "after-db", "state", "numbers"];
  const [start, bypass, record, recording, input, output, outputLabel, before, after, beforeDb, afterDb, state, numbers] = names.map(
    (id) => document.getElementById(id),
  );
  let connecting = Promise.resolve(); // models that are coming in, one after another
  let session = null; // {stream, context, source, node, fade, mixed, recorder, writer}
  const isPressed = (button) => button.getAttribute("aria-pressed") === "true";
  const press = (button, isOn) => button.setAttribute("aria-pressed", isOn);
  outputLabel.hidden = !("setSinkId" in AudioContext.prototype);

  const strength = () =>
    isPressed(bypass) ? { mix: 0, maxAttenuationDb: null, noiseOnly: false } : settings().strength;

  async function listDevices() {
    const devices = await navigator.mediaDevices.enumerateDevices();
    for (const [select, kind] of [[input, "audioinput"], [output, "audiooutput"]]) {
      const chosen = select.value;
      const options = devices.filter((each) => each.kind === kind && each.deviceId && each.deviceId !== "default");
      select.replaceChildren(select.options[0], ...options.map(({ label, deviceId }) => new Option(label || kind, deviceId)));
      select.value = options.some((each) => each.deviceId === chosen) ? chosen : "";
    }
  }

  /** Writes the state where screen readers speak it, once. */
  function say(text) {
    if (state.textContent !== text) state.textContent = text;
  }

  function showStatus({ before: peakBefore, after: peakAfter, load, isPassing, passedS }) {
    for (const [meter, text, peak] of [[before, beforeDb, peakBefore], [after, afterDb, peakAfter]]) {
      meter.value = decibels(peak);
      text.textContent = `${decibels(peak).toFixed(0)} dB`;
    }
    if (!session) return;
    const { context, node } = session;
    const delayMs = 1000 * (node.latencyS + context.baseLatency + (context.outputLatency || 0));
    session.load = session.load === undefined ? load : 0.9 * session.load + 0.1 * load;
    session.statuses = (session.statuses ?? 0) + 1;
    say(isPassing ? "This machine is too slow for the model: the sound passes unchanged. Choose the small model." : "On.");
    state.dataset.passed = passedS;
    if (session.statuses % 10 !== 1) return; // numbers that change ten times a second cannot be read
    const passed = passedS ? `, ${passedS.toFixed(1)} s passed unchanged because the machine was too slow` : "";
    numbers.textContent = `Delay ${delayMs.toFixed(0)} ms, load ${(100 * session.load).toFixed(0)} %${passed}`;
  }

  /** Brings a denoiser in, and fades from the one before to it once sound has come through; one call at a time. */
  async function connect() {
    if (!session) return;
    const { context, source, mixed, node: old, fade: oldFade } = session;
    const node = await createDenoiser(context, { model: settings().model });
    if (session?.context !== context) return node.close(); // it was turned off meanwhile
    node.setStrength(strength());
    const fade = context.createGain();
    source.connect(node).connect(fade).connect(mixed);
    session.node = node;
    session.fade = fade;
    node.onstatus = showStatus;
    if (old) {
      const start = context.currentTime + node.latencyS + 0.1;
      for (const [gain, from, to] of [[fade.gain, 0, 1], [oldFade.gain, 1, 0]]) {
        gain.setValueAtTime(from, context.currentTime);
        gain.setValueAtTime(from, start);
        gain.linearRampToValueAtTime(to, start + FADE_S);
      }
      old.onstatus = null;
      const leftS = start + 2 * FADE_S - context.currentTime;
      await new Promise((resolve) => setTimeout(resolve, 1000 * leftS + 100));
      source.disconnect(old);
      old.close();
      oldFade.disconnect();
    }
  }

  async function turnOn() {
    if (!navigator.mediaDevices) throw new Error("A browser gives the microphone only to pages from https or localhost.");
    const audio = { echoCancellation: true, noiseSuppression: false, autoGainControl: false };
    if (input.value) audio.deviceId = { exact: input.value };
    const stream = await navigator.mediaDevices.getUserMedia({ audio });
    session = { stream };
    const [track] = stream.getAudioTracks();
    // Firefox connects only what has one sample rate.
    const { sampleRate } = track.getSettings();
    session.context = new AudioContext({ latencyHint: "interactive", ...(sampleRate && { sampleRate }) });
    track.onended = () => turnOff("The microphone was disconnected.");
    await setOutput();
    session.source = session.context.createMediaStreamSource(stream);
    session.mixed = session.context.createGain();
    session.mixed.connect(session.context.destination);
    await connect();
    await session.context.resume();
    await listDevices();
    input.value = input.value || "";
    start.textContent = "Stop";
    bypass.disabled = record.disabled = false;
  }

  function turnOff(text = "The microphone is off.") {
    if (isPressed(record)) endRecording();
    session?.stream.getTracks().forEach((track) => track.stop());
    session?.node?.close();
    session?.context?.close();
    session = null;
    start.textContent = "Start";
    press(bypass, false);
    bypass.disabled = record.disabled = true;
    before.value = after.value = -60;
    beforeDb.textContent = afterDb.textContent = "–";
    numbers.textContent = "";
    say(text);
  }

  async function setOutput() {
    if (!outputLabel.hidden && session?.context) await session.context.setSinkId(output.value);
  }

  async function attempt(action) {
    start.disabled = true;
    try {
      await action();
    } catch (error) {
      turnOff(REASONS[error.name] ?? error.message);
    }
    start.disabled = false;
  }

  function endRecording() {
    press(record, false);
    record.textContent = "Record";
    session.recorder.port.postMessage("close");
    session.mixed.disconnect(session.recorder);
    URL.revokeObjectURL(recording.href);
    recording.href = URL.createObjectURL(session.writer.finish());
    recording.hidden = false;
    session.writer = null;
  }

  start.onclick = () => (session ? turnOff() : attempt(turnOn));
  bypass.onclick = () => {
    press(bypass, !isPressed(bypass));
    session.node.setStrength(strength());
  };
  record.onclick = () => {
    if (isPressed(record)) return endRecording();
    session.writer = new WavWriter({ rate: session.context.sampleRate, numChannels: 1, bits: 16 });
    session.recorder = new AudioWorkletNode(session.context, "hushwork-recorder", { numberOfOutputs: 0 });
    session.recorder.port.onmessage = ({ data }) => session?.writer?.write([data], data.length);
    session.mixed.connect(session.recorder);
    press(record, true);
    record.textContent = "Stop recording";
    recording.hidden = true;
  };
  input.onchange = () => session && attempt(() => (turnOff(), turnOn()));
  output.onchange = () => session && attempt(setOutput);
  navigator.mediaDevices?.addEventListener("devicechange", listDevices);

  return {
    setStrength: () => session?.node?.setStrength(strength()),
    setModel: () => session && (connecting = connecting.then(() => attempt(connect))),
  };
}
