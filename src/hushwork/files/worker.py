"""A worker process: ``python -m hushwork.files.worker``.

It reads JSON lines from standard input: first the model folder and the settings, then lists of (source, target) pairs.
To standard output it writes JSON lines: the messages of :class:`ChunkWorker`, and {"done": true} after each list. When
its input ends, because the parent process is gone, it exits at once.
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
from hushwork.files.denoise import denoise_files
from hushwork.files.job import failed
from hushwork.files.ledger import fingerprint
from hushwork.network.pretrained import load_pretrained
from hushwork.streaming.strength import Processing

Message = dict[str, Any]


class ChunkWorker:
    """Denoises lists of files and sends messages about them.

    Args:
        model: a model folder.
        settings: the fields of :class:`Processing`, from JSON.
    """

    def __init__(self, model: str | Path, settings: Mapping[str, Any]) -> None:
        self._denoiser = load_pretrained(model)
        self._options = vars(Processing.from_json(settings))

    def run(self, chunk: Iterable[tuple[str, str]], send: Callable[[Message], object]) -> None:
        """Denoise (source, target) pairs, replacing targets.

        Args:
            chunk: names of files, or URLs.
            send: called from any thread with {"progress": share of the chunk since the last call} now and then, with
                {"note": [source, sentence]} as soon as a note is known, and for each file with {"outcome": …,
                "account": what :func:`hushwork.files.ledger.fingerprint` returns}.
        """
        outcomes = denoise_files(
            [(locate(source), locate(target)) for source, target in chunk],
            self._denoiser,
            **self._options,
            overwrite=True,
            jobs=1,
            progress=lambda share: send({"progress": share}),
            on_note=lambda source, note: send({"note": [str(source), note]}),
        )
        for outcome in outcomes:
            measured: dict[str, Any] = {}
            try:
                measured = {} if outcome.error else fingerprint(outcome.source, outcome.target)
            except OSError as error:  # one of the files has vanished
                outcome = failed(outcome.source, outcome.target, error)
            names = {"source": str(outcome.source), "target": str(outcome.target)}
            send({"outcome": {**vars(outcome), **names}, "account": measured})


def main() -> None:
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)  # also in the middle of a file: nobody would receive the result

    threading.Thread(target=listen, daemon=True).start()
    sink = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # keeps what libraries print apart from the messages

    def send(message: Message) -> None:
        sink.write(json.dumps(message) + "\n")
        sink.flush()

    settings = json.loads(lines.get())
    worker = ChunkWorker(settings.pop("model"), settings)
    send({"ready": True})
    while True:
        worker.run(json.loads(lines.get()), send)
        send({"done": True})


if __name__ == "__main__":
    main()
