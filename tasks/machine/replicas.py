"""Let replicas on a Ray cluster answer over HTTP, by Ray Serve: it shares out the requests and replaces a dead replica.

No request is repeated: those of a replica that dies get the status 500.
"""

import io
import logging
import re
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, redirect_stdout, suppress
from dataclasses import dataclass
from typing import Any

from tasks.machine.cluster import Failed, Named, Place, check_head, is_reached, joined, watched
from tasks.machine.extras import require

logger = logging.getLogger("graftline")

NAME = "graftline"  # of the application; a cluster has one
LOOK_SECONDS = 1.0  # between two looks at the cluster's head
ASK_SECONDS = 5.0  # until each replica has reported its health
MOST_REQUESTS = 512  # of a replica at once, and again of those that wait for one
LOGS = {"log_level": "WARNING", "enable_access_log": False}  # of Ray Serve, on the nodes
FAILED = re.compile(r"ValueError: (on the node .*)")
NOT_BOUND = "Failed to bind to address"


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """The host and the port at which every node answers. A request without an answer after `seconds` is dropped."""

    host: str
    port: int
    seconds: float

    @property
    def options(self) -> dict[str, Any]:
        """Return the options of Ray Serve."""
        return {"host": self.host, "port": self.port, "request_timeout_s": self.seconds}


def answer_together(
    function: Callable[..., AbstractContextManager[tuple[Any, Any]]],
    *,
    num_replicas: int,
    num_gpus: int,
    address: str | None,
    endpoint: Endpoint,
    **given: Any,
) -> None:
    """Let processes of a Ray cluster answer, each on a core, until SIGTERM or SIGINT.

    Earlier requests are still answered. If this process is killed, the replicas go on, and the next call replaces them.

    Args:
        function: `function(**given, ask_replicas=…)` yields a service and its ASGI application. `ask_replicas(name)`
            returns the result of the method of this name in the service of each replica, by the name of the replica.
        num_gpus: of each replica.
        address: of the cluster's head, see `ScaleOptions`.

    Raises:
        ValueError: as for `tasks.machine.cluster.spread_to_cluster`; a replica cannot start; another program listens
            at the endpoint; or Ray Serve answers elsewhere for other applications.
    """
    require("ray", "grpc")
    make, place = Named.of(function, given), Place.here()
    with (
        redirect_stdout(io.StringIO()),  # Ray prints there how its own actors end
        joined(address, num_cores=num_replicas, num_gpus=num_replicas * num_gpus) as head,
    ):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sys.exit())
        try:
            deploy = _Deploy(make=make, place=place, num_replicas=num_replicas, num_gpus=num_gpus, endpoint=endpoint)
            list(watched(lambda: [deploy()], head=head))
            host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
            logger.info("%d replicas answer at http://%s:%d", num_replicas, host, endpoint.port)
            while True:
                time.sleep(LOOK_SECONDS)
                check_head(head)
        finally:
            if is_reached(head):
                _end()


class Replica:
    """The replica that Ray Serve starts on a node."""

    def __init__(self, make: Named, place: Place) -> None:
        logger.setLevel(logging.INFO)
        logger.addHandler(logging.StreamHandler())
        self._lasting = ExitStack()
        try:
            place.enter()
            self._service, self._app = self._lasting.enter_context(make(ask_replicas=self._ask))
        except (ValueError, OSError) as error:
            raise ValueError(Failed.on_this_node(error).message) from None

    def __serve_build_asgi_app__(self) -> Any:  # the name that Ray Serve calls
        return self._app

    def __del__(self) -> None:
        """End the service; Ray Serve calls this once all requests are answered."""
        self._lasting.close()

    def report(self, name: str) -> tuple[str, Any]:
        """Return the name of this replica, and the result of a method of its service."""
        from ray import serve

        return serve.get_replica_context().replica_id.unique_id, getattr(self._service, name)()

    async def _ask(self, name: str) -> dict[str, Any]:
        from ray import serve

        asked = serve.get_deployment_handle(NAME, NAME).broadcast("report", name)
        answers = await asked.results_async(timeout_s=ASK_SECONDS, return_exceptions=True)
        return dict(answer for answer in answers if isinstance(answer, tuple))  # an error is of one that just ended


@dataclass(frozen=True, kw_only=True)
class _Deploy:
    make: Named
    place: Place
    num_replicas: int
    num_gpus: int
    endpoint: Endpoint

    def __call__(self) -> Failed | None:
        """Start the replicas, or replace those of an earlier call. Return the error where they cannot start."""
        try:
            self._listen()
            self._start()
        except ValueError as error:
            return Failed(message=str(error))
        return None

    def _listen(self) -> None:
        """Let Ray Serve listen at the endpoint."""
        import ray
        from ray import serve
        from ray.serve.context import _get_global_client

        logging.getLogger("ray.serve").setLevel(logging.CRITICAL)  # this process reports an error in one line
        if running := _get_global_client(raise_if_no_controller_running=False):
            options = {name: getattr(running.http_config, name) for name in self.endpoint.options}
            if options == self.endpoint.options:
                return
            if others := set(serve.status().applications) - {NAME}:
                raise ValueError(
                    f"Ray Serve answers in this cluster already, at {options['host']}:{options['port']} for "
                    f"{' and '.join(sorted(others))}: name that --host and --port, or end it first"
                )
            serve.shutdown()
        try:
            serve.start(proxy_location="EveryNode", http_options=self.endpoint.options, logging_config=LOGS)
        except ray.exceptions.RayTaskError as error:
            if NOT_BOUND not in str(error):
                raise
            raise ValueError(
                f"a node of the Ray cluster cannot listen at {self.endpoint.host}:{self.endpoint.port}: choose another "
                "--host or --port"
            ) from None

    def _start(self) -> None:
        from ray import serve

        deployment = serve.deployment(
            serve.ingress()(Replica), name=NAME, num_replicas=self.num_replicas,
            ray_actor_options={"num_cpus": 1, "num_gpus": self.num_gpus}, max_ongoing_requests=MOST_REQUESTS,
            max_queued_requests=MOST_REQUESTS, graceful_shutdown_timeout_s=self.endpoint.seconds,
            max_constructor_retry_count=1, logging_config=LOGS,
        )  # fmt: skip
        try:
            serve.run(deployment.bind(self.make, self.place), name=NAME, route_prefix="/")
        except RuntimeError as error:
            problem = serve.status().applications[NAME].deployments[NAME].message or str(error)
            failed = FAILED.search(problem)
            raise ValueError(failed[1] if failed else f"no replica starts: {problem.splitlines()[-1]}") from None


def _end() -> None:
    """Answer earlier requests, end the replicas, and Ray Serve unless it has other applications."""
    from ray import serve

    if NAME in serve.status().applications:
        with suppress(TimeoutError):
            serve.delete(NAME)
    if serve.status().applications.keys() <= {NAME}:
        serve.shutdown()
