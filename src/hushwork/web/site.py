"""The page as files for any web server, as one file, and served from this machine.

Scripts are written so that :func:`bundle` can join them: imports stand at the top, one a line and by name, and exports
are declarations at the beginning of a line.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from hushwork.atomic import write_atomically
from hushwork.network.pretrained import load_pretrained
from hushwork.web.model_file import write_model

STATIC = Path(__file__).parent / "static"
BUNDLES = ("page.js", "hushwork.js", "worker.js", "worklet.js")
COPIES = ("index.html", "page.css", "hushwork.d.ts")
IMPORT = re.compile(r'^import (\{.*\}) from "\./(\w+)\.js";$', re.MULTILINE)
EXPORT = re.compile(r"^export ((?:async )?(?:function|class|const) (\w+))", re.MULTILINE)


def bundle(name: str) -> str:
    """A script with all that it imports, each module in a scope of its own; what it exports stays exported."""
    order: list[str] = []

    def visit(module: str) -> None:
        for _, imported in IMPORT.findall(_source(module)):
            if imported not in order:
                visit(imported)
        order.append(module)

    visit(name.removesuffix(".js"))
    return "".join(_scoped(module) for module in order[:-1]) + IMPORT.sub(_from_scope, _source(order[-1]))


def _source(module: str) -> str:
    return (STATIC / f"{module}.js").read_text(encoding="utf-8")


def _from_scope(match: re.Match[str]) -> str:
    return f"const {match[1]} = module_{match[2]};"


def _scoped(module: str) -> str:
    source = _source(module)
    exported = ", ".join(name for _, name in EXPORT.findall(source))
    body = EXPORT.sub(r"\1", IMPORT.sub(_from_scope, source))
    return f"const module_{module} = (() => {{\n{body}return {{ {exported} }};\n}})();\n\n"


def page_files(models: Sequence[str]) -> dict[str, bytes]:
    """The page by names of files: what a web server needs.

    Args:
        models: names or folders, see :func:`hushwork.network.model_folder.find_model`; the first is chosen at first.

    Raises:
        ValueError: a model cannot be read, cannot stream, or two have one name.
    """
    names = [Path(model).resolve().name if Path(model).is_dir() else model for model in models]
    if len(set(names)) < len(names):
        raise ValueError(f"models are {', '.join(map(str, models))}; each must have a name of its own")
    files = {name: (STATIC / name).read_bytes() for name in COPIES}
    files |= {name: bundle(name).encode() for name in BUNDLES}
    files["models.json"] = json.dumps(names).encode()
    for name, model in zip(names, models, strict=True):
        files[f"models/{name}.safetensors"] = write_model(load_pretrained(model), name)
    return files


def single_page(models: Sequence[str]) -> bytes:
    """The page as one HTML file, which a browser also opens from a disk."""
    files = page_files(models)
    page = files.pop("index.html").decode()
    assets = []
    for name, content in files.items():
        if name in ("worker.js", "worklet.js", "models.json"):
            assets.append(f'<script type="text/plain" id="asset-{name}">{content.decode()}</script>')
        elif name.startswith("models/"):
            text = base64.b64encode(content).decode()
            assets.append(f'<script type="application/octet-stream" id="asset-{name}">{text}</script>')
    style, script = (files[name].decode() for name in ("page.css", "page.js"))
    page = page.replace('<link rel="stylesheet" href="page.css">', f"<style>\n{style}</style>")
    linked = '<script type="module" src="page.js"></script>'
    return page.replace(linked, "\n".join([*assets, f'<script type="module">\n{script}</script>'])).encode()


def write_site(folder: str | Path, models: Sequence[str], *, single_file: bool = False) -> list[Path]:
    """Write the page into a folder, over what an earlier call has written; returns the files."""
    files = {"index.html": single_page(models)} if single_file else page_files(models)
    paths = [Path(folder) / name for name in files]
    for path, content in zip(paths, files.values(), strict=True):
        with write_atomically(path) as part:
            part.write_bytes(content)
    return paths


class _Handler(SimpleHTTPRequestHandler):
    """Serves files of a folder, without log messages, and with fixed content types of scripts."""

    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".js": "text/javascript"}  # noqa: RUF012

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 -- the library's name
        pass


def open_server(folder: str | Path, port: int) -> ThreadingHTTPServer:
    """A server of a folder for this machine only; port 0 takes a free one. Call ``serve_forever``."""
    return ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, directory=str(folder)))
