// The page: settings, which recordings and microphone share.

import { startFiles } from "./files.js";
import { asset } from "./hushwork.js";
import { startLive } from "./live.js";

const [mix, mixValue, limit, model, noiseOnly] = ["mix", "mix-value", "limit", "model", "noise-only"].map((id) =>
  document.getElementById(id),
);

/** What is set: the name of the model, and the strength. */
function settings() {
  const maxAttenuationDb = limit.value === "" ? null : Number(limit.value);
  return { model: model.value, strength: { mix: mix.value / 100, maxAttenuationDb, noiseOnly: noiseOnly.checked } };
}

const TITLES = { small: "Small: quick, also on phones", default: "Default: cleaner, takes three times the time" };
const names = JSON.parse(new TextDecoder().decode(await asset("models.json")));
for (const name of names) model.add(new Option(TITLES[name] ?? name, name));

const files = startFiles(settings);
const live = startLive(settings);
mix.addEventListener("input", () => {
  mixValue.value = `${mix.value} %`;
  live.setStrength();
});
mix.addEventListener("change", files.again);
for (const each of [limit, noiseOnly]) {
  each.addEventListener("change", () => {
    live.setStrength();
    files.again();
  });
}
model.addEventListener("change", () => {
  live.setModel();
  files.again();
});
document.body.dataset.ready = "yes";
