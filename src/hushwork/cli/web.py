"""``hushwork web``: denoising in the browser."""

from __future__ import annotations

import argparse
from typing import Any

MODELS = ("small", "default")


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "web",
        help="denoise in the browser: open the page, or write it",
        description="Open a page that denoises files and the microphone in the browser, on this machine alone. With "
        "--out the same is written as files that any web server can host; they also hold the denoiser as a module for "
        "other pages.",
    )
    parser.add_argument("--out", metavar="DIR", help="write the page there instead of opening it; is created")
    one = "write one file, DIR/index.html, that a browser opens from disk; its model is small unless --model is given"
    parser.add_argument("--single-file", action="store_true", help=one)
    which = (
        "a causal model that the page offers, by name or folder; may be given several times (default: small, default)"
    )
    parser.add_argument("--model", action="append", metavar="MODEL", help=which)
    parser.add_argument("--port", type=int, default=0, help="port of the page on this machine (default: a free one)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    import tempfile
    import webbrowser

    from hushwork.web.site import open_server, write_site

    if options.single_file and not options.out:
        raise ValueError("--single-file needs --out DIR, the folder to write index.html into")
    models = options.model or (MODELS[:1] if options.single_file else MODELS)
    if options.out:
        for path in write_site(options.out, models, single_file=options.single_file):
            print(f"{path}  {path.stat().st_size / 1e6:.2f} MB")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        write_site(folder, models)
        with open_server(folder, options.port) as server:
            address = f"http://localhost:{server.server_port}/"
            print(f"{address}  (Ctrl+C ends)", flush=True)
            if not options.no_browser:
                webbrowser.open(address)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                return 0
    return 0
