// Recordings: a queue that one worker denoises, and a card for each with players and spectrograms.

import { clock } from "./clock.js";
import { decode } from "./decode.js";
import { codeAddress, modelFile } from "./hushwork.js";
import { Player } from "./player.js";
import { readWavHeader } from "./wav.js";

const make = (name, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
};

/** One worker, which keeps its model from recording to recording; ended when a recording is cancelled. */
class Engine {
  async run(job, { model, strength }, { signal, onProgress }) {
    signal.throwIfAborted();
    if (!this.worker || this.model !== model) {
      this.worker?.terminate();
      this.worker = new Worker(codeAddress("worker.js"));
      this.model = model;
      job = { ...job, model: await modelFile(model) };
    }
    const worker = this.worker;
    const stop = () => {
      worker.terminate();
      if (this.worker === worker) this.worker = null;
    };
    try {
      return await new Promise((resolve, reject) => {
        signal.onabort = () => {
          stop();
          reject(signal.reason);
        };
        signal.throwIfAborted();
        worker.onerror = () => {
          stop();
          reject(new Error("the browser has stopped the denoiser; there may not be enough memory"));
        };
        worker.onmessage = ({ data }) => {
          if (data.error) reject(new Error(data.error));
          else if (data.done) resolve(data);
          else onProgress(data.progress);
        };
        worker.postMessage({ ...job, strength });
      });
    } finally {
      signal.onabort = null;
    }
  }
}

/** A recording on the page. */
class Card {
  constructor(file, list, onRemove) {
    this.file = file;
    this.bar = make("progress", { max: 1, value: 0 });
    this.bar.setAttribute("aria-label", `progress of ${file.name}`);
    this.left = make("span", { className: "facts", textContent: "waiting" });
    this.cancel = make("button", { type: "button", textContent: "Cancel" });
    this.cancel.setAttribute("aria-label", `cancel ${file.name}`);
    this.body = make("div");
    this.element = make("li", {}, make("div", { className: "name", textContent: file.name }), this.body);
    this.cancel.onclick = () => {
      this.abort?.abort(new Error("cancelled"));
      this.dispose();
      this.element.remove();
      onRemove(this);
    };
    list.append(this.element);
    this.showWaiting();
  }

  showWaiting() {
    this.dispose();
    this.bar.value = 0;
    this.left.textContent = "waiting";
    this.cancel.textContent = "Cancel";
    this.body.replaceChildren(this.bar, make("div", { className: "row" }, this.cancel, this.left));
  }

  showProgress(share, startedMs) {
    this.bar.value = share;
    const leftS = ((performance.now() - startedMs) / 1000) * (1 / Math.max(share, 1e-3) - 1);
    this.left.textContent = `${Math.round(100 * share)} %, ${clock(Math.ceil(leftS))} left`;
  }

  showError(message) {
    this.cancel.textContent = "Remove";
    const text = make("p", { className: "error", textContent: `Not denoised: ${message}.` });
    this.body.replaceChildren(text, make("div", { className: "row" }, this.cancel));
  }

  showResult({ done, spectrogram, durationS, rate, numChannels, repaired, limited }, seconds) {
    const name = this.file.name.replace(/\.[^.]*$/, "");
    this.player = new Player(this.file.name, { Before: this.file, After: done.clean, Removed: done.removed }, durationS);
    const link = make("a", { className: "button main", textContent: "Download WAV", download: `${name} (denoised).wav` });
    this.address = link.href = URL.createObjectURL(done.clean);
    const facts = [`${clock(durationS)}`, `${rate / 1000} kHz`, numChannels === 1 ? "mono" : `${numChannels} channels`];
    facts.push(`${Math.round(durationS / Math.max(seconds, 1e-3))} × real time`);
    if (repaired) facts.push(`${repaired} samples were no numbers and were set to 0`);
    if (limited) facts.push(`${limited} samples were beyond full scale and were brought down to it`);
    this.cancel.textContent = "Remove";
    this.body.replaceChildren(
      this.player.element,
      make("div", { className: "pictures" }, picture("Before", spectrogram), picture("After", spectrogram)),
      make("div", { className: "row" }, link, this.cancel, make("span", { className: "facts", textContent: facts.join(", ") })),
    );
  }

  /** Frees what the browser keeps for the results. */
  dispose() {
    this.player?.close();
    this.player = null;
    URL.revokeObjectURL(this.address);
  }
}

/** Low levels are dark; colours run from blue to yellow. */
function picture(title, { columns, rows, ...levels }) {
  const canvas = make("canvas", { width: columns, height: rows });
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  levels[title.toLowerCase()].forEach((level, k) => {
    const at = 4 * ((rows - 1 - (k % rows)) * columns + Math.floor(k / rows));
    const x = level / 255;
    image.data.set([255 * Math.min(1, 1.6 * x * x), 255 * x ** 1.5, 255 * (0.25 + 0.5 * Math.sin(3 * x)) * Math.min(1, 3 * x), 255], at);
  });
  context.putImageData(image, 0, 0);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `spectrogram ${title.toLowerCase()}`);
  return make("figure", {}, canvas, make("figcaption", { textContent: `${title}: 0 to 8 kHz, left to right in time` }));
}

/** Makes the list work; `again` denoises everything with the settings of now. */
export function startFiles(settings) {
  const list = document.getElementById("list");
  const drop = document.getElementById("drop");
  const news = document.getElementById("news"); // for screen readers
  const choose = document.getElementById("choose");
  const engine = new Engine();
  const cards = [];
  const waiting = [];
  let isBusy = false;

  async function denoise(card) {
    const started = performance.now();
    card.abort = new AbortController();
    const isWav = await readWavHeader(card.file);
    card.left.textContent = "reading";
    const job = isWav ? { file: card.file } : await decode(card.file);
    const onProgress = (share) => card.showProgress(share, started);
    const result = await engine.run(job, settings(), { signal: card.abort.signal, onProgress });
    card.showResult(result, (performance.now() - started) / 1000);
    news.textContent = `${card.file.name} is denoised`;
  }

  async function work() {
    if (isBusy) return;
    isBusy = true;
    for (let card; (card = waiting.shift()); ) {
      try {
        await denoise(card);
      } catch (error) {
        if (error.message === "cancelled") continue;
        card.showError(error.message);
        news.textContent = `${card.file.name} was not denoised: ${error.message}`;
      }
    }
    isBusy = false;
  }

  function forget(card) {
    for (const each of [cards, waiting]) if (each.includes(card)) each.splice(each.indexOf(card), 1);
  }

  function add(files) {
    for (const file of files) {
      const card = new Card(file, list, forget);
      cards.push(card);
      waiting.push(card);
    }
    work();
  }

  choose.addEventListener("change", () => {
    add(choose.files);
    choose.value = "";
  });
  for (const event of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(event, (moved) => {
      moved.preventDefault();
      drop.classList.toggle("over", event === "dragover");
    });
  }
  document.addEventListener("drop", (dropped) => add(dropped.dataTransfer.files));

  return {
    again() {
      for (const card of cards) {
        card.abort?.abort(new Error("cancelled"));
        card.showWaiting();
      }
      waiting.splice(0, Infinity, ...cards);
      work();
    },
  };
}
