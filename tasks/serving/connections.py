"""The connections of the server: an idle one is closed, and never keeps another from asking."""

import asyncio
import time
from contextlib import suppress
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 512
IDLE_SECONDS = 10.0  # until the head of the next request is there, and until the last answer is fetched


class Connection(H11Protocol):
    """An HTTP connection of uvicorn.

    Where MOST_CONNECTIONS are open, a new one takes the place of another: of those without a whole request, the one
    that got its last answer the longest time ago.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._idle_since = time.monotonic()
        self._timer = self.loop.call_later(IDLE_SECONDS, self._look)
        if len(self.connections) > MOST_CONNECTIONS:
            connections: Any = self.connections  # all of this class
            others = [
                connection for connection in connections if connection is not self and not connection._is_answered
            ]
            last: Any = min(others, key=lambda connection: connection._idle_since, default=self)
            last._abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._idle_since = time.monotonic()
        super().on_response_complete()

    @property
    def _has_request(self) -> bool:
        """Return whether the head of a request is here that has no answer yet."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _is_answered(self) -> bool:
        """Return whether a whole request is here that has no answer yet."""
        return self._has_request and not self.cycle.more_body

    def _look(self) -> None:
        left = IDLE_SECONDS - (time.monotonic() - self._idle_since)
        if not self._has_request and left <= 0:
            self._abort()
        else:
            self._timer = self.loop.call_later(max(left, 1.0), self._look)

    def _abort(self) -> None:
        self.connections.discard(self)  # at once: the next connection counts those that are left
        with suppress(OSError):
            self.transport.abort()
