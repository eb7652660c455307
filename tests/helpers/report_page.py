"""Files to report on, and a parser of reports."""

from __future__ import annotations

import os
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import numpy as np

from hushwork.files.job import Outcome
from sounds import write

RATE = 16000
VOID = {"meta", "link", "img", "br"}
NAMES = [
    "a <b> & \"c\" 'd'.wav",
    "#1 100% a+b?x=1.wav",
    "zwei\nZeilen.wav",
    "größer 静か שלום.wav",
    "  spaces  here .wav",
    "c:colon.wav",
    "back\\slash.wav",
    "%41.wav",
]


class Page(HTMLParser):
    """What a browser would find: cells of each file, links, texts by element; fails on tags that do not nest."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.links: list[str] = []
        self.ids: Counter[str | None] = Counter()
        self.pictures: list[str | None] = []
        self.failures = self.text = ""
        self.heads: list[str] = []
        self.rows: list[list[str]] = []
        self.players: list[int] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        assert len(found) == len(attrs), f"an attribute twice: {attrs}"
        self.ids.update([found["id"]] if "id" in found else [])
        self.links += [found[name] or "" for name in ("href", "src") if name in found]
        if tag == "img":
            self.pictures.append(found["src"])
        if tag == "tbody":
            self.rows.append([])
            self.players.append(0)
        if tag == "audio":
            self.players[-1] += 1
        if tag in ("td", "th") and self.inside("tbody") and not self.inside("tr", "sound"):
            self.rows[-1].append("")
        if tag == "th" and self.inside("thead"):
            self.heads.append("")
        if tag not in VOID:
            self.open.append((tag, found))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if self.inside("section", "failures"):
            self.failures += data
        elif self.inside("thead") and self.inside("button"):
            self.heads[-1] += data
        elif self.inside("tbody") and not self.inside("tr", "sound"):
            if self.inside("td") or self.inside("th"):
                self.rows[-1][-1] += data
        elif not self.inside("script") and not self.inside("style"):
            self.text += data

    def inside(self, tag: str, name: str | None = None) -> bool:
        return any(one == tag and (name is None or found.get("class") == name) for one, found in self.open)

    @property
    def files(self) -> list[str]:
        return [row[1].removesuffix("speech lost?") for row in self.rows]

    def column(self, head: str) -> list[str]:
        return [row[self.heads.index(head)] for row in self.rows]

    def targets(self) -> set[Path]:
        """The files that the page refers to, found as a browser finds them."""
        found = set()
        for link in self.links:
            parts = urlsplit(link)
            if parts.scheme != "data":
                assert not parts.scheme
                assert not parts.query + parts.fragment
                found.add(Path(os.path.normpath(self.path.parent / os.fsdecode(unquote_to_bytes(parts.path)))))
        return found


def noise(seed: int = 0, db: float = -20, seconds: float = 0.5) -> np.ndarray:
    return 10 ** (db / 20) * np.random.default_rng(seed).standard_normal(round(seconds * RATE))


def denoised(folder: Path, name: str, snr_db: float = 10) -> Outcome:
    """A file whose estimated SNR is as given, up to 16 bits."""
    clean, hiss = noise(0), noise(1, -20 - snr_db)
    source, target = write(folder / "in" / name, clean + hiss), write(folder / "out" / name, clean)
    return Outcome(source, target, duration_s=0.5)
