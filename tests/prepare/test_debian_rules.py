"""hushwork prepare debian: which file is which speaker, split, tier and noise class."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from hushwork.prepare.debian.rules import bcp47

# ---------------------------------------------------------------- rules


@pytest.mark.parametrize(
    ("package", "path", "speaker", "split", "tier"),
    [
        ("festvox-ru", "usr/share/festival/voices/wav/001.wav", ("fvru_nsh", "ru"), "train", "A"),
        ("asterisk-core-sounds-fr-g722", "usr/share/fr/hello.wav", ("ast_fr_june", "fr_CA"), "test", "A"),
        ("asterisk-core-sounds-ru-g722", "usr/share/ru/hello.wav", ("ast_ru_maxim", "ru"), "valid", "A"),
        ("tuxpaint-stamps-default", "stamps/animals/cow_desc_be.ogg", ("tp_be", "be"), "test", "B"),
        ("tuxpaint-stamps-default", "stamps/animals/cow_desc.ogg", ("tp_en", "en"), "train", "C"),
        ("tuxpaint-stamps-default", "stamps/symbols/numbers/7_en_GB.ogg", ("tps_en_GB", "en_GB"), "train", "B"),
        ("klettres-data", "klettres/pt_BR/alpha/a.ogg", ("kl_pt_BR", "pt_BR"), "train", "C"),
        ("ktuberling-data", "ktuberling/sounds/ca@valencia/eye.ogg", ("kt_ca", "ca"), "train", "B"),
        ("ktuberling-data", "ktuberling/sounds/uk/eye.ogg", ("kt_uk", "uk"), "valid", "B"),
        ("gcin-voice", "gcin/ogg/ma1/5.ogg", ("gcin_5", "zh"), "train", "C"),
        ("0ad-data", "audio/voice/latin/civ/civ_female_yes.ogg", ("zad_latin_f", "und"), "train", "B"),
        ("hedgewars-data", "Sounds/voices/Ukrainian_uk/Hello.ogg", ("hw_Ukrainian_uk", "uk"), "train", "C"),
        ("fillets-ng-data-cs", "fillets-ng/sound/city/cs/vit-m-hlava.ogg", ("fil_cs_m", "cs"), "train", "N"),
        ("fillets-ng-data-nl", "fillets-ng/sound/share/nl/sp-v.ogg", ("fil_nl_v", "nl"), "train", "N"),
    ],
)
def test_speaker_split_and_tier(
    rules: Any, package: str, path: str, speaker: tuple[str, str], split: str, tier: str
) -> None:
    assert rules.speaker(package, path) == speaker
    assert rules.speech_split(*speaker) == split
    assert rules.tier(speaker[0]) == tier


@pytest.mark.parametrize(
    ("package", "path"),
    [
        ("asterisk-core-sounds-en-g722", "usr/share/en/silence/1.wav"),
        ("tuxpaint-stamps-default", "stamps/animals/cow.ogg"),
        ("klettres-data", "klettres/all/alpha/a.ogg"),
        ("0ad-data", "audio/ambient/rain.ogg"),
        ("fillets-ng-data-cs", "fillets-ng/sound/city/cs/vit-hs-klid1.ogg"),
        ("torcs-data", "sound/engine.wav"),
    ],
)
def test_not_speech(rules: Any, package: str, path: str) -> None:
    assert rules.speaker(package, path) is None


def test_volunteers_of_a_language_share_a_split(rules: Any) -> None:
    prefixes = {"klettres-data": "kl_", "ktuberling-data": "kt_", "qabcs-data": "qa_", "tuxpaint-stamps-default": "tp_"}
    languages = [
        "ar",
        "be",
        "ca",
        "da",
        "de",
        "el",
        "en",
        "en_GB",
        "en_gb",
        "fr",
        "gl",
        "he",
        "nds",
        "ru",
        "uk",
        "zh_TW",
    ]
    splits = defaultdict(set)
    for language in languages:
        for prefix in prefixes.values():
            splits[language.split("_")[0]].add(rules.speech_split(prefix + language, language))
    assert all(len(found) == 1 for found in splits.values()), splits


def test_a_noise_package_is_in_one_split(rules: Any) -> None:
    packages = rules.packages()
    assert len({package.name for package in packages}) == len(packages)
    assert {package.noise for package in packages} == {None, "train", "valid", "test"}


def test_small_has_every_split(rules: Any) -> None:
    small = rules.packages("small")
    assert len(small) < len(rules.packages())
    assert {package.noise for package in small} >= {"train", "valid", "test"}
    assert {rules.speech_split(rule["speaker"], rule.get("language", "und")) for rule in rules.tables["speech"]
            if rule["package"] in {package.name for package in small}} == {"train", "valid", "test"}  # fmt: skip


@pytest.mark.parametrize(
    ("package", "path", "expected"),
    [
        ("berusky2-data", "sound/dest3.ogg", "rain"),
        ("torcs-data", "data/sound/engine-1.wav", "engine_vehicle"),
        ("flare-game", "soundfx/environment/fire_loop.ogg", "fire"),
        ("flare-game", "soundfx/fireball.ogg", "misc_fx"),
        ("minetest-data", "sounds/default_dig_metal.ogg", "footsteps_tools"),
        ("wesnoth-1.16-data", "sounds/ambient/wind.ogg", "wind"),
        ("wesnoth-1.16-data", "sounds/ambient/windmill.ogg", "machine"),
        ("bucklespring-data", "wav/1e-0.wav", "keyboard"),
        ("nexuiz-data", "sound/weapons/rocket.wav", "impacts"),
        ("qabcs-data", "abcs/en/noises/dog.ogg", "animal"),
        ("qabcs-data", "abcs/en/sounds/dog.ogg", None),
        ("tuxpaint-stamps-default", "stamps/vehicles/emergency/firetruck.ogg", None),
        ("tuxpaint-stamps-default", "stamps/animals/cow_desc_be.ogg", None),
        ("0ad-data", "audio/voice/latin/civ/civ_male_yes.ogg", None),
        ("flare-game", "music/dungeon_theme.ogg", None),
        ("openarena-data", "sound/player/gibimp1.wav", None),
    ],
)
def test_noise_class(rules: Any, package: str, path: str, expected: str | None) -> None:
    assert rules.noise_class(package, path) == expected


@pytest.mark.parametrize(("tag", "expected"), [("zh_tw", "zh-TW"), ("en_GB", "en-GB"), ("nds", "nds")])
def test_language_tags(tag: str, expected: str) -> None:
    assert bcp47(tag) == expected
