"""A service that answers on loopback, in a thread of the tests' process, and what asks it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tasks.prediction.answer_log import AnswerLog
from tasks.prediction.reading import Limits
from tasks.serving.app import RequestLimits, make_app
from tasks.serving.http_server import listen, server_of
from tasks.serving.model_in_use import ModelOptions
from tasks.serving.service import Service

SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Running:
    """A service that answers, and a client of it."""

    service: Service
    port: int
    client: httpx.Client

    def ask(self, *files: tuple[str, bytes], **settings: Any) -> httpx.Response:
        """Ask for the labels of files: their names and their bytes."""
        return self.client.post("/predict", files=[("file", file) for file in files], **settings)

    def health(self) -> dict[str, Any]:
        health: dict[str, Any] = self.client.get("/health").json()
        return health

    def until(self, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the first health of which something is so."""
        end = time.monotonic() + SECONDS
        while not is_so(health := self.health()):
            assert time.monotonic() < end, health
            time.sleep(0.02)
        return health


@contextmanager
def serving(
    bundle: Path, *, log: AnswerLog | None = None, limits: RequestLimits | None = None, names: tuple[str, ...] = (),
    token: str | None = None, max_waiting: int = 4096, **options: Any,
) -> Iterator[Running]:  # fmt: skip
    """Let a bundle answer; `options` are fields of `ModelOptions`."""
    limits = limits or RequestLimits()
    model = ModelOptions(**{"choices": {"device": "cpu"}, "limits": Limits()} | options)
    service = Service(bundle, model, log=log, max_waiting=max_waiting)
    server = server_of(make_app(service, limits=limits, names=list(names), token=token), seconds=limits.seconds)
    listening = listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=SECONDS) as client:
            yield Running(service=service, port=port, client=client)
    finally:
        server.should_exit = True
        thread.join(SECONDS)
        listening.close()
        service.close()
