"""The command that writes and serves the page."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from pathlib import Path
from urllib.request import urlopen

import pytest
from safetensors import safe_open

from hushwork.cli import main
from hushwork.web.site import STATIC, bundle, open_server, page_files, single_page
from node import NODE, needs_node


def test_the_site_refers_to_its_own_files_only() -> None:
    files = page_files(["small"])
    assert json.loads(files["models.json"]) == ["small"]
    page = files["index.html"].decode()
    assert {*re.findall(r'(?:src|href)="([^":]+)"', page)} == {"page.js", "page.css"}
    for name, content in files.items():
        if not name.startswith("models/"):
            addresses = {*re.findall(r"https?://[^\s'\")]+", content.decode())}
            assert addresses <= {"http://www.w3.org/2000/svg"}, name  # the name of a format, not a request


def test_the_model_file_holds_the_program(tmp_path: Path) -> None:
    assert main(["web", "--out", str(tmp_path), "--model", "small"]) == 0
    with safe_open(tmp_path / "models/small.safetensors", "numpy") as file:
        model = json.loads(file.metadata()["model"])
    assert (model["sampleRate"], model["fftSize"], model["hop"]) == (16000, 512, 256)
    assert {"GRU", "If"} <= {node["op"] for node in model["program"]["nodes"]}
    assert (tmp_path / "models/small.safetensors").stat().st_size < 600_000


@needs_node
@pytest.mark.parametrize("name", ["page.js", "hushwork.js", "worker.js", "worklet.js"])
def test_joined_scripts_are_valid(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.mjs"
    path.write_text(bundle(name))
    assert 'from "./' not in path.read_text()
    done = subprocess.run([str(NODE), "--check", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_scripts_use_only_imports_that_can_be_bundled() -> None:
    for path in STATIC.glob("*.js"):
        source = path.read_text()
        assert len(re.findall(r"^import ", source, re.M)) == len(
            re.findall(r'^import \{.*\} from "\./\w+\.js";$', source, re.M)
        )
        assert not re.search(r"^export (default|\{|\*)", source, re.M), path
        assert len(source.splitlines()) < 350, path


def test_one_file_holds_everything() -> None:
    page = single_page(["small"]).decode()
    assert "src=" not in page.split("<script", 1)[0]
    assert 'id="asset-models/small.safetensors"' in page
    assert page.count("</script>") == page.count("<script")


def test_it_is_served_with_the_types_that_browsers_ask_for(tmp_path: Path) -> None:
    (tmp_path / "page.js").write_text("1")
    with open_server(tmp_path, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with urlopen(f"http://127.0.0.1:{server.server_port}/page.js") as answer:
            assert answer.headers["Content-Type"] == "text/javascript"
        server.shutdown()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--single-file"], "--single-file needs --out DIR"),
        (["--out", "{}", "--model", "offline"], "offline is not causal"),
        (["--out", "{}", "--model", "small", "--model", "small"], "each must have a name of its own"),
    ],
)
def test_formats_that_cannot_be_written_are_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["web", *(word.format(tmp_path / "site") for word in arguments)]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "site").exists()
