"""A bundle in; the label and calibrated probability of every sample and target out, over HTTP.

Where another whole bundle takes the place of the first, it answers from then on, and no request is lost. The service
listens on this machine alone, unless there is a token.
"""

import argparse
import logging
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.stage.option_types import above_zero, add_machine_options, count, whole

if TYPE_CHECKING:  # each function imports what it needs: --help needs no torch
    from tasks.prediction.answer_log import AnswerLog
    from tasks.serving.app import Ask
    from tasks.serving.guard import Guard
    from tasks.serving.service import Service

logger = logging.getLogger("graftline")

SECONDS = above_zero(most=86_400, expected="seconds, above 0 and at most 86400")
TOKEN = "GRAFTLINE_SERVE_TOKEN"  # noqa: S105  the name of a variable
REPLICAS = 2  # so that one answers where the other died
LIMITS = {"max_image_pixels": 30_000_000, "max_characters": 100_000, "max_file_bytes": 50_000_000}


def serve(app: "Guard", listening: socket.socket, *, seconds: float) -> None:
    """Answer requests until SIGTERM or SIGINT. Earlier requests are still answered, within so many seconds."""
    from tasks.serving.http_server import server_of

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # uvicorn raises them again once it has ended
    server_of(app, seconds=seconds).run(sockets=[listening])


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    from tasks.serving.guard import check_token
    from tasks.stage.shell import errors_in_one_line, set_up

    set_up(dies_with_parent=False)
    with errors_in_one_line():
        token = read_token(options.token_file)
        check_token(token, host=options.host)
        check(options)
        if options.engine == "ray":
            serve_on_cluster(options, token=token)
        else:
            serve_here(options, token=token)


def serve_here(options: argparse.Namespace, *, token: str | None) -> None:
    """Answer with the cores of this machine."""
    from tasks.serving.http_server import listen

    listening = listen(options.host, options.port)
    with answering(options, token=token) as (service, app):
        host, port = listening.getsockname()[:2]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        logger.info("the model %s answers at %s", service.model.sha256[:12], address)
        serve(app, listening, seconds=options.seconds)


def serve_on_cluster(options: argparse.Namespace, *, token: str | None) -> None:
    """Answer with replicas on a Ray cluster; each has a log of its own in the folder of the log."""
    from tasks.machine.replicas import Endpoint, answer_together

    options.device = "cuda" if options.device == "cuda" else "cpu"
    try:
        answer_together(
            answering, num_replicas=options.replicas or REPLICAS, num_gpus=int(options.device == "cuda"),
            address=options.address,
            # the time for the body, for the answer, and for Ray
            endpoint=Endpoint(host=options.host, port=options.port, seconds=2 * options.seconds + 1),
            options=options, token=token, num_threads=1,
        )  # fmt: skip
    finally:
        if options.log and options.log.is_dir() and (log := log_of(options)):
            log.turn(is_over=True)  # of a replica that was killed


@contextmanager
def answering(
    options: argparse.Namespace, *, token: str | None, num_threads: int | None = None,
    ask_replicas: "Ask | None" = None,
) -> "Iterator[tuple[Service, Guard]]":  # fmt: skip
    """Load the bundle, and yield its service and the application. At the end, waiting requests are answered.

    Args:
        num_threads: that compute; None is one a core.
        ask_replicas: see `make_app`.

    Raises:
        ValueError: the bundle cannot be used, or the log cannot be written.
    """
    from tasks.machine.cores import one_thread_each
    from tasks.prediction.reading import Limits
    from tasks.serving.app import RequestLimits, make_app
    from tasks.serving.model_in_use import ModelOptions
    from tasks.serving.service import Service

    chosen: dict[str, Any] = {name: getattr(options, name) for name in ("device", "precision", "minibatch_size")}
    model = ModelOptions(
        choices={name: value for name, value in chosen.items() if value is not None},
        limits=Limits(**{name: getattr(options, name) for name in LIMITS}),
        domain=options.domain,
        has_embeddings=options.log_embeddings,
    )
    limits = RequestLimits(
        max_bytes=options.max_request_bytes, max_total_bytes=4 * options.max_request_bytes,
        max_samples=options.max_samples, seconds=options.seconds,
    )  # fmt: skip
    with one_thread_each():
        service = Service(
            options.bundle, model, log=log_of(options), top_k=options.top_k, max_waiting=8 * options.max_samples,
            num_threads=num_threads,
        )  # fmt: skip
        try:
            yield (
                service,
                make_app(service, limits=limits, names=options.allow_host, token=token, ask_replicas=ask_replicas),
            )
        finally:
            service.close()


def check(options: argparse.Namespace) -> None:
    """Raise ValueError where a service cannot have these options."""
    from tasks.models.domains import AUTO

    if options.domain == AUTO:
        raise ValueError("a service answers many callers at once, so their samples cannot choose the domain: name one")
    if options.log and options.log.resolve().is_relative_to(options.bundle.resolve()):
        raise ValueError(
            f"{options.log} lies in the bundle {options.bundle}, which stays as it is: name another folder"
        )


def log_of(options: argparse.Namespace) -> "AnswerLog | None":
    """Return the log that the options name. Raises ValueError where its folder is a file."""
    from tasks.prediction.answer_log import AnswerLog, LogLimits

    if options.log is None:
        return None
    limits = LogLimits(max_seconds=options.log_seconds, max_bytes=1_000_000 * options.log_megabytes)
    return AnswerLog(options.log, limits=limits)


def read_token(file: Path | None) -> str | None:
    """Return the token in a file, else in the environment; None where there is none."""
    if file is None:
        return os.environ.get(TOKEN) or None
    return file.read_text("utf-8").strip()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tasks.serve",
        usage="graftline serve [options]   (the model in use)\n       %(prog)s [options] BUNDLE",
        description=__doc__,
    )
    parser.add_argument("folder", type=Path, nargs="?", metavar="BUNDLE", help="the folder of the model")
    parser.add_argument("--bundle", type=Path, help="the same")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on; default: 127.0.0.1")
    parser.add_argument(
        "--port", type=whole(least=0, most=65535), default=8700, help="default: 8700; 0 takes one that is free"
    )
    parser.add_argument(
        "--token-file", type=Path, help=f"holds the token that requests have to send; default: the variable {TOKEN}"
    )
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="a name of this machine that requests may use"
    )
    parser.add_argument("--log", type=Path, help="the folder that answers are logged in; default: they are not")
    parser.add_argument("--log-embeddings", action="store_true", help="log the vector of each sample, too")
    parser.add_argument("--log-seconds", type=SECONDS, default=600.0, help="until a file of the log ends; default: 600")
    parser.add_argument(
        "--log-megabytes", type=count, default=2000, help="of the log; its oldest files are removed; default: 2000"
    )
    parser.add_argument("--top-k", type=count, default=5, help="classes, labels or steps a sample; default: 5")
    parser.add_argument(
        "--domain", default="none",
        help="whose heads answer, of a model that is adapted to domains; default: none, the general heads",
    )  # fmt: skip
    add_machine_options(parser, on_ray="replicas on the nodes of a Ray cluster")
    parser.add_argument("--replicas", type=count, help=f"on the Ray cluster, each on a core; default: {REPLICAS}")
    parser.add_argument("--max-request-bytes", type=count, default=64_000_000, help="default: 64000000")
    parser.add_argument("--max-samples", type=count, default=512, help="of a request; default: 512")
    parser.add_argument(
        "--seconds", type=SECONDS, default=30.0, help="for a request to come, and again for its answer; default: 30"
    )
    for name, most in LIMITS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=count, default=most, help=f"default: {most}")
    options = parser.parse_args(arguments)
    if options.engine != "ray" and (options.address or options.replicas):
        parser.error("--address and --replicas are for --engine ray")
    if options.engine == "ray" and options.port == 0:
        parser.error("--engine ray needs one port for all nodes, expected a --port above 0")
    if (options.folder is None) == (options.bundle is None):
        parser.error("expected the folder of one bundle")
    options.bundle = options.bundle or options.folder
    return options


if __name__ == "__main__":
    main()
