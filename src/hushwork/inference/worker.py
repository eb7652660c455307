"""A process that denoises files for another one: ``python -m hushwork.inference.worker``.

It reads JSON lines from standard input: first the model's folder and the settings, then lists of (source, target). To
standard output it writes JSON lines: {"progress": share of the list}, {"outcome": …} for each file, and {"done": true}
at the end of a list. When its input ends, because the other process is gone, it ends at once.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hushwork.inference.files import denoise_files
from hushwork.inference.pretrained import load_pretrained
from hushwork.inference.stream import Strength


def main() -> None:
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)  # in the middle of a file too: nobody would know of it

    threading.Thread(target=listen, daemon=True).start()
    sink = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is not for the other process

    def say(**message: Any) -> None:
        sink.write(json.dumps(message) + "\n")
        sink.flush()

    settings = json.loads(lines.get())
    denoiser = load_pretrained(settings.pop("model"))
    strength = Strength(**settings.pop("strength"))
    say(ready=True)
    while True:
        plan = [(Path(source), Path(target)) for source, target in json.loads(lines.get())]
        for outcome in denoise_files(
            plan, denoiser, strength, overwrite=True, jobs=1, progress=lambda share: say(progress=share), **settings
        ):
            say(outcome={**asdict(outcome), "source": str(outcome.source), "target": str(outcome.target)})
        say(done=True)


if __name__ == "__main__":
    main()
