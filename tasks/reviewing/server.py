"""Serve the review page to the browser of one person on this machine, and append the decisions to the corrections.

Only a request with the secret of the printed address, and to a name of this machine, gets an answer: another page in
the browser, another user of the machine, and another host name that leads here get none.
"""

import base64
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from tasks.data.admission.corrections import (
    ACCEPT,
    RELABEL,
    SET_ASIDE,
    UNDO,
    Correction,
    append,
    read_corrections,
    standing,
    undo,
)
from tasks.machine.names import on_one_line
from tasks.reviewing.tiles import KINDS, Tile
from tasks.targets.target import Target

TEMPLATE = Path(__file__).parent / "template"
HOSTS = ["127.0.0.1", "localhost"]
MOST_BYTES = 2**16  # of a decision
LONGEST = 1_000  # characters of a label or a note
MOST_PREVIEWS = 5_000  # that are kept in memory

Preview = Callable[[str, bool], str]  # sample_id, and whether it is to be large -> a data URI or a text


@dataclass(frozen=True, kw_only=True)
class Review:
    """The subject of a review: the samples, the person who reviews them, and the place of the decisions.

    `preview` raises ValueError where a sample cannot be shown. `shown` are the sample_ids that it may be asked for.
    """

    tiles: Sequence[Tile]
    targets: Mapping[str, Target]
    modality: str
    corrections: Path
    who: str
    preview: Preview
    shown: frozenset[str]
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(24))  # of the address, then of a cookie
    tickets: set[str] = field(default_factory=set)  # that stand for the secret once
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))  # of the page, for its changes


def application(review: Review, *, port: int) -> Starlette:
    """Return the application that serves a review on a port of this machine."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATE), autoescape=True)
    template = environment.get_template("review.html")
    preview = lru_cache(MOST_PREVIEWS)(review.preview)
    known = {tile.sample_id for tile in review.tiles}
    cookie = f"graftline_review_{port}"  # browsers share cookies among the ports of a machine
    origins = {f"http://{host}:{port}" for host in HOSTS}

    def page(request: Request) -> Response:
        if "secret" in request.query_params:  # it leaves the address, which browsers keep
            response: Response = RedirectResponse("/", status_code=303)
            response.set_cookie(cookie, review.secret, httponly=True, samesite="strict")
            return response
        nonce = secrets.token_urlsafe(16)
        response = HTMLResponse(template.render(token=review.token, nonce=nonce))
        response.headers["Content-Security-Policy"] = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self' data:; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        return response

    def tiles(request: Request) -> Response:
        try:
            held = standing(read_corrections(review.corrections))
        except (ValueError, OSError) as error:
            return PlainTextResponse(on_one_line(str(error)), status_code=400)
        return JSONResponse(
            {
                "tiles": [tile.facts() for tile in review.tiles],
                "decisions": {sample_id: as_shown(rows) for sample_id, rows in held.items() if sample_id in known},
                "kinds": KINDS,
                "targets": {
                    name: {"kind": target.kind, "names": list(target.names)} for name, target in review.targets.items()
                },
                "modality": review.modality,
                "who": review.who,
            }
        )

    def picture(request: Request) -> Response:
        sample_id = request.path_params["sample_id"]
        if sample_id not in review.shown:
            return PlainTextResponse("there is no such sample", status_code=404)
        try:
            shown = preview(sample_id, "large" in request.query_params)
        except (ValueError, OSError) as error:
            return PlainTextResponse(on_one_line(str(error)), status_code=404)
        kept = {"Cache-Control": "private, max-age=3600"}
        if review.modality == "text":  # even one that begins like an image's data URI
            return PlainTextResponse(shown, headers=kept)
        return Response(base64.b64decode(shown.partition(",")[2]), media_type="image/webp", headers=kept)

    def decide(wanted: Any) -> Response:
        try:
            row = correction_of(wanted, known=known, targets=review.targets, who=review.who)
            if row.action == UNDO:
                added = undo(review.corrections, row.sample_id, who=review.who)
            else:
                added = append(review.corrections, [row], replaces=True)
            held = standing(read_corrections(review.corrections)).get(row.sample_id, [])
        except (ValueError, OSError) as error:
            return PlainTextResponse(on_one_line(str(error)), status_code=400)
        return JSONResponse({"decisions": as_shown(held), "added": len(added)})

    async def decision(request: Request) -> Response:
        if not is_same(request.headers.get("x-review-token", ""), review.token):
            return PlainTextResponse("the page is of an earlier review: load it again", status_code=403)
        if int(request.headers.get("content-length") or MOST_BYTES + 1) > MOST_BYTES:
            return PlainTextResponse("a decision is short", status_code=413)
        try:
            wanted = await request.json()
        except (ValueError, RecursionError):
            return PlainTextResponse("expected JSON", status_code=400)
        return await run_in_threadpool(decide, wanted)

    def is_ticket(given: str) -> bool:
        ticket = next((one for one in review.tickets if is_same(given, one)), "")
        review.tickets.discard(ticket)
        return bool(ticket)

    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
        given = request.query_params.get("secret") or request.cookies.get(cookie, "")
        if (origin and origin not in origins) or site in ("cross-site", "same-site"):
            is_opened = request.url.path == "/" and request.headers.get("sec-fetch-mode") == "navigate"
            if not is_opened or origin:  # a link may lead here; it needs the secret all the same
                return PlainTextResponse("another page asks, expected this one", status_code=403)
        if not (is_same(given, review.secret) or is_ticket(given)):
            return PlainTextResponse("open the address that `graftline review` printed", status_code=403)
        response = await call_next(request)
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    return Starlette(
        routes=[
            Route("/", page),
            Route("/tiles", tiles),
            Route("/preview/{sample_id}", picture),
            Route("/decisions", decision, methods=["POST"]),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS, www_redirect=False),
            Middleware(BaseHTTPMiddleware, dispatch=guard),
        ],
    )


def correction_of(wanted: Any, *, known: set[str], targets: Mapping[str, Target], who: str) -> Correction:
    """Return the row that a person asks for. Raises ValueError for a request that the page does not make."""
    cells = {name: wanted.get(name, "") if isinstance(wanted, dict) else "" for name in ("id", "action", "target")}
    label, note = (wanted.get(name, "") if isinstance(wanted, dict) else "" for name in ("label", "note"))
    if not all(isinstance(cell, str) and len(cell) <= LONGEST for cell in (*cells.values(), label, note)):
        raise ValueError(f"expected texts of at most {LONGEST} characters")
    if cells["id"] not in known:
        raise ValueError("there is no such sample: load the page again")
    if cells["action"] not in (ACCEPT, RELABEL, SET_ASIDE, UNDO):
        raise ValueError(f"action is {cells['action']!r}, expected accept, relabel, set_aside or undo")
    target = cells["target"] if cells["action"] in (ACCEPT, RELABEL) else ""
    if target and target not in targets:
        raise ValueError(f"target is {target!r}, expected one of {', '.join(targets)}")
    if target or cells["action"] == RELABEL:
        if not target or not label.strip():
            raise ValueError("expected a target and a label")
        label = targets[target].read(label.strip())
    return Correction(
        sample_id=cells["id"], target=target, label=label if target else "", action=cells["action"], who=who, note=note
    )


def is_same(given: str, secret: str) -> bool:
    """Return whether a secret is the given one, in a time that does not depend on it."""
    return secrets.compare_digest(given.encode(), secret.encode())


def as_shown(rows: Sequence[Correction]) -> list[dict[str, str]]:
    """Return the rows in force for a sample, as the page shows them."""
    return [
        {"action": row.action, "target": row.target, "label": row.label, "who": on_one_line(row.who), "when": row.when}
        for row in rows
    ]
