"""Work on images one by one over a Dask cluster."""

import asyncio
import contextlib
import logging
import pickle
import queue
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from deeplab_repro.errors import ArgumentError, DeepLabError, ResourceError
from deeplab_repro.version import __version__
from deeplab_repro.work.outcomes import Result, died_over, packed_outcome, unpack_outcome

if TYPE_CHECKING:
    from dask.distributed import Client, Future

# So many images are with the cluster at a time, results that were not yet fetched among them.
_AT_HAND = 1024
_FETCHED_TOGETHER = 64
_SECONDS_TO_CONNECT = 8
# After which it is asked whether there are workers at all.
_SECONDS_OF_SILENCE = 30


def on_cluster(
    function: Callable[[str], Result], names: Sequence[str], scheduler: str
) -> Iterator[tuple[str, Result | DeepLabError]]:
    """What `Workers.map` does, over the cluster whose scheduler has this address."""
    with _connected(scheduler) as client:
        from dask.distributed import KilledWorker

        # Dask blames all that lost workers had been given; alone, an image shows what it does.
        suspects = []
        for name, result in _results(client, scheduler, function, names, _AT_HAND):
            if isinstance(result, KilledWorker):
                suspects.append(name)
            else:
                yield name, result
        for name, result in _results(client, scheduler, function, suspects, 1):
            if isinstance(result, KilledWorker):
                how = f"the last was {result.last_worker.address}"
                yield name, died_over(name, result.allowed_failures + 1, how)
            else:
                yield name, result


@contextlib.contextmanager
def _connected(scheduler: str) -> Iterator["Client"]:
    """A client of the cluster, which has a worker at least."""
    try:
        from dask.distributed import Client
    except ImportError:
        raise ArgumentError(
            f'scheduler {scheduler}: Dask is not installed: pip install "deeplab-repro[dask]"'
        ) from None
    try:
        with ThreadPoolExecutor(1) as thread:  # this one may have an event loop, as in a notebook
            thread.submit(asyncio.run, _reach(scheduler)).result()
    except (OSError, ValueError, TypeError, ImportError, asyncio.TimeoutError) as error:
        raise ArgumentError(
            f"scheduler {scheduler}: cannot be reached: {str(error) or 'no answer'}: expected the "
            "address that `dask scheduler` tells, as tcp://host:8786"
        ) from error
    with (
        _quiet_dask(),
        Client(scheduler, timeout=_SECONDS_TO_CONNECT, set_as_default=False) as client,
    ):
        _require_workers(client, scheduler)
        yield client


async def _reach(scheduler: str) -> None:
    """Raise what keeps from talking to the scheduler: Client would wait for ever for some."""
    from distributed.comm import connect
    from distributed.security import Security

    options = Security().get_connection_args("client")
    connecting = connect(scheduler, timeout=_SECONDS_TO_CONNECT, **options)
    comm = await asyncio.wait_for(connecting, 1.2 * _SECONDS_TO_CONNECT)
    await comm.close()


@contextlib.contextmanager
def _quiet_dask() -> Iterator[None]:
    """Keep Dask from telling in its own way what becomes a DeepLabError."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _require_workers(client: "Client", scheduler: str) -> None:
    try:
        client.wait_for_workers(1, timeout=_SECONDS_TO_CONNECT)
    except asyncio.TimeoutError:
        raise ResourceError(
            f"scheduler {scheduler}: has no workers: start some with `dask worker {scheduler}`"
        ) from None


def _results(
    client: "Client",
    scheduler: str,
    function: Callable[[str], Any],
    names: Sequence[str],
    at_hand: int,
) -> Iterator[tuple[str, Any]]:
    """Yield names and results, or KilledWorker where workers were lost over it."""
    waiting = deque(names)
    futures: dict[Future, str] = {}
    done: queue.SimpleQueue[Future] = queue.SimpleQueue()
    while waiting or futures:
        if waiting and len(futures) <= at_hand // 2:
            more = [waiting.popleft() for _ in range(min(at_hand - len(futures), len(waiting)))]
            # Pickled here and not by Dask: what cannot be unpickled there is then an error, not
            # the end of the worker's connection, and the scheduler needs nothing of this package.
            calls = [pickle.dumps(_Call(function, name)) for name in more]
            for name, future in zip(more, client.map(pickle.loads, calls, pure=False), strict=True):
                futures[future] = name
                future.add_done_callback(done.put)
        try:
            come = [done.get(timeout=_SECONDS_OF_SILENCE)]
        except queue.Empty:
            _require_workers(client, scheduler)
            continue
        while not done.empty() and len(come) < _FETCHED_TOGETHER:
            come.append(done.get())
        for future, fetched in zip(come, _fetch(client, scheduler, come), strict=True):
            yield futures.pop(future), _opened(fetched, scheduler)


def _fetch(client: "Client", scheduler: str, futures: list["Future"]) -> list[Any]:
    """Return what `_answer` returned there, or KilledWorker, of calls that are done."""
    from dask.distributed import KilledWorker

    try:
        return list(client.gather(futures))
    except KilledWorker as error:
        if len(futures) == 1:
            return [error]
        return [_fetch(client, scheduler, [each])[0] for each in futures]
    except (ImportError, AttributeError) as error:
        raise ArgumentError(
            f"scheduler {scheduler}: a worker there cannot do this: {error}: install deeplab-repro "
            f"{__version__} where the workers run"
        ) from error
    except (CancelledError, OSError) as error:
        raise ResourceError(
            f"scheduler {scheduler}: the connection was lost: start it again, then this command"
        ) from error


def _opened(fetched: Any, scheduler: str) -> Any:
    from dask.distributed import KilledWorker

    if isinstance(fetched, KilledWorker):
        return fetched
    version, data = fetched
    if version != __version__:
        raise ArgumentError(
            f"scheduler {scheduler}: a worker there has deeplab-repro {version}: install "
            f"{__version__}, as here"
        )
    return unpack_outcome(data)


class _Call:
    """Is a call of `_answer` once it is unpickled."""

    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return _answer, self._arguments


def _answer(function: Callable[[str], Any], name: str) -> tuple[str, bytes]:
    return __version__, packed_outcome(function, name)
