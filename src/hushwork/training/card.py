"""The model card that goes with exported weights."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

WEAKNESSES = """\
- It keeps the phase of the noisy speech and turns frequencies down; what noise has covered entirely is lost.
- Voices in the background are speech too: of several talkers it keeps more than one wants.
- Music, singing and animal calls are partly kept and partly removed.
- It hears one channel at {sample_rate} Hz. What lies above {half} Hz is turned down as what lies just below.
- Recognisers trained on noisy speech can do worse on denoised speech; mix in some of the original then (`--mix`)."""


def model_card(about: dict[str, Any]) -> str:
    """Markdown from a run's provenance and, once measured, its test summary."""
    training, data = about.get("training", {}), about["data"]
    settings, rate = about["model"], about["sample_rate"]
    stft = settings["stft"]
    causal = not settings["masker"]["recurrence"]["bidirectional"]
    latency = f"{(stft['n_fft'] - 1) / rate * 1000:.0f} ms" if causal else "needs the whole recording"
    facts = {
        "sample rate": f"{rate} Hz, one channel",
        "latency": latency,
        "parameters": f"{about['parameters']:,}",
        "multiply-accumulates": f"{about['macs_per_s'] / 1e6:.1f} M per second of audio",
        **({"time": f"{about['ms_per_s']} ms per second of audio, on one core"} if "ms_per_s" in about else {}),
        "corpus": f"{', '.join([data['manifest'], *data.get('train_also', [])])}, SHA-256 {data['sha256']}",
        "training": f"{training.get('steps', '?')} steps, {training.get('audio_s', 0) / 3600:.1f} h of mixtures in "
        f"{training.get('hours', '?')} h",
        "command": f"`{about['command']}`" if about.get("command") else "not from the command line",
        **_beginning(about),
        "seed": about["seed"],
        "commit": about["commit"] or "unknown",
        "versions": f"hushwork {about['hushwork']}, "
        + ", ".join(f"{name} {number}" for name, number in about["versions"].items()),
    }
    lines = [
        f"# {about['name']}",
        "",
        "A speech denoiser: a recurrent network masks the magnitudes of noisy speech and keeps its phase.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in facts.items()),
        "",
        "Use: `hushwork denoise noisy.wav -o clean.wav --model FOLDER`, or "
        "`hushwork.denoise(audio, sample_rate, hushwork.load_pretrained(FOLDER))` in Python.",
        "",
        "## Known weaknesses",
        "",
        WEAKNESSES.format(sample_rate=rate, half=rate // 2),
        "",
        "## Trained on",
        "",
        *_data(data["train"]),
    ]
    if "summary" in about:
        lines += ["", "## Test split (mean, 95 % interval over files)", "", *_table(about["summary"]["overall"])]
        lines += _by_group("input SNR, dB", about["summary"].get("by_snr", {}))
        lines += _by_group("noise class", about["summary"].get("by_noise_class", {}))
    return "\n".join(lines) + "\n"


def _beginning(about: dict[str, Any]) -> dict[str, str]:
    """The trainings that went before, the nearest first."""
    rows: dict[str, str] = {}
    while about := about.get("init_from") or {}:
        training = about.get("training") or {}
        rows[f"before that ({len(rows)})" if rows else "started from"] = (
            f"{about['name']}, {training.get('steps', '?')} steps, {training.get('audio_s', 0) / 3600:.1f} h of "
            f"mixtures in {training.get('hours', '?')} h, commit {about['commit']}: `{about['command']}`"
        )
    return rows


def _data(contents: dict[str, Any]) -> list[str]:
    hours = ", ".join(f"{value:.1f} h of {kind}" for kind, value in contents["hours"].items())
    languages = f", {len(contents['languages'])} languages or dialects" if contents["languages"] else ""
    by_licence: dict[str, list[str]] = defaultdict(list)
    for entry in contents["sources"]:
        by_licence[entry["licence"]].append(entry["source"])
    return [
        f"{hours}; {contents['speakers']} speakers{languages}. The manifest names each recording's "
        "source; credit is theirs:",
        "",
        "| licence | sources |",
        "|---|---|",
        *(f"| {licence} | {', '.join(sources)} |" for licence, sources in sorted(by_licence.items())),
    ]


def _table(overall: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    metrics = list(next(iter(overall.values())))
    rows = [f"| system | {' | '.join(metrics)} |", "|---" * (len(metrics) + 1) + "|"]
    for system, scores in overall.items():
        cells = [f"{s['mean']:.3f} [{s['low']:.3f}, {s['high']:.3f}]" for s in scores.values()]
        rows.append(f"| {system} | {' | '.join(cells)} |")
    return rows


def _by_group(title: str, groups: dict[str, dict[str, dict[str, dict[str, float]]]]) -> list[str]:
    """Noisy and denoised means, a line for each group."""
    if not groups:
        return []
    metrics = [name for name in next(iter(groups.values()))["denoised"] if not name.endswith("improvement")]
    lines = ["", f"| {title} | {' | '.join(f'{name}: noisy / denoised' for name in metrics)} |"]
    lines.append("|---" * (len(metrics) + 1) + "|")
    for name, systems in groups.items():
        pairs = [f"{systems['noisy'][m]['mean']:.2f} / {systems['denoised'][m]['mean']:.2f}" for m in metrics]
        lines.append(f"| {name} | {' | '.join(pairs)} |")
    return lines
