#!/usr/bin/env python3
"""Build the site: execute course and tutorials, check links inside, treat warnings as errors.

pip install -e '.[docs]' && python docs/build.py       # the site is docs/_build/html/index.html
python docs/build.py --external                         # links to other hosts as well; needs the network
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sphinx.cmd.build import main as sphinx

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small networks: threads cost more than they gain
DOCS = Path(__file__).parent
SITE = DOCS / "_build" / "html"


class Page(HTMLParser):
    """Ids and links of an HTML page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            if name in ("href", "src", "data") and value:
                self.links.add(value)


def broken_links(site: Path) -> list[str]:
    """Links to files or anchors of the site that do not exist; links to other hosts are not checked."""
    pages = {path: Page(path) for path in sorted(site.rglob("*.html")) if "_static" not in path.parts}  # templates
    broken = []
    for path, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(parts.fragment)
            if not target.is_file() or (anchor and target in pages and anchor not in pages[target].ids):
                broken.append(f"{path.relative_to(site)} links to {link}, which does not exist")
    return broken


def build(builder: str, target: Path) -> int:
    """The exit status of Sphinx; builders share what they have read, so that nothing is executed twice."""
    shared = ["-d", str(DOCS / "_build" / "doctrees")]
    return sphinx(["-q", "-W", "--keep-going", "-b", builder, *shared, str(DOCS), str(target)])


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the site and check its links.")
    parser.add_argument("--external", action="store_true", help="check links to other hosts too; needs the network")
    options = parser.parse_args()
    for folder in ("_build", "generated"):
        shutil.rmtree(DOCS / folder, ignore_errors=True)  # so that every output is of this code
    if build("html", SITE):
        print("the site was not built")
        return 1
    broken = broken_links(SITE.resolve())
    print("\n".join(broken) or f"site: {SITE / 'index.html'}")
    external = build("linkcheck", DOCS / "_build" / "linkcheck") if options.external else 0
    return int(bool(broken or external))


if __name__ == "__main__":
    sys.exit(main())
