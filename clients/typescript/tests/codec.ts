/**
 * Decodes and encodes messages for test_codec.py, which compares them with those of Python's protobuf.
 *
 * A line of input is {"type": full name, "bytes": base64}; the answer to it is {"bytes": the message encoded again,
 * "fields": its properties as JSON} or {"error": why it cannot be decoded}. The first line of output has the types.
 */

import { createInterface } from "node:readline";

import * as any from "../src/generated/google/protobuf/any.js";
import * as duration from "../src/generated/google/protobuf/duration.js";
import * as fieldMask from "../src/generated/google/protobuf/field_mask.js";
import * as timestamp from "../src/generated/google/protobuf/timestamp.js";
import * as errorDetails from "../src/generated/google/rpc/error_details.js";
import * as status from "../src/generated/google/rpc/status.js";
import * as adminService from "../src/generated/signalbox/v1/admin_service.js";
import * as job from "../src/generated/signalbox/v1/job.js";
import * as jobService from "../src/generated/signalbox/v1/job_service.js";
import { MessageType } from "../src/protobuf/message.js";
import { DecodeError } from "../src/protobuf/reader.js";

const modules = [any, duration, fieldMask, timestamp, errorDetails, status, adminService, job, jobService];
const types = new Map<string, MessageType<any>>();
for (const found of modules.flatMap((module): unknown[] => Object.values(module))) {
  if (found instanceof MessageType) types.set(found.name, found);
}

/** A message as JSON can have it. A oneof is a pair of its case and its value. */
function plain(value: any): unknown {
  if (typeof value === "bigint") return String(value);
  if (typeof value === "number" && !Number.isFinite(value)) return String(value);
  if (value instanceof Uint8Array) return Buffer.from(value).toString("base64");
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, item]) => [key, plain(item)]));
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object") return value;
  if ("case" in value) return [value.case, plain(value.value)];
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]));
}

function answer(line: string): object {
  const { type, bytes } = JSON.parse(line) as { type: string; bytes: string };
  const messageType = types.get(type)!;
  try {
    const message = messageType.decode(Buffer.from(bytes, "base64"));
    return { bytes: Buffer.from(messageType.encode(message)).toString("base64"), fields: plain(message) };
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    return { error: error.message };
  }
}

console.log(JSON.stringify([...types.keys()]));
for await (const line of createInterface({ input: process.stdin })) console.log(JSON.stringify(answer(line)));
