"""The rules of rules.toml: packages, speakers, noise classes, and exclusions."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

RULES_FILE = Path(__file__).with_name("rules.toml")


@dataclass(frozen=True)
class Package:
    """What a Debian package is used for; ``noise`` is the split of its recordings, None if it has none. The speech of a
    ``noisy`` one must be cleaned."""

    name: str
    licence: str
    speech: bool = False
    noise: str | None = None
    music: bool = False
    small: bool = False
    noisy: bool = False


@dataclass(frozen=True)
class Rules:
    """The tables of ``rules.toml``."""

    tables: dict[str, Any]

    @classmethod
    def load(cls, path: Path = RULES_FILE) -> Rules:
        return cls(tomllib.loads(path.read_text(encoding="utf-8")))

    def packages(self, size: str = "full", *, restore: bool = False) -> list[Package]:
        packages = [Package(name, **entry) for name, entry in sorted(self.tables["packages"].items())]
        return [each for each in packages if (size == "full" or each.small) and (restore or not each.noisy)]

    def speaker(self, package: str, path: str) -> tuple[str, str] | None:
        """Speaker id and language tag of a file of a package, None if it is not a speech recording."""
        for rule in self.tables["speech"]:
            if rule["package"] == package and (match := re.search(rule["pattern"], path)):
                groups = {name: value for name, value in match.groupdict().items() if value}
                language = groups.setdefault("language", rule.get("language", "und"))
                return rule["speaker"].format(**groups), language
        return None

    def speech_split(self, speaker: str, language: str) -> str:
        speakers = self.tables["speakers"]
        if speaker in speakers["studio"]:
            return speakers["studio"][speaker]
        if not speaker.startswith(tuple(speakers["train_prefixes"])):
            for split, languages in speakers["languages"].items():
                if language in languages or language.split("_")[0] in languages:
                    return split
        return "train"

    def tier(self, speaker: str) -> str:
        """A: studio; B: volunteer with a low noise floor; C: other volunteers; N: too noisy as recorded."""
        speakers = self.tables["speakers"]
        if speaker.startswith(tuple(speakers["noisy_prefixes"])):
            return "N"
        return "A" if speaker in speakers["studio"] else "B" if speaker in speakers["tier_b"] else "C"

    def rejected_speaker(self, speaker: str) -> str | None:
        """Why this speaker is excluded; None for other speakers."""
        return self.tables["speakers"]["rejected"].get(speaker)

    def noise_class(self, package: str, path: str) -> str | None:
        """The noise class of a file of a package, judged by its path; None if it is not used as noise."""
        noise = self.tables["noise"]
        whole = f"/{path}".lower()
        named = "/".join((package, *PurePosixPath(path).parts[-3:])).lower()
        only, never = noise["only"].get(package), noise["never"].get(package)
        if (only and not re.search(only, whole)) or (never and re.search(never, whole)):
            return None
        voices, rejected, classes = self._noise_patterns
        if voices.search(whole) or rejected.search(named):
            return None
        return next((name for name, pattern in classes if pattern.search(named)), None)

    def noise_weight(self, noise_class: str) -> float:
        return self.tables["noise"]["weights"].get(noise_class, 1.0)

    def is_key_click(self, package: str, noise_class: str) -> bool:
        return noise_class == "keyboard" and package in self.tables["noise"]["key_clicks"]

    @cached_property
    def _noise_patterns(self) -> tuple[re.Pattern[str], re.Pattern[str], list[tuple[str, re.Pattern[str]]]]:
        noise = self.tables["noise"]
        classes = [(entry["name"], re.compile("|".join(entry["patterns"]))) for entry in noise["classes"]]
        return re.compile("|".join(noise["voices"])), re.compile("|".join(noise["rejected"])), classes


def bcp47(tag: str) -> str:
    """``zh_tw`` -> ``zh-TW``, ``sr_latn`` -> ``sr-Latn``: the packages write language tags in their own ways."""
    language, *others = tag.split("_")
    return "-".join([language, *(part.upper() if len(part) == 2 else part.title() for part in others)])
