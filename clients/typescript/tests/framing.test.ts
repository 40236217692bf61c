import assert from "node:assert/strict";
import { test } from "node:test";

import { timeoutHeader } from "../src/grpc/channel.js";
import { Deframer, framed, MESSAGE_BYTES_MAX } from "../src/grpc/framing.js";
import { Code } from "../src/grpc/status.js";

const messages = [Buffer.from("first"), Buffer.alloc(0), Buffer.alloc(300, 7), Buffer.alloc(0)];
const stream = Buffer.concat(messages.map(framed));

test("messages are the same however the stream is cut into chunks", () => {
  for (let size = 1; size <= stream.length; size++) {
    const deframer = new Deframer();
    const found: Uint8Array[] = [];
    for (let start = 0; start < stream.length; start += size) {
      found.push(...deframer.push(stream.subarray(start, start + size)));
    }
    assert.deepEqual(found.map((message) => Buffer.from(message)), messages);
    assert.ok(deframer.isBetweenMessages);
  }
});

test("a stream that ends within a header or a message is noticed", () => {
  for (const length of [1, 4, 5, 9]) {
    const deframer = new Deframer();
    assert.deepEqual(deframer.push(stream.subarray(0, length)), []);
    assert.ok(!deframer.isBetweenMessages);
  }
});

test("a message that is longer than the limit is refused before it arrives", () => {
  const header = Buffer.alloc(5);
  header.writeUInt32BE(MESSAGE_BYTES_MAX, 1);
  assert.deepEqual(new Deframer().push(header), []);
  header.writeUInt32BE(MESSAGE_BYTES_MAX + 1, 1);
  assert.throws(() => new Deframer().push(header), { code: Code.RESOURCE_EXHAUSTED });
  framed(new Uint8Array(MESSAGE_BYTES_MAX));
  assert.throws(() => framed(new Uint8Array(MESSAGE_BYTES_MAX + 1)), { code: Code.RESOURCE_EXHAUSTED });
});

test("a compressed message is refused", () => {
  assert.throws(() => new Deframer().push(Buffer.from([1, 0, 0, 0, 1])), { code: Code.INTERNAL });
});

test("a timeout has at most eight digits", () => {
  assert.equal(timeoutHeader(-5), "1m");
  assert.equal(timeoutHeader(0.2), "1m");
  assert.equal(timeoutHeader(10_000), "10000m");
  assert.equal(timeoutHeader(99_999_999), "99999999m");
  assert.equal(timeoutHeader(100_000_000), "100000S");
  assert.equal(timeoutHeader(Number.MAX_SAFE_INTEGER), "99999999S");
});
