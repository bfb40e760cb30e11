"""Run calls in processes of their own, a few at a time, so that each call's peak memory and time are its own."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any


def in_processes(
    work: Callable[..., Any], calls: Sequence[dict[str, Any]], *, at_once: int, imported: Sequence[str] = ()
) -> Iterator[Any]:
    """Yield the results of `work`, a function of a module, for each of the keyword arguments, in their order.

    The processes have imported that module and the modules `imported`.

    Raises RuntimeError if a process died.
    """
    context = get_context("forkserver")  # it imports the modules once for all its children
    context.set_forkserver_preload([work.__module__, *imported])

    def run(arguments: dict[str, Any]) -> Any:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_send_result, args=(sender, work, arguments))
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


def _send_result(sender: Connection, work: Callable[..., Any], arguments: dict[str, Any]) -> None:
    sender.send(work(**arguments))
