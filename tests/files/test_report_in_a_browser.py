"""The report in Chromium: all recordings load, and columns sort."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hushwork.files import report
from hushwork.files.job import Outcome
from hushwork.files.report import write_report
from report_page import NAMES, denoised

SCRIPT = """{
const audios = [...document.querySelectorAll("audio")];
const order = () => [...document.querySelectorAll("tbody")].map((body) => body.rows[0].cells[0].textContent).join(" ");
const press = (text) => [...document.querySelectorAll("thead button")].find((b) => b.textContent === text).click();
const loaded = (audio) => new Promise((done) => {
  if (audio.readyState >= 1) return done();
  audio.addEventListener("loadedmetadata", done);
  audio.addEventListener("error", done);
  audio.preload = "metadata";
});
Promise.all(audios.map(loaded)).then(() => {
  const found = { ready: audios.map((audio) => audio.readyState >= 1 && audio.duration), orders: [order()] };
  for (const head of ["estimated SNR, dB", "estimated SNR, dB", "file", "samples repaired", "rank"]) {
    press(head);
    found.orders.push(order());
  }
  found.sorted = document.querySelector("th[aria-sort]").textContent;
  found.pictures = [...document.images].map((image) => image.complete && image.naturalWidth > 0);
  document.body.dataset.found = JSON.stringify(found);
});
}"""


@pytest.mark.slow
def test_in_a_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("needs Chromium")
    monkeypatch.setattr(report, "find_spec", lambda name: None)  # no judges, which would sort the files
    outcomes = [denoised(tmp_path, name, snr_db) for snr_db, name in enumerate(NAMES)]
    outcomes[1] = Outcome(outcomes[1].source, outcomes[1].target, 0.5, repaired=7)
    path = tmp_path / "my report.html"
    write_report(path, outcomes, {"model": "tiny"})
    page = path.read_text("utf-8")
    (tmp_path / "with script.html").write_text(page.replace("</body>", f"<script>{SCRIPT}</script></body>"), "utf-8")
    command = [
        browser,
        "--headless",
        "--disable-gpu",
        "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'user'}",
    ]
    command += ["--no-sandbox"] if os.geteuid() == 0 else []
    command += ["--virtual-time-budget=10000", "--dump-dom", (tmp_path / "with script.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert "CONSOLE" not in done.stderr
    found = json.loads(html.unescape(re.search(r'data-found="([^"]*)"', done.stdout)[1]))
    assert found["ready"] == [0.5] * 3 * len(NAMES)
    assert found["pictures"] == [True] * 3 * len(NAMES)
    ranks = list(range(1, len(NAMES) + 1))
    orders = [[int(rank) for rank in order.split()] for order in found["orders"]]
    assert orders[0] == orders[1] == orders[5] == ranks
    assert orders[2] == ranks[::-1]
    assert sorted(orders[3]) == ranks
    assert orders[3] != ranks
    assert (orders[4][-1], sorted(orders[4])) == (2, ranks)
    assert found["sorted"] == "rank"
