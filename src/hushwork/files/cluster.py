"""Denoising on a Ray cluster: the workers of :mod:`hushwork.files.engine` as actors on its machines.

Files must be reachable from every machine: in a shared file system, under the same path, or by URL.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from hushwork import __version__
from hushwork.files.engine import WorkerDiedError
from hushwork.files.worker import ChunkWorker
from hushwork.network.model_folder import CONFIG, SUMS, WEIGHTS


class Cluster:
    """A connection to a Ray cluster; a context manager. A cluster that it started ends with it.

    Args:
        address: "HOST:PORT" of a running cluster, or "local" to start one on this machine; None takes
            ``$RAY_ADDRESS``, or the cluster that was last started on this machine, or starts one here.

    Attributes:
        num_cpus: of all its machines.

    Raises:
        ValueError: an address of Ray's client (ray://).
        ConnectionError: no cluster at the address.
    """

    def __init__(self, address: str | None = None) -> None:
        if (address or os.environ.get("RAY_ADDRESS", "")).startswith("ray://"):
            raise ValueError("the Ray client (ray://) streams no results; run hushwork on a machine of the cluster")
        self._connected = not ray.is_initialized()
        if self._connected:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            ray.init(
                address=address,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env=_search_path(),
            )
        self.num_cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._models: dict[str, Any] = {}
        self._sending = threading.Lock()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connected:
            ray.shutdown()

    def new_worker(self, settings: dict[str, Any]) -> RayWorker:
        """The factory for :func:`hushwork.files.engine.denoise_in_processes`."""
        settings = dict(settings)
        folder = settings.pop("model")
        with self._sending:
            if folder not in self._models:
                content = {name: (Path(folder) / name).read_bytes() for name in (CONFIG, WEIGHTS, SUMS)}
                self._models[folder] = ray.put(content)
        return RayWorker(self._models[folder], settings)


class RayWorker:
    """An actor on some machine of the cluster.

    Args:
        model: a reference to the files of a model folder, by name.
        settings: see :class:`ChunkWorker`.

    Attributes:
        pid: of its process, once it has begun.
    """

    def __init__(self, model: Any, settings: dict[str, Any]) -> None:
        self._actor = _new_actor(model, settings)
        self._where = ""
        self.pid: int | None = None

    def begin(self) -> None:
        try:
            version, host, self.pid = ray.get(self._actor.identify.remote())
        except RayError as error:
            raise WorkerDiedError(_reason(error)) from error
        self._where = f" (process {self.pid} on {host})"
        if version != __version__:
            raise RuntimeError(f"{host} has hushwork {version}, this machine {__version__}; install the same version")

    def run(self, chunk: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
        try:
            for message in self._actor.run.remote(chunk):
                yield ray.get(message)
        except RayTaskError:  # an exception in the task; the worker lives
            raise
        except RayError as error:
            raise WorkerDiedError(_reason(error) + self._where) from error

    def end(self) -> None:
        with suppress(RayError):  # the cluster is gone
            ray.kill(self._actor)


class _Actor:
    def __init__(self, model: dict[str, bytes], settings: dict[str, Any]) -> None:
        with tempfile.TemporaryDirectory(prefix="hushwork-") as folder:
            for name, content in model.items():
                (Path(folder) / name).write_bytes(content)
            self._worker = ChunkWorker(folder, settings)

    def identify(self) -> tuple[str, str, int]:
        return __version__, socket.gethostname(), os.getpid()

    @ray.method(num_returns="streaming")
    def run(self, chunk: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
        messages: queue.SimpleQueue[dict[str, Any] | Exception | None] = queue.SimpleQueue()

        def work() -> None:
            try:
                self._worker.run(chunk, messages.put)
                messages.put(None)
            except Exception as error:
                messages.put(error)

        threading.Thread(target=work, daemon=True).start()
        while (message := messages.get()) is not None:
            if isinstance(message, Exception):
                raise message
            yield message


def _new_actor(model: Any, settings: dict[str, Any]) -> Any:
    return ray.remote(num_cpus=1, max_restarts=0)(_Actor).remote(model, settings)


def _search_path() -> dict[str, Any] | None:
    """A runtime environment with this process's PYTHONPATH, by which an uninstalled hushwork is found."""
    if "PYTHONPATH" not in os.environ:
        return None
    paths = os.environ["PYTHONPATH"].split(os.pathsep)
    return {"env_vars": {"PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in paths)}}


def _reason(error: RayError) -> str:
    """The cause in Ray's message: its first line, or the last if the constructor of the actor raised an exception."""
    lines = str(error).strip().splitlines()
    return f"died: {lines[-1] if 'creation task' in lines[0] else lines[0]}"
