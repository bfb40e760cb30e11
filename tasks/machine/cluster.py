"""Spread work over the nodes of a Ray cluster: the function that runs there is the one that runs on this machine.

Ray Data places the work, moves its items and results, waits where results are not taken, and repeats what a worker or a
node that died had begun.
"""

import logging
import os
import queue
import re
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from tasks.machine.extras import require
from tasks.machine.options import ScaleOptions

Item = TypeVar("Item", str, dict[str, str])
Result = TypeVar("Result")

LOCAL = ScaleOptions(engine="local", address=None)
CONNECT_SECONDS = 5.0  # for an answer of the cluster's head
BLOCKS_AT_ONCE = 4096  # that wait in the cluster's memory
ENDED = object()
ROOT = Path(__file__).parents[2]  # of the project, which every node has at the same path


def blocks_of(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """Return the items in blocks of `size`; the last may have fewer."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def spread_to_cluster(
    blocks: Sequence[Sequence[Item]],
    work: Callable[[Sequence[Item]], Result],
    *,
    address: str | None,
    num_gpus: int = 0,
) -> Iterator[Result]:
    """Yield `work(block)` for every block, in their order, from the nodes of a Ray cluster.

    A block takes one core, and `num_gpus`. It may be worked on twice, so `work` may be repeated without harm.

    Args:
        work: a function or an object that pickle can name, as its results are; every process of a worker loads the
            project from the same folder, and works from the folder where this process does.
        address: of the cluster's head, see `ScaleOptions`.

    Raises:
        ValueError: the extra is not installed, the cluster does not answer, has another version, lacks what a block
            needs, or lost its head; or `work` raised a ValueError or OSError on a node, which is named.
    """
    require("ray")
    if not blocks:
        return
    remaining = iter(blocks)
    remote = _Remote(work=work, folder=Path.cwd())
    with _cluster(address, num_gpus=num_gpus) as head:
        while some := list(islice(remaining, BLOCKS_AT_ONCE)):
            yield from _results(some, remote, head=head, num_gpus=num_gpus)


@dataclass(frozen=True, kw_only=True)
class _Failed:
    """An error that a user can mend, on its way back from a node."""

    message: str


@dataclass(frozen=True, kw_only=True)
class _Remote:
    """The work as a node does it: a table with a block in, a row with its result out."""

    work: Callable[[Any], Any]
    folder: Path

    def __call__(self, table: Any) -> dict[str, Any]:
        import numpy as np

        result = np.empty(1, dtype=object)
        try:
            self._enter()
            result[0] = self.work(table["item"].to_pylist())
        except (ValueError, OSError) as error:
            import ray

            node = ray.util.get_node_ip_address()
            what = " ".join(str(error).split()) or type(error).__name__
            result[0] = _Failed(message=f"on the node {node} of the Ray cluster: {what}")
        return {"result": result}

    def _enter(self) -> None:
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise ValueError(
                f"the folder {self.folder} is not there ({error.strerror}): give every node the folder of the "
                "project at the same path"
            ) from None


@contextmanager
def _cluster(address: str | None, *, num_gpus: int) -> Iterator[str]:
    """Connect to the cluster, and yield the address of its head."""
    import ray

    named = address or os.environ.get("RAY_ADDRESS") or "auto"
    if named != "auto":
        _check_answers(named)
    advice = "start one with `ray start --head`, or name its HOST:PORT in scale.address, or set scale.engine to local"
    try:
        ray.init(
            address=named, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True,
            runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
        )  # fmt: skip
    except ConnectionError as error:
        where = "on this machine" if named == "auto" else f"at {named}"
        raise ValueError(f"no Ray cluster answers {where} ({_first_line(error)}): {advice}") from None
    except (RuntimeError, ValueError) as error:  # another version; or this machine is no node
        raise ValueError(f"cannot join the Ray cluster at {named}: {_first_line(error)}") from None
    head = ray.get_runtime_context().gcs_address
    try:
        resources = ray.cluster_resources()
        if num_gpus and resources.get("GPU", 0) < num_gpus:
            raise ValueError("embed.device is cuda, but no node of the Ray cluster has a GPU: set it to cpu")
        if resources.get("CPU", 0) < 1:
            raise ValueError("the Ray cluster has no core: start nodes with `ray start --address=… --num-cpus=…`")
        yield head
    finally:
        if _answers(head):  # else it would wait for the head
            ray.shutdown()


def _results(blocks: list[Sequence[Any]], remote: _Remote, *, head: str, num_gpus: int) -> Iterator[Any]:
    """Yield what the cluster gives for some blocks, in order, as long as its head answers."""
    results: queue.Queue[Any] = queue.Queue(maxsize=1)
    left = threading.Event()

    def put(result: Any) -> None:
        while not left.is_set():
            try:
                return results.put(result, timeout=1)
            except queue.Full:
                continue

    def take() -> None:
        try:
            for row in _dataset(blocks, remote, num_gpus=num_gpus).iter_rows():
                if left.is_set():
                    return
                put(row["result"])
            put(ENDED)
        except BaseException as error:
            put(error)

    threading.Thread(target=take, daemon=True).start()
    try:
        while (result := _next(results, head=head)) is not ENDED:
            if isinstance(result, _Failed):
                raise ValueError(result.message)
            if isinstance(result, BaseException):
                raise _mended(result) from result
            yield result
    finally:
        left.set()


def _next(results: "queue.Queue[Any]", *, head: str) -> Any:
    """Return the next result. Ray itself would wait a minute for a head that died, and then end this process."""
    while True:
        try:
            return results.get(timeout=CONNECT_SECONDS)
        except queue.Empty:
            if not _answers(head):
                raise ValueError(
                    f"the head of the Ray cluster at {head} no longer answers: start it again, then run this again; "
                    "what the nodes have stored is kept"
                ) from None


def _dataset(blocks: list[Sequence[Any]], remote: _Remote, *, num_gpus: int) -> Any:
    import pyarrow as pa
    import ray.data

    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # this process says what went wrong in one line
    tables = [pa.table({"item": list(block)}) for block in blocks]
    # tasks, not actors: a task of a node that died runs on any other node; each process keeps what it has loaded
    return ray.data.from_arrow(tables).map_batches(
        remote, batch_size=None, batch_format="pyarrow", zero_copy_batch=True, num_cpus=1, num_gpus=num_gpus or None
    )


def _check_answers(address: str) -> None:
    """Raise ValueError at once where nobody answers; Ray would try for a minute."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise ValueError(f"scale.address is {address!r}, expected the HOST:PORT of the head of a Ray cluster")
    if not _answers(address):
        raise ValueError(
            f"no Ray cluster answers at {address}: start one with `ray start --head`, or correct scale.address, or set "
            "scale.engine to local"
        )


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS):
            return True
    except OSError:
        return False


def _mended(error: BaseException) -> BaseException:
    """Return an error of Ray as one line where a user can mend it; an error of our own code as it is."""
    if found := re.search(r"No module named '([\w.]+)'", str(error)):
        return ValueError(
            f"a node of the Ray cluster has no module {found[1]}: give every node the project at {ROOT} and the "
            "packages of its environment"
        )
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, Exception) else ValueError(f"the Ray cluster gave up: {_first_line(error)}")


def _first_line(error: BaseException) -> str:
    """Return what Ray says first, without its traces and paragraphs of advice."""
    return " ".join(str(error).partition("traceback:")[0].split())[:400] or type(error).__name__
