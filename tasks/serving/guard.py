"""Check who may ask: the hosts and origins that a browser names, and the token."""

import hmac
import json
from collections.abc import Iterable
from hashlib import sha256
from ipaddress import ip_address
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tasks.serving.counters import Counters

LOCAL_NAME = "localhost"
HEALTH = "/health"
PATHS = ("/predict", HEALTH, "/metrics", "/openapi.json", "/")
IS_KNOWN = "graftline.is_known"  # of a scope: whether the caller has the token, or needs none
LEAST_TOKEN = 16  # characters
HEADERS = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
]


class Guard:
    """Refuses a request from another web page, to an unknown host, or without the token, before its body is read.

    A page whose own name leads to this machine (DNS rebinding) names an unknown host. Every address in numbers is
    allowed as a host, because it is no name. `/health` needs no token.

    Args:
        names: of hosts, besides localhost.
        token: None where none is needed.
    """

    def __init__(self, app: ASGIApp, *, names: Iterable[str], token: str | None, counters: Counters) -> None:
        self._app = app
        self._names = {LOCAL_NAME, *(name.lower() for name in names)}
        self._token = None if token is None else _digest(token.encode())
        self._counters = counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["method"] == "HEAD":  # of a balancer, for example; the HTTP server leaves out the body
            scope = {**scope, "method": "GET"}
        path = scope["path"] if scope["path"] in PATHS else "other"

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._counters.requests.labels(path, str(message["status"])).inc()
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        headers = dict(scope["headers"])
        scope[IS_KNOWN] = self._token is None or hmac.compare_digest(_digest(_given(headers)), self._token)
        if refused := self._problem(headers, is_known=scope[IS_KNOWN] or path == HEALTH):
            await _refuse(counted, *refused)
        else:
            await self._app(scope, receive, counted)

    def _problem(self, headers: dict[bytes, bytes], *, is_known: bool) -> tuple[int, str] | None:
        """Return the status and the line of a request that is refused."""
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if not self._is_ours(_without_port(host)):
            return 421, "the host is unknown: name it with --allow-host where the service starts"
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1").lower() not in (f"http://{host}", f"https://{host}"):
            return 403, "requests of other web pages are refused"
        if headers.get(b"sec-fetch-site") == b"cross-site":
            return 403, "requests of other web pages are refused"
        if not is_known:
            return 401, "the token is missing or wrong: send it as `Authorization: Bearer TOKEN`"
        return None

    def _is_ours(self, name: str) -> bool:
        try:
            ip_address(name.strip("[]"))
        except ValueError:
            return name in self._names
        return True


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == LOCAL_NAME


def check_token(token: str | None, *, host: str) -> None:
    """Raise ValueError where a token is too short, or is missing though others reach the address."""
    if token is None and not is_loopback(host):
        raise ValueError(
            f"{host} can be reached from other machines, and there is no token: name a file that holds one with "
            "--token-file, or leave --host out"
        )
    if token is not None and (len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable()):
        raise ValueError(
            f"the token has {len(token)} characters, expected at least {LEAST_TOKEN}, printable ASCII: "
            "`openssl rand -hex 32` makes one"
        )


def _given(headers: dict[bytes, bytes]) -> bytes:
    kind, _, token = headers.get(b"authorization", b"").partition(b" ")
    return token.strip() if kind.lower() == b"bearer" else b""


def _digest(token: bytes) -> bytes:
    return sha256(token).digest()  # of one length, so that a comparison takes one time


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


async def _refuse(send: Any, status: int, line: str) -> None:
    body = json.dumps({"error": line}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
