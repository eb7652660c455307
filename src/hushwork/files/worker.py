"""A process that denoises files for another one: ``python -m hushwork.files.worker``.

It reads JSON lines from standard input: first the model's folder and the settings, then lists of (source, target). To
standard output it writes JSON lines: the messages of :class:`ChunkDenoiser`, and {"done": true} at the end of a list.
When its input ends, because the other process is gone, it ends at once.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from hushwork.audio.remote import locate
from hushwork.files.denoise import Outcome, denoise_files, failed
from hushwork.files.ledger import account
from hushwork.network.pretrained import load_pretrained
from hushwork.streaming.strength import Strength


class ChunkDenoiser:
    """Denoises lists of files, for whichever process looks after it.

    Args:
        model: a model folder.
        settings: "strength", "channels", "high_band" and "quality", JSON-able.
    """

    def __init__(self, model: str | Path, settings: Mapping[str, Any]) -> None:
        self._denoiser = load_pretrained(model)
        self._settings = {**settings, "strength": Strength(**settings["strength"])}

    def run(self, chunk: Iterable[tuple[str, str]], say: Callable[[dict[str, Any]], object]) -> None:
        """Denoise (source, target) pairs, replacing targets.

        Args:
            chunk: names of files, or URLs.
            say: called with {"progress": share of the chunk since the last call} now and then, with {"note": [source,
                sentence]} as soon as there is one, and for each file with {"outcome": …, "account": what the ledger
                shall know of it}; from any thread.
        """
        plan = [(locate(source), locate(target)) for source, target in chunk]
        more: dict[str, Any] = {"overwrite": True, "jobs": 1, "progress": lambda share: say({"progress": share})}
        more["on_note"] = lambda source, note: say({"note": [str(source), note]})
        for done in denoise_files(plan, self._denoiser, **self._settings, **more):
            outcome, known = _accounted(done)
            names = {"source": str(outcome.source), "target": str(outcome.target)}
            say({"outcome": {**vars(outcome), **names}, "account": known})


def _accounted(outcome: Outcome) -> tuple[Outcome, dict[str, Any]]:
    try:
        return outcome, {} if outcome.error else account(outcome.source, outcome.target)
    except OSError as error:  # it has vanished
        return failed(outcome.source, outcome.target, error), {}


def main() -> None:
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)  # in the middle of a file too: nobody would know of it

    threading.Thread(target=listen, daemon=True).start()
    sink = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is not for the other process

    def say(message: dict[str, Any]) -> None:
        sink.write(json.dumps(message) + "\n")
        sink.flush()

    settings = json.loads(lines.get())
    denoiser = ChunkDenoiser(settings.pop("model"), settings)
    say({"ready": True})
    while True:
        denoiser.run(json.loads(lines.get()), say)
        say({"done": True})


if __name__ == "__main__":
    main()
