#!/usr/bin/env python3
"""Idle pick-up: how long after the call to Enqueue a job's handler starts, and a watcher knows its end.

    bench/pickup.py HOST:PORT [SAMPLES]

The server must run with --test-kinds and do nothing else. The client's own cost (Python) is in the figures;
`call` is a bare Enqueue round trip of the same client in the same run, to compare with.
"""

import json
import statistics
import sys
import threading
import time

import grpc
from signalbox.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc


def percentiles(values: list[float]) -> str:
    cut = statistics.quantiles(values, n=100)
    return f"p50 {statistics.median(values) * 1e3:.2f} ms, p99 {cut[98] * 1e3:.2f} ms"


def main() -> None:
    target, samples = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2000
    stub = job_service_pb2_grpc.JobServiceStub(grpc.insecure_channel(target))
    watcher = job_service_pb2_grpc.JobServiceStub(
        grpc.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])
    )
    stream = watcher.Watch(job_service_pb2.WatchRequest(user_id="bench"))
    started, ended, event_is_here = {}, {}, threading.Condition()
    ready = threading.Event()

    def follow() -> None:
        try:
            for message in stream:
                now = time.perf_counter()
                if message.heartbeat.snapshot_complete:
                    ready.set()
                event = message.lifecycle
                with event_is_here:
                    if event.type == job_service_pb2.JOB_EVENT_TYPE_SUCCEEDED:
                        started[event.job_id] = json.loads(event.result.data)["started_at_us"] / 1e6
                        ended[event.job_id] = now
                        event_is_here.notify()
        except grpc.RpcError:
            pass

    threading.Thread(target=follow, daemon=True).start()
    if not ready.wait(10):
        sys.exit("the watch did not begin")
    calls, starts, ends = [], [], []
    for _ in range(samples):
        spec = job_pb2.JobSpec(kind="test.sleep", user_id="bench", payload=b'{"ms":0}')
        wall, begin = time.time(), time.perf_counter()
        job = stub.Enqueue(job_service_pb2.EnqueueRequest(job=spec), timeout=10).job
        calls.append(time.perf_counter() - begin)
        with event_is_here:
            if not event_is_here.wait_for(lambda: job.id in ended, timeout=10):
                sys.exit(f"job {job.id} did not end")
        starts.append(started[job.id] - wall)
        ends.append(ended[job.id] - begin)
    stream.cancel()
    print(f"Enqueue call:               {percentiles(calls)}")
    print(f"call to handler's start:    {percentiles(starts)}")
    print(f"call to end at watcher:     {percentiles(ends)}")


main()
