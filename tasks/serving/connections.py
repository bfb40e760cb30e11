"""Connections that cost little: one that asks nothing is closed, and never keeps another from asking."""

import asyncio
import time
from contextlib import suppress
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 512
IDLE_SECONDS = 10.0  # until the head of the next request is there, and until the last answer is fetched


class Connection(H11Protocol):
    """An HTTP connection of uvicorn.

    Where MOST_CONNECTIONS are open, a new one takes the place of the one that has asked nothing for the longest time.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._idle_since = time.monotonic()
        self._timer = self.loop.call_later(IDLE_SECONDS, self._look)
        if len(self.connections) > MOST_CONNECTIONS:
            idle = [own for own in self.connections if isinstance(own, Connection) and own.is_idle and own is not self]
            last: Any = min(idle, key=lambda own: own._idle_since) if idle else self
            last._abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._idle_since = time.monotonic()
        super().on_response_complete()

    @property
    def is_idle(self) -> bool:
        """Return whether no request is answered now."""
        return self.cycle is None or self.cycle.response_complete

    def _look(self) -> None:
        left = IDLE_SECONDS - (time.monotonic() - self._idle_since)
        if self.is_idle and left <= 0:
            self._abort()
        else:
            self._timer = self.loop.call_later(max(left, 1.0), self._look)

    def _abort(self) -> None:
        self.connections.discard(self)  # at once: the next connection counts those that are left
        with suppress(OSError):
            self.transport.abort()
