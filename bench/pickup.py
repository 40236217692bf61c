#!/usr/bin/env python3
"""Idle pick-up: how long after the call to Enqueue a job's handler starts, and a watcher knows its end.

    bench/pickup.py HOST:PORT [SAMPLES]

The server must run with --test-kinds, on this machine, and do nothing else. The client's own cost (Python) is in
the figures; `Enqueue call` is a bare round trip of the same client in the same run, to compare with.
"""

import json
import statistics
import sys
import time

import grpc
from signalbox.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc


def percentiles(values: list[float]) -> str:
    cut = statistics.quantiles(values, n=100)
    return f"p50 {statistics.median(values) * 1e3:.2f} ms, p99 {cut[98] * 1e3:.2f} ms"


def main() -> None:
    target, samples = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2000
    stub = job_service_pb2_grpc.JobServiceStub(grpc.insecure_channel(target))
    calls, starts, ends = [], [], []
    for _ in range(samples):
        spec = job_pb2.JobSpec(kind="test.sleep", user_id="bench", payload=b'{"ms":0}')
        wall, begin = time.time(), time.perf_counter()
        job = stub.Enqueue(job_service_pb2.EnqueueRequest(job=spec), timeout=10).job
        calls.append(time.perf_counter() - begin)
        watched = job_service_pb2.WatchedJob(job_id=job.id)
        for message in stub.Watch(job_service_pb2.WatchRequest(jobs=[watched]), timeout=10):
            event = message.lifecycle
            if event.type == job_service_pb2.JOB_EVENT_TYPE_SUCCEEDED:
                ends.append(time.perf_counter() - begin)
                starts.append(json.loads(event.result.data)["started_at_us"] / 1e6 - wall)
    print(f"Enqueue call:            {percentiles(calls)}")
    print(f"call to handler's start: {percentiles(starts)}")
    print(f"call to end at watcher:  {percentiles(ends)}")


main()
