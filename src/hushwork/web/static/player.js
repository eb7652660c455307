// One player for several versions of a recording, which switches between them in place.

import { clock } from "./clock.js";

export class Player {
  /** @param {Record<string, Blob>} versions by their titles; the second is chosen at first */
  constructor(name, versions, durationS) {
    this.sounds = Object.values(versions).map((blob) => new Audio(URL.createObjectURL(blob)));
    const titles = Object.keys(versions);
    this.element = document.createElement("div");
    this.element.className = "row";
    this.play = document.createElement("button");
    this.play.type = "button";
    this.seek = Object.assign(document.createElement("input"), { type: "range", max: durationS, step: 0.01, value: 0 });
    this.seek.setAttribute("aria-label", `position in ${name}`);
    this.time = document.createElement("span");
    this.time.className = "facts";
    const choice = document.createElement("div");
    choice.className = "choice";
    choice.setAttribute("role", "group");
    choice.setAttribute("aria-label", `version of ${name}`);
    this.buttons = titles.map((title, k) => {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: title });
      button.onclick = () => this.choose(k);
      return button;
    });
    choice.append(...this.buttons);
    const place = document.createElement("div");
    place.className = "place";
    place.append(this.seek, this.time);
    this.element.append(this.play, choice, place);
    this.durationS = durationS;
    this.play.onclick = () => (this.sound.paused ? this.sound.play() : this.sound.pause());
    this.seek.oninput = () => (this.sound.currentTime = this.seek.value);
    for (const sound of this.sounds) {
      for (const event of ["play", "pause", "ended", "timeupdate", "seeked"]) sound.addEventListener(event, () => this.#show());
    }
    this.choose(1);
  }

  get sound() {
    return this.sounds[this.chosen];
  }

  choose(number) {
    const before = this.sound;
    this.chosen = number;
    this.buttons.forEach((button, k) => button.setAttribute("aria-pressed", k === number));
    if (before && before !== this.sound) {
      this.sound.currentTime = before.currentTime;
      if (!before.paused) this.sound.play();
      before.pause();
    }
    this.#show();
  }

  #show() {
    this.play.textContent = this.sound.paused ? "▶ Play" : "❚❚ Pause";
    this.seek.value = this.sound.currentTime;
    this.time.textContent = `${clock(this.sound.currentTime)} / ${clock(this.durationS)}`;
  }

  close() {
    for (const sound of this.sounds) {
      sound.pause();
      URL.revokeObjectURL(sound.src);
    }
  }
}
