"""The model card that goes with exported weights."""

from __future__ import annotations

from typing import Any


def model_card(about: dict[str, Any]) -> str:
    """Markdown from a run's provenance and, once measured, its test summary."""
    training = about.get("training", {})
    lines = [
        f"# {about['name']}",
        "",
        "A speech denoiser: a recurrent network masks the magnitudes of noisy speech and keeps its phase.",
        "",
        "| | |",
        "|---|---|",
        f"| sample rate | {about['sample_rate']} Hz, one channel |",
        f"| parameters | {about['parameters']:,} |",
        f"| multiply-accumulates | {about['macs_per_s'] / 1e6:.1f} M per second of audio |",
        f"| corpus | {about['data']['manifest']}, manifest SHA-256 {about['data']['sha256']} |",
        f"| training | {training.get('steps', '?')} steps, {training.get('audio_s', '?')} s of audio |",
        f"| seed | {about['seed']} |",
        f"| commit | {about['commit'] or 'unknown'} |",
        f"| versions | hushwork {about['hushwork']}, "
        + ", ".join(f"{name} {number}" for name, number in about["versions"].items())
        + " |",
        "",
        "Use: `hushwork denoise noisy.wav -o clean.wav --model FOLDER`, or "
        "`hushwork.denoise(audio, sample_rate, hushwork.load_pretrained(FOLDER))` in Python.",
        "",
        "Licences and speakers of the training audio are those of the corpus; see its manifest and credits.",
    ]
    if "summary" in about:
        lines += ["", "## Test split (mean, 95 % interval over files)", "", *_table(about["summary"]["overall"])]
    return "\n".join(lines) + "\n"


def _table(overall: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    metrics = list(next(iter(overall.values())))
    rows = [f"| system | {' | '.join(metrics)} |", "|---" * (len(metrics) + 1) + "|"]
    for system, scores in overall.items():
        cells = [f"{s['mean']:.3f} [{s['low']:.3f}, {s['high']:.3f}]" for s in scores.values()]
        rows.append(f"| {system} | {' | '.join(cells)} |")
    return rows
