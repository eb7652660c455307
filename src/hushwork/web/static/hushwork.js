// The denoiser for other pages: `createDenoiser` gives a node for the Web Audio API.

import { FULL } from "./strength.js";

const insidePage = (name) => document.getElementById(`asset-${name}`); // if it was written as a single file

/** Bytes of a file beside this one. */
export async function asset(name) {
  const inside = insidePage(name);
  if (inside?.type === "text/plain") return new TextEncoder().encode(inside.textContent).buffer;
  if (inside) return Uint8Array.from(atob(inside.textContent), (letter) => letter.charCodeAt(0)).buffer;
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new Error(`${name} cannot be loaded (${response.status} ${response.statusText})`);
  return response.arrayBuffer();
}

/** The address of code for a worker or a worklet. */
export function codeAddress(name) {
  const inside = insidePage(name);
  return inside ? `data:text/javascript,${encodeURIComponent(inside.textContent)}` : new URL(name, import.meta.url).href;
}

export const modelFile = (name) => asset(`models/${name}.safetensors`);

const prepared = new WeakMap(); // contexts that have the worklet's code

/**
 * A node that removes noise from speech, mono, with constant latency. See hushwork.d.ts for its properties.
 * @param {BaseAudioContext} context of any sample rate
 * @param {{model?: string | ArrayBuffer, strength?: object}} options model: "small", "default", or a model file
 */
export async function createDenoiser(context, { model = "small", strength } = {}) {
  if (!context.audioWorklet) throw new Error("sound can be processed only on pages from https or localhost");
  if (!prepared.has(context)) {
    const loading = context.audioWorklet.addModule(codeAddress("worklet.js"));
    prepared.set(context, loading);
    loading.catch(() => prepared.delete(context)); // so that another call tries again
  }
  const file = typeof model === "string" ? await modelFile(model) : model;
  await prepared.get(context);
  const node = new AudioWorkletNode(context, "hushwork-denoiser", {
    numberOfInputs: 1,
    numberOfOutputs: 1,
    outputChannelCount: [1],
    processorOptions: { model: file, strength: { ...FULL, ...strength } },
  });
  let current = { ...FULL, ...strength };
  node.setStrength = (changes) => {
    current = { ...current, ...changes };
    node.port.postMessage({ strength: current });
  };
  node.close = () => {
    node.disconnect();
    node.port.postMessage({ close: true });
  };
  node.onstatus = null;
  await new Promise((resolve, reject) => {
    node.onprocessorerror = () => reject(new Error("the model cannot be read; write it again with hushwork web --out DIR"));
    node.port.onmessage = ({ data }) => {
      node.latencyS = data.latencyS;
      resolve();
    };
  });
  node.port.onmessage = ({ data }) => node.onstatus?.(data);
  return node;
}
