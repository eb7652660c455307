"""Measure time per frame and speed over real time in JavaScript, in node and in Chromium.

    python scripts/benchmarks/benchmark_web.py [--runs 100]

Writes a table: milliseconds of a frame (16 ms of audio) in the network, for the fastest and the median run, and speed
over real time of a mono recording at 48 kHz with resampling and STFT, for the fastest run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hushwork.network.pretrained import load_pretrained
from hushwork.runs.numbers import Column, Numbers
from hushwork.web.model_file import write_model
from hushwork.web.site import STATIC, open_server

MODELS = ("small", "default")
MEASURE = """
async function measure(base, file, runs) {
  const { readModel } = await import(base + "model.js");
  const { StreamDenoiser } = await import(base + "denoiser.js");
  const model = readModel(file);
  const noise = (count) => Float32Array.from({ length: count }, () => 0.2 * (Math.random() - 0.5));
  const [spectrum, state, second] = [noise(model.fftSize + 2), model.program.initialState(), noise(48000)];
  const numFrames = 16; // two cycles of the slowest clock
  const [frameMs, realTimes, outputs] = [[], [], [new Float32Array(4096)]];
  for (let run = 0; run < runs; run++) {
    let started = performance.now();
    for (let frame = 0; frame < numFrames; frame++) model.program.run(spectrum, state);
    frameMs.push((performance.now() - started) / numFrames);
    const denoiser = new StreamDenoiser(model, 48000, 1);
    started = performance.now();
    for (let start = 0; start + 4096 <= second.length; start += 4096) {
      denoiser.push([second.subarray(start, start + 4096)], 4096);
      for (let count; (count = Math.min(4096, denoiser.available)); ) denoiser.shift(outputs, count);
    }
    realTimes.push(1000 / (performance.now() - started));
  }
  frameMs.sort((a, b) => a - b);
  return [frameMs[0], frameMs[runs >> 1], Math.max(...realTimes)];
}
"""


def in_node(folder: Path, name: str, runs: int) -> list[float]:
    script = f"""import fs from "node:fs";
        {MEASURE}
        const bytes = fs.readFileSync({json.dumps(str(folder / name))});
        const file = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
        console.log(JSON.stringify(await measure({json.dumps(STATIC.as_uri() + "/")}, file, {runs})));"""
    command = ["node", "--input-type=module", "--eval", script]
    numbers: list[float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return numbers


def in_chromium(folder: Path, names: Sequence[str], runs: int) -> list[list[float]]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage"):
        options.add_argument(f"--{argument}")
    driver: Any = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    driver.set_script_timeout(600)
    with open_server(folder, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        driver.get(f"http://localhost:{server.server_port}/empty.html")
        script = f"""{MEASURE}
            const done = arguments[1];
            fetch(arguments[0]).then((response) => response.arrayBuffer())
                .then((file) => measure(location.origin + "/static/", file, {runs})).then(done);"""
        try:
            return [driver.execute_async_script(script, f"/{name}") for name in names]
        finally:
            driver.quit()
            server.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=100, help="runs of 16 frames and 1 s of audio each (default 100)")
    result = Path("runs/benchmarks/browser.json")
    parser.add_argument("--out", type=Path, default=result, help="results (default: %(default)s)")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(STATIC, folder / "static")
        (folder / "empty.html").write_text("<!doctype html><title>benchmark</title>")
        for model in MODELS:
            (folder / model).write_bytes(write_model(load_pretrained(model), model))
        if shutil.which("node"):
            rows += [(f"`{model}`", "node", in_node(folder, model, options.runs)) for model in MODELS]
        if shutil.which("chromedriver"):
            found = in_chromium(folder, MODELS, options.runs)
            rows += [(f"`{model}`", "Chromium", numbers) for model, numbers in zip(MODELS, found, strict=True)]
    if not rows:
        raise SystemExit("neither node nor chromedriver is installed")
    columns = {
        "model": Column("model"),
        "runtime": Column("in"),
        "fastest": Column("ms a frame, fastest", 2),
        "median": Column("ms a frame, median", 2),
        "speed": Column("× real time, 48 kHz"),
    }
    cells = [dict(zip(columns, (model, runtime, *values), strict=True)) for model, runtime, values in rows]
    numbers = Numbers.measured("A frame (16 ms) of the network, and recordings at 48 kHz", columns, cells)
    numbers.write(options.out)
    print(f"{numbers.markdown()}\n{numbers.source}")


if __name__ == "__main__":
    main()
