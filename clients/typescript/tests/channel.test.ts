/** The channel against HTTP/2 servers in this process, which do what a test tells them. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  constants,
  createServer,
  type ClientHttp2Session,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import {
  connect as connectTcp,
  createServer as createTcpServer,
  type AddressInfo,
  type Server,
  type Socket,
} from "node:net";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { BadRequest } from "../src/generated/google/rpc/error_details.js";
import { Status } from "../src/generated/google/rpc/status.js";
import { GetJobResponse, JobService, WatchResponse } from "../src/generated/signalbox/v1/job_service.js";
import { Channel, type ChannelOptions } from "../src/grpc/channel.js";
import { framed, MESSAGE_BYTES_MAX } from "../src/grpc/framing.js";
import { Code, RpcError } from "../src/grpc/status.js";

const HEADERS = { ":status": 200, "content-type": "application/grpc" };
const OK = { "grpc-status": "0" };
const TIMEOUT_MS = 20_000;
const REQUEST = { jobId: "0" };

/** A test, for what it has started. */
interface Cleanup {
  after(end: () => void): void;
}

/** The server's side of a call. `socket` is the one below its connection. */
type Handler = (
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  session: ServerHttp2Session,
  socket: Socket,
) => void;

async function listening(t: Cleanup, server: Server | Http2Server): Promise<string> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** A channel to a server that handles each call so. */
async function channelTo(t: Cleanup, handler: Handler, options?: ChannelOptions): Promise<Channel> {
  const server = createServer();
  const sessions = new Map<ServerHttp2Session, Socket>();
  let newest: Socket;
  // Before the server's own listener, which makes the session.
  server.prependListener("connection", (socket: Socket) => (newest = socket));
  server.on("session", (session) => sessions.set(session, newest));
  server.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    const session = stream.session as ServerHttp2Session;
    handler(stream, headers, session, sessions.get(session)!);
  });
  const channel = new Channel(await listening(t, server), options);
  t.after(() => {
    channel.close();
    for (const session of sessions.keys()) session.destroy();
  });
  return channel;
}

/** Sends messages, and then trailers. */
function respond(stream: ServerHttp2Stream, messages: Uint8Array[], trailers: Record<string, string> = OK): void {
  stream.respond(HEADERS, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers(trailers));
  for (const message of messages) stream.write(framed(message));
  stream.end();
}

function getJob(channel: Channel, timeoutMs = TIMEOUT_MS): Promise<GetJobResponse> {
  return channel.unary(JobService.getJob, REQUEST, timeoutMs);
}

const job = GetJobResponse.encode({ job: { id: "0", kind: "k" } });

async function failure(promise: Promise<unknown>): Promise<RpcError> {
  try {
    await promise;
  } catch (error) {
    assert.ok(error instanceof RpcError, String(error));
    return error;
  }
  assert.fail("the call ended with OK");
}

test("a call has the headers of gRPC, and gets its response", async (t) => {
  let sent: IncomingHttpHeaders = {};
  let body = Buffer.alloc(0);
  const channel = await channelTo(
    t,
    async (stream, headers) => {
      sent = headers;
      for await (const chunk of stream) body = Buffer.concat([body, chunk]);
      respond(stream, [job]);
    },
    { token: "secret" },
  );
  assert.equal((await getJob(channel, 1234)).job?.kind, "k");
  assert.equal(sent[":method"], "POST");
  assert.equal(sent[":path"], "/signalbox.v1.JobService/GetJob");
  assert.equal(sent["content-type"], "application/grpc");
  assert.equal(sent.te, "trailers");
  assert.equal(sent["grpc-timeout"], "1234m");
  assert.equal(sent.authorization, "Bearer secret");
  assert.deepEqual(body, Buffer.from([0, 0, 0, 0, 3, 0x0a, 1, "0".charCodeAt(0)]));
});

test("a response of headers alone is an error with its details", async (t) => {
  const violation = { field: "job.kind", description: "is empty" };
  const details = Status.encode({
    code: Code.INVALID_ARGUMENT,
    details: [
      { typeUrl: "type.googleapis.com/google.rpc.RetryInfo", value: new Uint8Array() },
      {
        typeUrl: "type.googleapis.com/google.rpc.BadRequest",
        value: BadRequest.encode({ fieldViolations: [violation] }),
      },
    ],
  });
  const channel = await channelTo(t, (stream) => {
    stream.respond(
      {
        ...HEADERS,
        "grpc-status": "3",
        "grpc-message": "100%25 wrong: %C3%A9, %zz, %FF",
        // gRPC leaves out the padding.
        "grpc-status-details-bin": Buffer.from(details).toString("base64").replace(/=+$/, ""),
      },
      { endStream: true },
    );
  });
  const error = await failure(getJob(channel));
  assert.equal(error.code, Code.INVALID_ARGUMENT);
  assert.equal(error.message, "100% wrong: é, %zz, %FF");
  const found = error.detail(BadRequest)?.fieldViolations ?? [];
  assert.deepEqual(
    found.map(({ field, description }) => ({ field, description })),
    [violation],
  );
});

test("trailers after a message are what counts", async (t) => {
  const trailers = { "grpc-status": "5", "grpc-message": "gone", "grpc-status-details-bin": "////" };
  const channel = await channelTo(t, (stream) => respond(stream, [job], trailers));
  const error = await failure(getJob(channel));
  assert.equal(error.code, Code.NOT_FOUND);
  assert.equal(error.message, "gone");
  assert.deepEqual(error.details, []);
});

const ENDS: [name: string, handler: Handler, code: Code][] = [
  ["no response at all", (stream) => respond(stream, []), Code.INTERNAL],
  ["two responses", (stream) => respond(stream, [job, job]), Code.INTERNAL],
  ["a status that is no number", (stream) => respond(stream, [job], { "grpc-status": "x" }), Code.UNKNOWN],
  ["a status that gRPC does not have", (stream) => respond(stream, [job], { "grpc-status": "17" }), Code.UNKNOWN],
  ["no status", (stream) => (stream.respond(HEADERS), stream.end(framed(job))), Code.UNKNOWN],
  ["bytes that are no message", (stream) => respond(stream, [Uint8Array.of(255)]), Code.INTERNAL],
  [
    "an end within a message",
    (stream) => {
      stream.respond(HEADERS, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers(OK));
      stream.end(framed(job).subarray(0, 7));
    },
    Code.INTERNAL,
  ],
  ["HTTP status 503", (stream) => (stream.respond({ ":status": 503 }), stream.end("busy")), Code.UNAVAILABLE],
  ["HTTP status 404", (stream) => (stream.respond({ ":status": 404 }), stream.end()), Code.UNIMPLEMENTED],
  ["HTTP status 418", (stream) => (stream.respond({ ":status": 418 }), stream.end()), Code.UNKNOWN],
  [
    "a page",
    (stream) => (stream.respond({ ":status": 200, "content-type": "text/html" }), stream.end("<p>")),
    Code.UNKNOWN,
  ],
  ["a refused stream", (stream) => stream.close(constants.NGHTTP2_REFUSED_STREAM), Code.UNAVAILABLE],
  ["a cancelled stream", (stream) => stream.close(constants.NGHTTP2_CANCEL), Code.CANCELLED],
  ["a stream with an error", (stream) => stream.close(constants.NGHTTP2_INTERNAL_ERROR), Code.INTERNAL],
  ["a request to slow down", (stream) => stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM), Code.RESOURCE_EXHAUSTED],
  [
    "a message that is too long",
    (stream) => {
      const header = Buffer.alloc(5);
      header.writeUInt32BE(MESSAGE_BYTES_MAX + 1, 1);
      stream.respond(HEADERS);
      stream.write(header);
    },
    Code.RESOURCE_EXHAUSTED,
  ],
  ["a lost connection", (_, __, ___, socket) => socket.destroy(), Code.UNAVAILABLE],
  ["a connection that is closed for an error", (_, __, session) => session.goaway(2), Code.UNAVAILABLE],
];

for (const [name, handler, code] of ENDS) {
  test(`a call that gets ${name} ends with ${Code[code]}, and the next one can succeed`, async (t) => {
    let calls = 0;
    const channel = await channelTo(t, (...call) => (calls++ === 0 ? handler(...call) : respond(call[0], [job])));
    const error = await failure(getJob(channel));
    assert.equal(Code[error.code], Code[code], error.message);
    assert.equal((await getJob(channel)).job?.kind, "k");
  });
}

test("a call without an answer ends at its deadline, on the server too", async (t) => {
  let ended: Promise<unknown> = Promise.resolve();
  const channel = await channelTo(t, (stream) => {
    ended = once(stream, "close").then(() => assert.equal(stream.rstCode, constants.NGHTTP2_CANCEL));
  });
  // The first call connects, so that the second reaches the server within its short deadline.
  assert.equal((await failure(getJob(channel, 500))).code, Code.DEADLINE_EXCEEDED);
  await ended;
});

test("a call may have a longer deadline than Node's timers can wait for, or none", async (t) => {
  let answer = () => {};
  const channel = await channelTo(t, (stream) => (answer = () => respond(stream, [job])), {
    connectTimeoutMs: Infinity,
    keepaliveMs: Infinity,
    keepaliveTimeoutMs: Infinity,
  });
  for (const timeoutMs of [2 ** 31, Infinity]) {
    const call = getJob(channel, timeoutMs);
    // Such a timer would fire after 1 ms.
    await sleep(50);
    answer();
    assert.equal((await call).job?.kind, "k");
  }
});

test("a message of the longest length is received", async (t) => {
  // Two tags and two lengths come before the payload.
  const payload = new Uint8Array(MESSAGE_BYTES_MAX - 11).fill(1);
  const longest = GetJobResponse.encode({ job: { payload } });
  assert.equal(longest.length, MESSAGE_BYTES_MAX);
  const channel = await channelTo(t, (stream) => respond(stream, [longest]));
  assert.deepEqual((await getJob(channel)).job?.payload, payload);
  const strict = await channelTo(t, (stream) => respond(stream, [longest]), { maxResponseBytes: longest.length - 1 });
  assert.equal((await failure(getJob(strict))).code, Code.RESOURCE_EXHAUSTED);
});

function lifecycle(sequence: number): Uint8Array {
  return WatchResponse.encode({ event: { case: "lifecycle", value: { sequence: BigInt(sequence) } } });
}

function sequenceOf({ event }: WatchResponse): number {
  return event?.case === "lifecycle" ? Number(event.value.sequence) : -1;
}

test("a stream is read message by message, and its error comes after the messages", async (t) => {
  const unavailable = { "grpc-status": "14" };
  const channel = await channelTo(t, (stream) => respond(stream, [1, 2, 3].map(lifecycle), unavailable));
  const found: number[] = [];
  const error = await failure(
    (async () => {
      for await (const message of channel.stream(JobService.watch, {})) found.push(sequenceOf(message));
    })(),
  );
  assert.deepEqual(found, [1, 2, 3]);
  assert.equal(error.code, Code.UNAVAILABLE);
});

test("to leave a stream cancels it on the server", async (t) => {
  let ended: Promise<number> = Promise.resolve(-1);
  const channel = await channelTo(t, (stream) => {
    ended = once(stream, "close").then(() => stream.rstCode);
    stream.respond(HEADERS);
    stream.write(framed(lifecycle(1)));
  });
  for await (const message of channel.stream(JobService.watch, {})) {
    assert.equal(sequenceOf(message), 1);
    break;
  }
  assert.equal(await ended, constants.NGHTTP2_CANCEL);
});

test("a slow reader holds the server back, and other calls go on", async (t) => {
  const total = 200;
  const message = WatchResponse.encode({ event: { case: "lifecycle", value: { node: "n".repeat(10_000) } } });
  let written = 0;
  let isBlocked = () => {};
  const blocked = new Promise<void>((resolve) => (isBlocked = resolve));
  const channel = await channelTo(t, async (stream, headers) => {
    if (headers[":path"] === JobService.getJob.path) return respond(stream, [job]);
    stream.respond(HEADERS, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers(OK));
    for (; written < total; written++) {
      if (!stream.write(framed(message))) {
        isBlocked();
        await once(stream, "drain");
      }
    }
    stream.end();
  });
  const call = channel.stream(JobService.watch, {});
  await call.next();
  await blocked;
  // By the time that these have passed, more would have been written if it were read.
  for (let calls = 0; calls < 50; calls++) await getJob(channel);
  // The window of 64 KiB and the buffers of both sides are full.
  assert.ok(written < 30, `${written} messages were written`);
  let read = 1;
  for await (const _ of call) read++;
  assert.equal(read, total);
});

test("after GOAWAY calls that run go on, and new ones use a new connection", async (t) => {
  const sessions: ServerHttp2Session[] = [];
  let watched: ServerHttp2Stream | undefined;
  const channel = await channelTo(t, (stream, headers, session) => {
    if (!sessions.includes(session)) sessions.push(session);
    if (headers[":path"] === JobService.getJob.path) return respond(stream, [job]);
    watched = stream;
    stream.respond(HEADERS, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers(OK));
    stream.write(framed(lifecycle(1)));
  });
  const call = channel.stream(JobService.watch, {});
  await call.next();
  sessions[0]!.goaway(constants.NGHTTP2_NO_ERROR, watched!.id!);
  watched!.write(framed(lifecycle(2)));
  // The message comes after the GOAWAY, so the client knows of that.
  assert.equal(sequenceOf((await call.next()).value), 2);
  await getJob(channel);
  assert.equal(sessions.length, 2);
  watched!.end(framed(lifecycle(3)));
  assert.equal(sequenceOf((await call.next()).value), 3);
  assert.deepEqual(await call.next(), { done: true, value: undefined });
});

test("a server that does not answer on a new connection is unavailable", async (t) => {
  const sockets: Socket[] = [];
  const address = await listening(t, createTcpServer((socket) => sockets.push(socket)));
  const channel = new Channel(address, { connectTimeoutMs: 100 });
  t.after(() => sockets.forEach((socket) => socket.destroy()));
  const error = await failure(getJob(channel));
  assert.equal(error.code, Code.UNAVAILABLE);
  assert.match(error.message, /no answer from 127\.0\.0\.1:\d+ within 100 ms/);
});

test("a server that stops answering is given up for a new connection", { timeout: TIMEOUT_MS }, async (t) => {
  const server = createServer();
  server.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    if (headers[":path"] === JobService.getJob.path) return respond(stream, [job]);
    stream.respond(HEADERS);
    stream.write(framed(lifecycle(1)));
  });
  const answering = await listening(t, server);
  const silenced = new Set<Socket>();
  const sockets: Socket[] = [];
  // Keeps its connections open, but passes nothing more on from those that are silenced.
  const between = createTcpServer((socket) => {
    const onward = connectTcp(Number(answering.split(":")[1]), "127.0.0.1");
    socket.on("data", (chunk) => silenced.has(socket) || onward.write(chunk));
    onward.on("data", (chunk) => silenced.has(socket) || socket.write(chunk));
    for (const end of [socket, onward]) end.on("error", () => {});
    t.after(() => [socket, onward].forEach((end) => end.destroy()));
    sockets.push(socket);
  });
  const channel = new Channel(await listening(t, between), { keepaliveMs: 100, keepaliveTimeoutMs: 1_000 });
  t.after(() => channel.close());
  const call = channel.stream(JobService.watch, {});
  assert.equal(sequenceOf((await call.next()).value), 1);
  silenced.add(sockets[0]!);
  const error = await failure(call.next());
  assert.equal(error.code, Code.UNAVAILABLE);
  assert.match(error.message, /no answer to a PING from 127\.0\.0\.1:\d+ within 1000 ms/);
  assert.equal((await getJob(channel)).job?.kind, "k");
  assert.equal(sockets.length, 2);
});

test("a connection whose server answers its PINGs stays open", async (t) => {
  let answered = 0;
  const sessions = new Set<ServerHttp2Session>();
  const channel = await channelTo(
    t,
    async (stream, _, session) => {
      sessions.add(session);
      while (answered < 5) {
        await once(session, "ping");
        answered++;
      }
      respond(stream, [job]);
    },
    { keepaliveMs: 20, keepaliveTimeoutMs: 5_000 },
  );
  assert.equal((await getJob(channel)).job?.kind, "k");
  assert.equal((await getJob(channel)).job?.kind, "k");
  assert.equal(sessions.size, 1);
});

test("a call whose last messages were lost with the connection does not end with OK", async (t) => {
  let serverSocket: Socket | undefined;
  const channel = await channelTo(t, (stream, headers, _, socket) => {
    serverSocket = socket;
    const node = "n".repeat(10_000);
    const message = WatchResponse.encode({ event: { case: "lifecycle", value: { node } } });
    respond(stream, headers[":path"] === JobService.getJob.path ? [job] : [message, message, message, message]);
  });
  const call = channel.stream(JobService.watch, {});
  await call.next();
  // The watch's messages and trailers have arrived before this response.
  await getJob(channel);
  const { session } = channel as unknown as { session: ClientHttp2Session };
  const closed = once(session, "close");
  serverSocket!.destroy();
  await closed;
  let error: unknown;
  try {
    for await (const _ of call);
  } catch (thrown) {
    error = thrown;
  }
  assert.ok(error instanceof RpcError && error.code === Code.UNAVAILABLE, `the call ended with ${error}`);
});

test("a server that is not there is unavailable", async (t) => {
  const server = createTcpServer();
  const address = await listening(t, server);
  await new Promise((resolve) => server.close(resolve));
  const error = await failure(getJob(new Channel(address)));
  assert.equal(error.code, Code.UNAVAILABLE);
  assert.match(error.message, /ECONNREFUSED/);
});

test("a process ends after it has closed its channel, also if the server keeps the connection", async (t) => {
  const server = createServer();
  server.on("stream", (stream) => respond(stream, [job]));
  const answering = await listening(t, server);
  // Passes on what both sides send, but not that the client has ended.
  const keeping = createTcpServer({ allowHalfOpen: true }, (socket) => {
    const onward = connectTcp(Number(answering.split(":")[1]), "127.0.0.1");
    socket.on("data", (chunk) => onward.write(chunk));
    onward.on("data", (chunk) => socket.write(chunk));
    t.after(() => [socket, onward].forEach((end) => end.destroy()));
  });
  const program = `
    import { Channel } from "${new URL("../src/grpc/channel.js", import.meta.url)}";
    import { JobService } from "${new URL("../src/generated/signalbox/v1/job_service.js", import.meta.url)}";
    const channel = new Channel("${await listening(t, keeping)}");
    console.log((await channel.unary(JobService.getJob, {}, ${TIMEOUT_MS})).job.kind);
    channel.close();`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", program], {
    stdio: ["ignore", "pipe", "inherit"],
    timeout: TIMEOUT_MS,
  });
  assert.equal(String((await once(child.stdout, "data"))[0]), "k\n");
  assert.deepEqual(await once(child, "exit"), [0, null]);
});
