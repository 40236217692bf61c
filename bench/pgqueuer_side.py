"""PgQueuer's side of a measure: DATABASE_URL enqueue|batches|drain|pickup SIZE; prints its figures as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

import asyncpg
from pgqueuer import PgQueuer, Queries
from pgqueuer.types import QueueExecutionMode

PAYLOAD = b'{"n":12345678}'
BATCH = 1000


async def queries(url: str) -> Queries:
    return Queries.from_asyncpg_connection(await asyncpg.connect(url))


async def repeat(url: str, clients: int, seconds: float, work: Callable[[Queries], Awaitable[object]]) -> float:
    """Calls per second of some clients, each with a connection of its own."""
    sides = [await queries(url) for _ in range(clients)]
    begin = time.perf_counter()
    counts = [0] * clients

    async def one(index: int) -> None:
        while time.perf_counter() - begin < seconds:
            await work(sides[index])
            counts[index] += 1

    await asyncio.gather(*(one(index) for index in range(clients)))
    return sum(counts) / (time.perf_counter() - begin)


async def enqueue(url: str, seconds: float) -> dict[str, float]:
    return {"per_s": await repeat(url, 16, seconds, lambda side: side.enqueue("noop", PAYLOAD))}


async def enqueue_batch(side: Queries) -> None:
    payloads: list[bytes | None] = [PAYLOAD] * BATCH
    await side.enqueue(["noop"] * BATCH, payloads, [0] * BATCH)


async def batches(url: str, seconds: float) -> dict[str, float]:
    rate = await repeat(url, 4, seconds, enqueue_batch)
    return {"per_s": rate * BATCH}


async def drain(url: str, jobs: float) -> dict[str, float]:
    side = await queries(url)
    for _ in range(0, int(jobs), BATCH):
        await enqueue_batch(side)
    worker = PgQueuer.from_asyncpg_connection(await asyncpg.connect(url))
    done = 0

    @worker.entrypoint("noop")
    async def noop(job: object) -> None:
        nonlocal done
        done += 1

    begin = time.perf_counter()
    await worker.qm.run(batch_size=200, mode=QueueExecutionMode.drain)
    took = time.perf_counter() - begin
    left = await (await asyncpg.connect(url)).fetchval("SELECT count(*) FROM pgqueuer")
    if done < jobs or left:
        raise SystemExit(f"{done} of {jobs:g} jobs have run, {left} are left")
    return {"per_s": done / took}


async def pickup(url: str, samples: float) -> dict[str, float]:
    """From the call to the start of the entrypoint, in one process: no clocks to compare."""
    side = await queries(url)
    worker = PgQueuer.from_asyncpg_connection(await asyncpg.connect(url))
    started = asyncio.Event()
    at = 0.0

    @worker.entrypoint("noop")
    async def noop(job: object) -> None:
        nonlocal at
        at = time.perf_counter()
        started.set()

    running = asyncio.create_task(worker.qm.run(batch_size=10))
    delays = []
    # The first few find the worker on its way up.
    for index in range(int(samples) + 20):
        started.clear()
        begin = time.perf_counter()
        await side.enqueue("noop", PAYLOAD)
        await asyncio.wait_for(started.wait(), 40)
        if index >= 20:
            delays.append((at - begin) * 1e3)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    return {"p50_ms": statistics.median(delays), "p99_ms": statistics.quantiles(delays, n=100)[98]}


async def main() -> None:
    url, what, size = sys.argv[1], sys.argv[2], float(sys.argv[3])
    side = await queries(url)
    if await side.schema_is_installed():
        await side.clear_queue()
        await side.clear_queue_log()
    else:
        await side.install()
    print(json.dumps(await {"enqueue": enqueue, "batches": batches, "drain": drain, "pickup": pickup}[what](url, size)))


asyncio.run(main())
