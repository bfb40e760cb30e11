"""Work in processes of its own, so many at a time: what a call needs at its peak and computes is then its own alone."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any


def in_processes(work: Callable[..., Any], calls: Sequence[dict[str, Any]], *, at_once: int) -> Iterator[Any]:
    """What `work`, a function of a module, gives for each of the keyword arguments, in their order. Raises RuntimeError
    where a process died."""
    context = get_context("forkserver")  # imports for all its children what they would import each
    context.set_forkserver_preload([work.__module__])

    def run(arguments: dict[str, Any]) -> Any:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_tell, args=(sender, work, arguments))
        process.start()
        sender.close()
        try:
            return receiver.recv()
        except EOFError:
            raise RuntimeError(f"the process for {arguments} ended without a result: see the lines above") from None
        finally:
            process.join()

    with ThreadPoolExecutor(at_once) as pool:
        yield from pool.map(run, calls)


def _tell(sender: Connection, work: Callable[..., Any], arguments: dict[str, Any]) -> None:
    sender.send(work(**arguments))
