/** Tests of the messages that a program makes, of which test_codec.py has none. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Job, JobSpec, JobState, Progress } from "../src/generated/signalbox/v1/job.js";
import { WatchResponse } from "../src/generated/signalbox/v1/job_service.js";
import type { Init } from "../src/protobuf/message.js";

test("properties that are left out have their defaults", () => {
  const { kind, userId, payload, priority, due, labels, retryPolicy } = JobSpec.decode(JobSpec.encode({ kind: "k" }));
  assert.deepEqual(
    { kind, userId, payload, priority, due, labels, retryPolicy },
    {
      kind: "k",
      userId: "",
      payload: new Uint8Array(),
      priority: undefined,
      due: undefined,
      labels: new Map(),
      retryPolicy: undefined,
    },
  );
  assert.equal(JobSpec.encode({ userId: "", priority: undefined, labels: new Map() }).length, 0);
});

test("an optional field that is 0 is not the same as one that is not set", () => {
  // Field 8, as a number of one byte.
  assert.deepEqual([...JobSpec.encode({ priority: 0 })], [0x40, 0]);
  assert.equal(JobSpec.decode(Uint8Array.of(0x40, 0)).priority, 0);
  assert.equal(JobSpec.decode(new Uint8Array()).priority, undefined);
  // Field 2, as a number of eight bytes.
  const zero = Uint8Array.of(0x11, 0, 0, 0, 0, 0, 0, 0, 0);
  assert.deepEqual([...Progress.encode({ fraction: 0 })], [...zero]);
  assert.equal(Progress.decode(zero).fraction, 0);
  assert.equal(Progress.decode(Progress.encode({ stage: "s" })).fraction, undefined);
  // What was decoded is encoded again as it was.
  for (const priority of [undefined, 0, -7]) {
    assert.equal(JobSpec.decode(JobSpec.encode(JobSpec.decode(JobSpec.encode({ priority })))).priority, priority);
  }
});

test("a message in a message may be given in part", () => {
  const sent: Init<JobSpec> = { due: { case: "delay", value: { seconds: 3n } }, labels: new Map([["a", "b"]]) };
  const { due, labels } = JobSpec.decode(JobSpec.encode(sent));
  assert.deepEqual(due, { case: "delay", value: { seconds: 3n, nanos: 0 } });
  assert.deepEqual(labels, new Map([["a", "b"]]));
});

test("a value of another type or range is refused by the name of its field", () => {
  for (const priority of [0.5, 2 ** 31, NaN, "1", 1n]) {
    assert.throws(() => JobSpec.encode({ priority } as Init<JobSpec>), /^TypeError: signalbox\.v1\.JobSpec\.priority /);
  }
  assert.throws(() => JobSpec.encode({ due: { case: "delay", value: { seconds: 2n ** 63n } } }), /Duration\.seconds /);
  assert.throws(() => JobSpec.encode({ kind: "\ud800" }), /JobSpec\.kind .* well-formed text/);
  assert.throws(() => JobSpec.encode({ payload: "text" } as unknown as Init<JobSpec>), /JobSpec\.payload /);
  assert.throws(() => JobSpec.encode({ retryPolicy: 1 } as unknown as Init<JobSpec>), /JobSpec\.retryPolicy /);
});

test("an enum keeps a value that is not known", () => {
  const { state } = Job.decode(Job.encode({ state: 77 as JobState }));
  assert.equal(state, 77);
  assert.equal(JobState[state], undefined);
});

test("a member of a oneof that is not known is skipped", () => {
  // Field 100, which has no meaning yet, as a message of no bytes.
  assert.equal(WatchResponse.decode(Uint8Array.of(0xa2, 0x06, 0x00)).event, undefined);
});

test("decoded bytes are a copy", () => {
  const encoded = Buffer.from(JobSpec.encode({ payload: Uint8Array.of(1, 2) }));
  const { payload } = JobSpec.decode(encoded);
  encoded.fill(9);
  assert.deepEqual(payload, Uint8Array.of(1, 2));
});
