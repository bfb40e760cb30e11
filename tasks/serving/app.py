"""The HTTP interface of a service: /predict, /health, /metrics, and a page that describes them."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from tasks.prediction.answer_log import EVERY_COLUMN
from tasks.prediction.prediction_table import COLUMNS
from tasks.serving.counters import CountersOfReplicas
from tasks.serving.guard import IS_KNOWN, Guard
from tasks.serving.minibatches import NOT_COMPUTED, BusyError, Row
from tasks.serving.page import page_of
from tasks.serving.requests import FIELD_OF_TEXTS, RefusedError, Samples, inputs_of
from tasks.serving.service import Service

RETRY_SECONDS = "1"
EXAMPLE = {
    "images": 'curl -F file=@picture.jpg http://HOST/predict\ncurl --json \'{"images": ["BASE64", …]}\' '
    "http://HOST/predict",
    "text": f"curl -F '{FIELD_OF_TEXTS}=A text.' http://HOST/predict\n"
    'curl --json \'{"texts": ["A text.", ["a title", "a body"]]}\' http://HOST/predict',
}
NOT_IN_ANSWERS = ("embedding", "answered_at")

Ask = Callable[[str], Awaitable[dict[str, Any]]]  # the name of a method of `Service` -> its result in each replica


@dataclass(frozen=True, kw_only=True)
class RequestLimits:
    """The limits of a request."""

    max_bytes: int = 64_000_000  # of the body
    max_total_bytes: int = 256_000_000  # of the bodies of all requests that are not answered yet
    max_samples: int = 512
    seconds: float = 30.0  # for the body to come, and again for the answer


def make_app(
    service: Service, *, limits: RequestLimits, names: list[str], token: str | None, ask_replicas: Ask | None = None
) -> Guard:
    """Return the application that answers requests; `names` and `token` are those of `Guard`.

    Where the service is one of several replicas, `ask_replicas` asks all of them for their health and metrics.
    """
    app = FastAPI(
        title="Graftline", docs_url=None, redoc_url=None, redirect_slashes=False,
        description="Answers of the model in use. Samples are files of a form, or JSON.",
    )  # fmt: skip
    bodies = Bodies(limits)
    modality = service.model.answerer.transform.modality

    @app.post("/predict", summary="Classify samples.", openapi_extra=_about_predict(modality))
    async def predict(request: Request) -> Response:
        start = time.perf_counter()
        body = await bodies.read(request)
        num_bytes = len(body)
        try:
            inputs = inputs_of(
                body, request.headers.get("content-type", ""), is_text=modality == "text",
                max_samples=limits.max_samples,
            )  # fmt: skip
            del body
            async with asyncio.timeout(limits.seconds):
                answered = await service.minibatches.answer(inputs)
        except BusyError:
            raise RefusedError(503, "too many samples wait: try again") from None
        except TimeoutError:
            raise RefusedError(504, f"no answer within {limits.seconds:g} s: send fewer samples") from None
        finally:
            bodies.forget(num_bytes)
        predictions = [_shown(row) for rows in answered for row in rows]
        service.counters.seconds.observe(time.perf_counter() - start)
        is_whole = all(row["reason"] != NOT_COMPUTED for row in predictions)
        return JSONResponse({"predictions": predictions}, status_code=200 if is_whole else 500)

    @app.get("/health", summary="Say whether the service answers, with which model, and what has to be mended.")
    async def health(request: Request) -> Response:
        if not request.scope[IS_KNOWN]:
            return JSONResponse({"status": service.status})
        here = service.health()
        if ask_replicas is None:
            return JSONResponse(here)
        replicas = await ask_replicas("health")
        is_ok = all(health["status"] == "ok" for health in (here, *replicas.values()))
        return JSONResponse(here | {"status": "ok" if is_ok else "degraded", "replicas": replicas})

    @app.get("/metrics", summary="Counters, in the text format of Prometheus.")
    async def metrics() -> Response:
        text = CountersOfReplicas(await ask_replicas("metrics")).text() if ask_replicas else service.metrics()
        return Response(text, media_type="text/plain; version=0.0.4")

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return HTMLResponse(page_of(app.openapi()))

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> Response:
        headers = {"retry-after": RETRY_SECONDS} if error.status == 503 else None
        return JSONResponse({"error": str(error)}, status_code=error.status, headers=headers)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        line = {404: "there is no such path: / lists them", 405: "the path takes another method"}.get(error.status_code)
        return JSONResponse({"error": line or str(error.detail)}, status_code=error.status_code, headers=error.headers)

    return Guard(app, names=names, token=token, counters=service.counters)


class Bodies:
    """The bodies of unanswered requests, with the limits of their time and their bytes."""

    def __init__(self, limits: RequestLimits) -> None:
        self._limits = limits
        self._num_bytes = 0

    async def read(self, request: Request) -> bytes:
        """Return the body. `forget` has to be called with its length when it is no longer needed.

        Raises:
            RefusedError: it is too large or too slow, or all bodies together are too large.
        """
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > self._limits.max_bytes:
            raise self._too_large()
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.seconds):
                async for chunk in request.stream():
                    body += chunk
                    self._num_bytes += len(chunk)
                    if len(body) > self._limits.max_bytes:
                        raise self._too_large()
                    if self._num_bytes > self._limits.max_total_bytes:
                        raise RefusedError(503, "too many bytes wait: try again")
        except BaseException as error:
            self.forget(len(body))
            if isinstance(error, TimeoutError):
                raise RefusedError(408, f"the body did not come within {self._limits.seconds:g} s") from None
            if isinstance(error, ClientDisconnect):
                raise RefusedError(400, "the connection was closed within the body") from None
            raise
        return bytes(body)

    def forget(self, num_bytes: int) -> None:
        """Note that a body of so many bytes is no longer needed."""
        self._num_bytes -= num_bytes

    def _too_large(self) -> RefusedError:
        return RefusedError(413, f"the body is larger than {self._limits.max_bytes} bytes: send several requests")


def _shown(row: Row) -> dict[str, Any]:
    """Return a row as `python -m tasks.predict` writes it as JSON, and its model."""
    return dict.fromkeys((*COLUMNS, "reason", "detail")) | row


def _about_predict(modality: str) -> dict[str, Any]:
    """Return the OpenAPI description of /predict."""
    form = {"type": "object", "additionalProperties": {"type": "string", "format": "binary"}}
    columns = {field.name: {"description": str(field.type)} for field in EVERY_COLUMN}
    row = {"type": "object", "properties": {name: columns[name] for name in columns if name not in NOT_IN_ANSWERS}}
    answer = {"type": "object", "properties": {"predictions": {"type": "array", "items": row}}}
    refusals = {
        "400": "The body is damaged.", "401": "The token is missing or wrong.", "403": "Another web page asks.",
        "408": "The body is too slow.", "413": "The body is too large, or has too many samples.",
        "415": "The body is of another kind.", "421": "The host is unknown.",
        "500": "A sample could not be computed; its row has the reason not_computed.",
        "503": "Too much waits: try again.", "504": "The answer took too long.",
    }  # fmt: skip
    return {
        "description": "Each sample gets a row per target, with the columns of `graftline predict`, and the SHA-256 of "
        "the model. A sample that cannot be answered has a reason instead of a label.",
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": form},
                "application/json": {"schema": Samples.model_json_schema()},
            },
        },
        "responses": {"200": {"description": "The answers.", "content": {"application/json": {"schema": answer}}}}
        | {status: {"description": text} for status, text in refusals.items()},
        "x-example": EXAMPLE[modality],
    }
