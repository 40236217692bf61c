/**
 * An example of a client: it enqueues a job and watches it to its end. README.md has the commands.
 *
 * It prints one JSON object a line, and what went wrong on standard error.
 */

import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import { BadRequest, RetryInfo } from "./generated/google/rpc/error_details.js";
import { JobState } from "./generated/signalbox/v1/job.js";
import { JobEventType, JobService, type WatchResponse } from "./generated/signalbox/v1/job_service.js";
import { Channel } from "./grpc/channel.js";
import type { UnaryMethod } from "./grpc/method.js";
import { Code, RpcError } from "./grpc/status.js";
import type { Init } from "./protobuf/message.js";

/** The time that a call with one response may take in all, in milliseconds. */
const CALL_TIMEOUT_MS = 10_000;
/** The time for which a watch that was interrupted tries to resume without receiving a message, in milliseconds. */
const RESUME_MAX_MS = 30_000;

const USAGE = `usage: example run KIND USER PAYLOAD
       example watch JOB_ID [AFTER_SEQUENCE]
       example cancel JOB_ID [NOTE]
       example invalid
       example leave COUNT KIND USER PAYLOAD`;

/** A watch that ended with one of these would end the same way again. */
const FINAL_CODES = new Set([
  Code.INVALID_ARGUMENT,
  Code.NOT_FOUND,
  Code.OUT_OF_RANGE,
  Code.FAILED_PRECONDITION,
  Code.PERMISSION_DENIED,
  Code.UNAUTHENTICATED,
  Code.UNIMPLEMENTED,
]);

function print(line: object): void {
  console.log(JSON.stringify(line));
}

/** The name of an enum's value. A value that a newer service has added counts as UNSPECIFIED. */
function nameOf(names: Record<number, string>, value = 0): string | undefined {
  return names[value] ?? names[0];
}

/** Delays in milliseconds that double up to 2 s, each changed at random so that clients do not return together. */
class Backoff {
  private nominal = 100;

  reset(): void {
    this.nominal = 100;
  }

  /** The next delay, which is at least as long as the service asks for in the error. */
  next(error: RpcError): number {
    const { seconds, nanos } = error.detail(RetryInfo)?.retryDelay ?? { seconds: 0n, nanos: 0 };
    const delay = this.nominal * (0.5 + Math.random() / 2);
    this.nominal = Math.min(2 * this.nominal, 2_000);
    return Math.max(delay, Number(seconds) * 1_000 + nanos / 1_000_000);
  }
}

/**
 * Calls a method, and repeats the call while the service is unavailable and the deadline allows it. That is safe for
 * Enqueue, because the client chooses the job's id, and for Cancel and GetJob, which are idempotent.
 */
async function call<Request, Response>(
  channel: Channel,
  method: UnaryMethod<Request, Response>,
  request: Init<Request>,
): Promise<Response> {
  const deadline = Date.now() + CALL_TIMEOUT_MS;
  const backoff = new Backoff();
  for (;;) {
    try {
      return await channel.unary(method, request, deadline - Date.now());
    } catch (error) {
      if (!(error instanceof RpcError) || error.code !== Code.UNAVAILABLE) throw error;
      const delay = backoff.next(error);
      if (Date.now() + delay >= deadline) throw error;
      await sleep(delay);
    }
  }
}

async function enqueue(channel: Channel, kind: string, userId: string, payload: string): Promise<string> {
  const jobId = randomUUID();
  const job = { jobId, kind, userId, payload: Buffer.from(payload) };
  const { created } = await call(channel, JobService.enqueue, { job });
  print({ job_id: jobId, created });
  return jobId;
}

/** The states in which a job has ended. */
const FINAL_STATES = new Set([JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED]);

/** How far a watch of one job came: the next stream begins there. */
interface Position {
  readonly jobId: string;
  afterSequence: bigint;
  resumeToken: string;
}

/** Prints a message of a watch, and keeps how far the watch came. */
function show({ event, resumeToken }: WatchResponse, position: Position): void {
  if (resumeToken !== "") position.resumeToken = resumeToken;
  switch (event?.case) {
    case "snapshot": {
      const { state = JobState.UNSPECIFIED, sequence = 0n } = event.value.job ?? {};
      print({ event: "snapshot", state: nameOf(JobState, state), sequence: Number(sequence) });
      // The job's last event has the sequence of a final snapshot, and follows it.
      const resumeAfter = FINAL_STATES.has(state) ? sequence - 1n : sequence;
      if (resumeAfter > position.afterSequence) position.afterSequence = resumeAfter;
      break;
    }
    case "lifecycle": {
      const { type, state, sequence } = event.value;
      // A stream that resumes by a token may repeat the latest events.
      if (sequence <= position.afterSequence) break;
      position.afterSequence = sequence;
      const names = { type: nameOf(JobEventType, type), state: nameOf(JobState, state) };
      print({ event: "lifecycle", ...names, sequence: Number(sequence) });
      break;
    }
    case "progress": {
      const { attempt, progress } = event.value;
      // Null if it is not known.
      print({ event: "progress", fraction: progress?.fraction ?? null, attempt });
      break;
    }
    default:
      // Messages that need no line, and messages of a newer service.
      break;
  }
}

/** Prints what happens to a job until it is final. When the watch breaks it resumes after the last event. */
async function watch(channel: Channel, jobId: string, afterSequence: bigint): Promise<void> {
  const position: Position = { jobId, afterSequence, resumeToken: "" };
  const backoff = new Backoff();
  let giveUpAt = Date.now() + RESUME_MAX_MS;
  connection: for (;;) {
    let hasReceived = false;
    const { resumeToken } = position;
    const jobs = [{ jobId, afterSequence: position.afterSequence }];
    const responses = channel.stream(JobService.watch, { jobs, resumeToken });
    try {
      for await (const response of responses) {
        hasReceived = true;
        const { event } = response;
        if (resumeToken !== "" && event?.case === "opened" && !event.value.resumed) {
          // The service cannot go on from the token, and sends a snapshot. It can go on after a sequence.
          position.resumeToken = "";
          continue connection;
        }
        show(response, position);
      }
      break;
    } catch (error) {
      if (!(error instanceof RpcError) || FINAL_CODES.has(error.code)) throw error;
      if (hasReceived) {
        backoff.reset();
        giveUpAt = Date.now() + RESUME_MAX_MS;
      }
      const delay = backoff.next(error);
      if (Date.now() + delay >= giveUpAt) throw error;
      print({ event: "reconnect", code: Code[error.code] });
      await sleep(delay);
    }
  }
  // The last event has the result only if it is short.
  const { job } = await call(channel, JobService.getJob, { jobId });
  const result = Buffer.from(job?.result?.data ?? []).toString();
  print({ event: "end", state: nameOf(JobState, job?.state), result });
}

async function cancel(channel: Channel, jobId: string, note: string): Promise<void> {
  const { job } = await call(channel, JobService.cancel, { jobId, note });
  print({ state: nameOf(JobState, job?.state) });
}

/** Enqueues an invalid job, and prints which fields the service finds fault with. */
async function invalid(channel: Channel): Promise<void> {
  try {
    await call(channel, JobService.enqueue, { job: { kind: "", userId: "u".repeat(300) } });
  } catch (error) {
    if (!(error instanceof RpcError) || error.code !== Code.INVALID_ARGUMENT) throw error;
    print({ code: Code[error.code], violations: error.detail(BadRequest)?.fieldViolations ?? [] });
    return;
  }
  throw new Error("the service accepted an invalid job");
}

/** Opens watches of one job on one connection, and leaves each after its first message. */
async function leave(channel: Channel, count: number, kind: string, user: string, payload: string): Promise<void> {
  const jobId = await enqueue(channel, kind, user, payload);
  const watches = Array.from({ length: count }, async () => {
    for await (const _ of channel.stream(JobService.watch, { jobs: [{ jobId }] })) return;
  });
  await Promise.all(watches);
  print({ left: count });
  await call(channel, JobService.cancel, { jobId });
}

async function main([command, ...words]: string[]): Promise<void> {
  const { SIGNALBOX_ADDRESS: address, SIGNALBOX_CA: ca, SIGNALBOX_TOKEN: token } = process.env;
  const channel = new Channel(address || "localhost:7600", {
    ca: ca ? readFileSync(ca) : undefined,
    token: token || undefined,
  });
  try {
    if (command === "run" && words.length === 3) {
      const [kind, user, payload] = words as [string, string, string];
      await watch(channel, await enqueue(channel, kind, user, payload), 0n);
    } else if (command === "watch" && words[0] && words.length <= 2) {
      await watch(channel, words[0], BigInt(words[1] ?? 0));
    } else if (command === "cancel" && words[0] && words.length <= 2) {
      await cancel(channel, words[0], words[1] ?? "");
    } else if (command === "invalid" && words.length === 0) {
      await invalid(channel);
    } else if (command === "leave" && words.length === 4) {
      const [count, kind, user, payload] = words as [string, string, string, string];
      await leave(channel, Number(count), kind, user, payload);
    } else {
      throw new Error(USAGE);
    }
  } finally {
    channel.close();
  }
}

main(process.argv.slice(2)).catch((error: unknown) => {
  const code = error instanceof RpcError ? `${Code[error.code]}: ` : "";
  console.error(`example: ${code}${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
});
