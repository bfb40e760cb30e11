"""The HTTP server of a service: uvicorn, with limits for strangers."""

import logging
import socket

import uvicorn
from starlette.types import ASGIApp

from tasks.serving.connections import Connection

BACKLOG = 2048  # connections that wait to be accepted


def server_of(app: ASGIApp, *, seconds: float) -> uvicorn.Server:
    """Return a server that ends on a signal, but gives earlier requests `seconds` to be answered."""
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # a stranger's requests would fill the log
    return uvicorn.Server(
        uvicorn.Config(
            app, http=Connection, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
            proxy_headers=False, timeout_graceful_shutdown=int(seconds) + 1,
        )
    )  # fmt: skip


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address of this machine. Raises OSError where it cannot."""
    try:
        [(family, _, _, _, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
        return listening
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}: choose another --host or --port", f"{host}:{port}") from error
