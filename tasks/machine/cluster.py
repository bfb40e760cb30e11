"""Spread work over the nodes of a Ray cluster: the function that runs there is the one that runs on this machine.

Ray Data places the work, moves its items and results, waits where results are not taken, and repeats the work of
workers and nodes that died.
"""

import hashlib
import inspect
import logging
import os
import platform
import queue
import re
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any, Self, TypeVar

from tasks.machine.extras import require
from tasks.machine.options import ScaleOptions

Item = TypeVar("Item", bound=str | dict[str, Any])  # the content of a cell of an Arrow table
Result = TypeVar("Result")

logger = logging.getLogger("graftline")

LOCAL = ScaleOptions(engine="local", address=None)
CONNECT_SECONDS = 5.0  # for an answer of the cluster's head
BLOCKS_AT_ONCE = 4096  # that wait in the cluster's memory
ENDED = object()
ROOT = Path(__file__).parents[2]  # of the project, which every node has at the same path
# packages and variables that the last bits of a result may depend on
PACKAGES = (
    "numpy", "pandas", "pillow", "pyarrow", "safetensors", "scipy", "timm", "tokenizers", "torch", "torchvision",
    "transformers",
)  # fmt: skip
VARIABLES = ("ATEN_CPU_CAPABILITY", "NPY_DISABLE_CPU_FEATURES", "ONEDNN_MAX_CPU_ISA", "OPENBLAS_CORETYPE")


def blocks_of(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in blocks of `size` as they come; the last may have fewer."""
    remaining = iter(items)
    return iter(lambda: list(islice(remaining, size)), [])


def on_each(
    items: Iterable[Item], function: Callable[..., Result], *, scale: ScaleOptions, **given: Any
) -> Iterator[Result]:
    """Yield `function(item, **given)` for every item, in their order: here one by one, or each on a core of a cluster.

    A single item stays here. `given` travels once to each node. The errors are those of `spread_to_cluster`.
    """
    listed = list(items)
    if scale.engine == "local" or len(listed) < 2:
        yield from (function(item, **given) for item in listed)
    else:
        work = _Single(work=Named.of(function, given))
        yield from spread_to_cluster([[item] for item in listed], work, address=scale.address)


def spread_to_cluster(
    blocks: Iterable[Sequence[Item]],
    work: Callable[[Sequence[Item]], Result],
    *,
    address: str | None,
    num_gpus: int = 0,
) -> Iterator[Result]:
    """Yield `work(block)` for every block, in their order, from the nodes of a Ray cluster.

    A block takes one core, and `num_gpus`. It may be worked on twice, so `work` may be repeated without harm. Blocks
    may be a stream: BLOCKS_AT_ONCE of them are taken at a time.

    Args:
        work: a function or an object that pickle can name, as its results are; every process of a worker loads the
            project from the same folder, and works from the folder where this process does.
        address: of the cluster's head, see `ScaleOptions`.

    Raises:
        ValueError: the extra is not installed, the cluster does not answer, has another version, lacks cores or GPUs,
            or lost its head; a node has other packages, code or processor; or `work` raised a ValueError or
            OSError on a node, which is named.
    """
    require("ray")
    remaining = iter(blocks)
    some = list(islice(remaining, BLOCKS_AT_ONCE))
    if not some:
        return
    remote = _Remote(work=work, place=Place.here())
    with joined(address, num_gpus=num_gpus) as head:
        while some:
            rows = _dataset(some, remote, num_gpus=num_gpus).iter_rows
            for done in watched(lambda rows=rows: (row["result"] for row in rows()), head=head):  # type: ignore[misc]
                for level, line in done.lines:
                    logger.log(level, line)
                yield done.result
            some = list(islice(remaining, BLOCKS_AT_ONCE))


def num_processes(*, num_gpus: int = 0) -> int:
    """Return the number of blocks that the cluster, which this process has `joined`, works on at once."""
    import ray

    resources = ray.cluster_resources()
    return int(resources["GPU"] / num_gpus if num_gpus else resources["CPU"])


@dataclass(frozen=True, kw_only=True)
class Named:
    """A function of a module, with its keyword arguments.

    It is found by its name: the module of a verb that runs is `__main__`, which no other process can import.
    """

    module: str
    function: str
    given: dict[str, Any]

    @classmethod
    def of(cls, function: Callable[..., Any], given: dict[str, Any]) -> Self:
        spec = getattr(inspect.unwrap(function), "__globals__", {}).get("__spec__")  # without its decorators
        return cls(module=spec.name if spec else function.__module__, function=function.__name__, given=given)

    def __call__(self, *items: Any, **more: Any) -> Any:
        return getattr(import_module(self.module), self.function)(*items, **self.given, **more)


@dataclass(frozen=True, kw_only=True)
class _Single:
    """The work on a block of one item."""

    work: Callable[[Any], Any]

    def __call__(self, block: Sequence[Any]) -> Any:
        [item] = block
        return self.work(item)


@dataclass(frozen=True, kw_only=True)
class Failed:
    """An error that a user can mend, on its way back from a node."""

    message: str

    @classmethod
    def on_this_node(cls, error: Exception) -> Self:
        import ray

        what = " ".join(str(error).split()) or type(error).__name__
        if not isinstance(error, ValueError | OSError):
            what = f"{type(error).__name__}: {what}"
        return cls(message=f"on the node {ray.util.get_node_ip_address()} of the Ray cluster: {what}")


@dataclass(frozen=True, kw_only=True)
class _Done:
    """A result, and the lines that were logged during the work, each with its level."""

    result: Any
    lines: list[tuple[int, str]]


@dataclass(frozen=True, kw_only=True)
class Place:
    """The folder where a run was started, and the facts that its results depend on there."""

    folder: Path
    facts: dict[str, str]

    @classmethod
    def here(cls) -> Self:
        return cls(folder=Path.cwd(), facts=facts_of_process())

    def enter(self) -> None:
        """Work in the folder from now on. Raises ValueError where it is missing, or results here would differ."""
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise ValueError(
                f"the folder {self.folder} is not there ({error.strerror}): give every node the folder of the "
                "project at the same path"
            ) from None
        facts = facts_of_process()
        for name, expected in self.facts.items():
            if facts[name] != expected:
                raise ValueError(
                    f"its {name} is {facts[name]}, expected {expected} as where the run was started, so its results "
                    "would differ: give all nodes the same processor, packages, variables and code, or take this node "
                    "out of the cluster"
                )


@cache
def facts_of_process() -> dict[str, str]:
    """Return the facts that the results of this process depend on besides their inputs."""
    features = import_module("numpy._core._multiarray_umath").__cpu_features__  # as `numpy.show_runtime` does
    code = hashlib.sha256()
    for path in sorted((ROOT / "tasks").rglob("*.py")):
        code.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return {
        "processor": " ".join([platform.machine(), *sorted(name for name, has in features.items() if has)]),
        "Python": platform.python_version(),
        **{f"package {name}": _version(name) for name in PACKAGES},
        **{f"variable {name}": os.environ.get(name, "not set") for name in VARIABLES},
        "code": f"that of the SHA-256 {code.hexdigest()[:16]}",
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


@dataclass(frozen=True, kw_only=True)
class _Remote:
    """The work as a node does it: a table with a block in, a row with its result out."""

    work: Callable[[Any], Any]
    place: Place

    def __call__(self, table: Any) -> dict[str, Any]:
        import numpy as np

        result = np.empty(1, dtype=object)
        try:
            self.place.enter()
            with _logged() as lines:
                result[0] = _Done(result=self.work(table["item"].to_pylist()), lines=lines)
        except (ValueError, OSError) as error:
            result[0] = Failed.on_this_node(error)
        return {"result": result}


@contextmanager
def _logged() -> Iterator[list[tuple[int, str]]]:
    """Yield the lines that are logged in the block."""
    lines: list[tuple[int, str]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append((record.levelno, record.getMessage()))

    handler = Keep()
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)


@contextmanager
def joined(address: str | None, *, num_cores: int = 1, num_gpus: int = 0) -> Iterator[str]:
    """Connect to the cluster, and yield the address of its head.

    Raises ValueError where the extra is not installed, or the cluster does not answer, has another version, or has
    fewer cores or GPUs.
    """
    require("ray")
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
    except (RuntimeError, ValueError, ray.exceptions.RayError) as error:  # another version, or token; or no node
        raise ValueError(f"cannot join the Ray cluster at {named}: {_first_line(error)}") from None
    head = ray.get_runtime_context().gcs_address
    try:
        resources = ray.cluster_resources()
        for name, unit, needed in (("CPU", "cores", num_cores), ("GPU", "GPUs", num_gpus)):
            if (has := resources.get(name, 0)) < needed:
                mended = "start nodes with `ray start --address=… --num-cpus=…`"
                if name == "GPU":
                    mended = "start nodes that have one, or set the stage's device to cpu"
                raise ValueError(f"the Ray cluster has {has:g} {unit}, expected at least {needed}: {mended}")
        yield head
    finally:
        if is_reached(head):  # else it would wait for the head
            ray.shutdown()


def watched(make: Callable[[], Iterable[Result]], *, head: str) -> Iterator[Result]:
    """Yield the results of the cluster, as long as its head answers. A `Failed` is raised as ValueError."""
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
            for result in make():
                if left.is_set():
                    return
                put(result)
            put(ENDED)
        except BaseException as error:
            put(error)

    threading.Thread(target=take, daemon=True).start()
    try:
        while (result := _next(results, head=head)) is not ENDED:
            if isinstance(result, Failed):
                raise ValueError(result.message)
            if isinstance(result, BaseException):
                check_head(head)
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
            check_head(head)


def check_head(head: str) -> None:
    """Raise ValueError where the head was lost."""
    if not is_reached(head):
        raise ValueError(
            f"the head of the Ray cluster at {head} no longer answers: start it again, then run this again; what the "
            "nodes have stored is kept"
        ) from None


def _dataset(blocks: list[Sequence[Any]], remote: _Remote, *, num_gpus: int) -> Any:
    import pyarrow as pa
    import ray.data

    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # this process reports an error in one line
    tables = [pa.table({"item": list(block)}) for block in blocks]
    # tasks, not actors: a task of a node that died runs on any other node; each process keeps its loaded model
    return ray.data.from_arrow(tables).map_batches(
        remote, batch_size=None, batch_format="pyarrow", zero_copy_batch=True, num_cpus=1, num_gpus=num_gpus or None
    )


def _check_answers(address: str) -> None:
    """Raise ValueError at once where no cluster answers; Ray would try for a minute."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise ValueError(f"scale.address is {address!r}, expected the HOST:PORT of the head of a Ray cluster")
    if not is_reached(address):
        raise ValueError(
            f"no Ray cluster answers at {address}: start one with `ray start --head`, or correct scale.address, or set "
            "scale.engine to local"
        )


def is_reached(address: str) -> bool:
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
    """Return the first line of Ray's message, without its traces and paragraphs of advice."""
    return " ".join(str(error).partition("traceback:")[0].split())[:400] or type(error).__name__
