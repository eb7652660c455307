"""The model card that goes with exported weights."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from hushwork.markdown import markdown_table

WEAKNESSES = """\
- It attenuates frequencies and keeps the phase of the noisy speech; speech that noise masks entirely is lost.
- Background voices are speech too: they are kept in part.
- Music, singing and animal calls are partly kept and partly removed.
- It processes one channel at {sample_rate} Hz. Content above {half} Hz is attenuated like the content just below.
- Speech recognition trained on noisy speech can do worse on denoised speech; then mix in the original (`--mix`)."""


def model_card(metadata: dict[str, Any]) -> str:
    """Markdown from a run's metadata and, once measured, the summary of its test split."""
    training, data = metadata.get("training", {}), metadata["data"]
    settings, rate = metadata["model"], metadata["sample_rate"]
    stft = settings["stft"]
    manifests = [data["manifest"], *data.get("train_also", []), *filter(None, [data.get("replay")])]
    causal = not settings["masker"]["recurrence"]["bidirectional"]
    delay = stft["n_fft"] - 1 + settings.get("look_ahead", 0) * stft["hop_length"]
    latency = f"{delay / rate * 1000:.0f} ms" if causal else "needs the whole recording"
    facts = {
        "sample rate": f"{rate} Hz, one channel",
        "latency": latency,
        "parameters": f"{metadata['parameters']:,}",
        "multiply-accumulates": f"{metadata['macs_per_s'] / 1e6:.1f} M per second of audio",
        **({"time": f"{metadata['ms_per_s']} ms per second of audio, on one core"} if "ms_per_s" in metadata else {}),
        "corpus": f"{', '.join(manifests)}, SHA-256 {data['sha256']}",
        **_teachers(metadata),
        "training": _amount(training),
        "command": f"`{metadata['command']}`" if metadata.get("command") else "not from the command line",
        **_initial_weights(metadata),
        "seed": metadata["seed"],
        "commit": metadata["commit"] or "unknown",
        "versions": f"hushwork {metadata['hushwork']}, "
        + ", ".join(f"{name} {number}" for name, number in metadata["versions"].items()),
    }
    parts = [
        f"# {metadata['name']}",
        "A speech denoiser: a recurrent network masks the magnitudes of noisy speech and keeps its phase.",
        markdown_table(["", ""], facts.items()),
        "Use: `hushwork denoise noisy.wav -o clean.wav --model FOLDER`, or "
        "`hushwork.denoise(audio, sample_rate, hushwork.load_pretrained(FOLDER))` in Python.",
        "## Known weaknesses",
        WEAKNESSES.format(sample_rate=rate, half=rate // 2),
        "## Trained on",
        *_data(data["train"]),
    ]
    if summary := metadata.get("summary"):
        parts += ["## Test split (mean, 95 % interval over files)", _overall(summary["overall"])]
        parts += _by_group("input SNR, dB", summary.get("by_snr", {}))
        parts += _by_group("noise class", summary.get("by_noise_class", {}))
    return "\n\n".join(parts) + "\n"


def _amount(training: dict[str, Any]) -> str:
    hours = training.get("audio_s", 0) / 3600
    return f"{training.get('steps', '?')} steps, {hours:.1f} h of mixtures in {training.get('hours', '?')} h"


def _initial_weights(metadata: dict[str, Any]) -> dict[str, str]:
    """The trainings that the initial weights come from, latest first."""
    rows: dict[str, str] = {}
    while metadata := metadata.get("init_from") or {}:
        amount = _amount(metadata.get("training") or {})
        rows[f"before that ({len(rows)})" if rows else "started from"] = (
            f"{metadata['name']}, {amount}, commit {metadata['commit']}: `{metadata['command']}`"
        )
    return rows


def _teachers(metadata: dict[str, Any]) -> dict[str, str]:
    """The teachers of this training and of those that its initial weights come from."""
    names: set[str] = set()
    trained: dict[str, Any] | None = metadata
    while trained:
        names.update(trained.get("teachers") or [])
        trained = trained.get("init_from")
    return {"teacher": f"{', '.join(sorted(names))}; comparisons with it are not independent"} if names else {}


def _data(contents: dict[str, Any]) -> list[str]:
    hours = ", ".join(f"{value:.1f} h of {kind}" for kind, value in contents["hours"].items())
    languages = f", {len(contents['languages'])} languages or dialects" if contents["languages"] else ""
    sources: dict[str, list[str]] = defaultdict(list)
    for entry in contents["sources"]:
        sources[entry["licence"]].append(entry["source"])
    rows = [(licence, ", ".join(names)) for licence, names in sorted(sources.items())]
    return [
        f"{hours}; {contents['speakers']} speakers{languages}. The manifest names each recording's source; credit is "
        "theirs:",
        markdown_table(["licence", "sources"], rows),
    ]


def _overall(overall: dict[str, dict[str, dict[str, float]]]) -> str:
    rows = [
        [system, *(f"{s['mean']:.3f} [{s['low']:.3f}, {s['high']:.3f}]" for s in scores.values())]
        for system, scores in overall.items()
    ]
    return markdown_table(["system", *next(iter(overall.values()))], rows)


def _by_group(title: str, groups: dict[str, dict[str, dict[str, dict[str, float]]]]) -> list[str]:
    """A table of noisy and denoised means, a line for each group; none without groups."""
    if not groups:
        return []
    metrics = [name for name in next(iter(groups.values()))["denoised"] if not name.endswith("improvement")]
    rows = [
        [group, *(f"{systems['noisy'][m]['mean']:.2f} / {systems['denoised'][m]['mean']:.2f}" for m in metrics)]
        for group, systems in groups.items()
    ]
    return [markdown_table([title, *(f"{name}: noisy / denoised" for name in metrics)], rows)]
