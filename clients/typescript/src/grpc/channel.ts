/** A gRPC client on Node's HTTP/2, for methods with one request. */

import { connect, type ClientHttp2Session, type OutgoingHttpHeaders } from "node:http2";

import type { Init } from "../protobuf/message.js";
import { Call } from "./call.js";
import { framed } from "./framing.js";
import type { StreamMethod, UnaryMethod } from "./method.js";
import { Code, RpcError } from "./status.js";
import { TIMER_MS_MAX } from "./timer.js";

export interface ChannelOptions {
  /** The certificates of the authorities to trust, in PEM. Without them the connection is not encrypted. */
  ca?: string | Buffer | undefined;
  /** Sent with every call, as `authorization: Bearer …`. */
  token?: string | undefined;
  /** The time limit for the server's first answer on a new connection. Default: 10,000. */
  connectTimeoutMs?: number;
  /** The time between two PINGs, which show that the server still answers. Default: 30,000. */
  keepaliveMs?: number;
  /** The time limit for the answer to a PING, after which the connection is given up. Default: 10,000. */
  keepaliveTimeoutMs?: number;
  /** The longest response. Default: 4 MiB. */
  maxResponseBytes?: number;
}

/**
 * Calls the methods of one server, over one connection that is opened when it is needed. A connection that was lost,
 * or that the server is closing (GOAWAY), is replaced at the next call; the calls on the old one end by themselves. A
 * connection whose server does not answer a PING counts as lost, and its calls end with UNAVAILABLE.
 */
export class Channel {
  private session: ClientHttp2Session | undefined;
  private isClosed = false;

  /** `address` is "host:port". */
  constructor(private readonly address: string, private readonly options: ChannelOptions = {}) {}

  /** Calls a method. `timeoutMs` is the deadline, which the server knows too. Throws an RpcError. */
  async unary<Request, Response>(
    method: UnaryMethod<Request, Response>,
    request: Init<Request>,
    timeoutMs: number,
  ): Promise<Response> {
    const call = this.start(method, request, timeoutMs);
    let response: Response | undefined;
    // The status comes after the response, so the loop goes on to the end.
    for await (const message of call) {
      if (response !== undefined) throw new RpcError(Code.INTERNAL, "the call has more than one response");
      response = message;
    }
    if (response === undefined) throw new RpcError(Code.INTERNAL, "the call ended with OK and without a response");
    return response;
  }

  /** Calls a method with a stream of responses. It has no deadline unless `timeoutMs` is given. */
  stream<Request, Response>(
    method: StreamMethod<Request, Response>,
    request: Init<Request>,
    timeoutMs?: number,
  ): Call<Response> {
    return this.start(method, request, timeoutMs);
  }

  /** Closes the connection when the calls on it have ended. The process does not wait for that or for the server. */
  close(): void {
    this.isClosed = true;
    this.session?.unref();
    this.session?.close();
  }

  private start<Request, Response>(
    method: UnaryMethod<Request, Response> | StreamMethod<Request, Response>,
    request: Init<Request>,
    timeoutMs: number | undefined,
  ): Call<Response> {
    const body = framed(method.request.encode(request));
    const session = this.connection();
    const stream = session.request(this.headers(method.path, timeoutMs));
    // When the streams of a lost connection close, some versions of Node have not destroyed its session yet.
    const isLost = () => session.destroyed || session.socket.destroyed;
    const call = new Call(stream, method.response, isLost, this.options.maxResponseBytes, timeoutMs);
    stream.end(body);
    return call;
  }

  private headers(path: string, timeoutMs: number | undefined): OutgoingHttpHeaders {
    const { token } = this.options;
    return {
      ":method": "POST",
      ":path": path,
      "content-type": "application/grpc",
      te: "trailers",
      "user-agent": `signalbox-example-node/1.0.0 (${process.version})`,
      ...(timeoutMs === undefined ? {} : { "grpc-timeout": timeoutHeader(timeoutMs) }),
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    };
  }

  private connection(): ClientHttp2Session {
    if (this.isClosed) throw new Error("the channel is closed");
    // Node closes a session itself when the server sends GOAWAY.
    if (this.session && !this.session.closed && !this.session.destroyed) return this.session;

    const { ca } = this.options;
    const connectTimeoutMs = timerOption(this.options.connectTimeoutMs, 10_000);
    const scheme = ca === undefined ? "http" : "https";
    const session = connect(`${scheme}://${this.address}`, { ...(ca && { ca }), settings: { enablePush: false } });
    const timer = setTimeout(() => {
      session.destroy(new Error(`no answer from ${this.address} within ${connectTimeoutMs} ms`));
    }, connectTimeoutMs);
    session.once("remoteSettings", () => clearTimeout(timer));
    session.once("close", () => clearTimeout(timer));
    // The streams of the session get the error too, and their calls report it.
    session.on("error", () => {});
    this.keepAlive(session);
    this.session = session;
    return session;
  }

  /** Destroys a session whose server does not answer a PING. TCP alone may not notice for many minutes. */
  private keepAlive(session: ClientHttp2Session): void {
    const keepaliveMs = timerOption(this.options.keepaliveMs, 30_000);
    const keepaliveTimeoutMs = timerOption(this.options.keepaliveTimeoutMs, 10_000);
    let timer: NodeJS.Timeout | undefined;
    const interval = setInterval(() => {
      const isWaiting = timer !== undefined;
      if (isWaiting || session.connecting || session.destroyed) return;
      timer = setTimeout(() => {
        session.destroy(new Error(`no answer to a PING from ${this.address} within ${keepaliveTimeoutMs} ms`));
      }, keepaliveTimeoutMs).unref();
      session.ping(() => {
        clearTimeout(timer);
        timer = undefined;
      });
    }, keepaliveMs).unref();
    session.once("close", () => {
      clearInterval(interval);
      clearTimeout(timer);
    });
  }
}

/** A time of the options, in milliseconds, up to the longest of a timer. */
function timerOption(ms: number | undefined, defaultMs: number): number {
  return Math.min(ms ?? defaultMs, TIMER_MS_MAX);
}

/** A timeout as grpc-timeout has it: at most eight digits and a unit. */
export function timeoutHeader(ms: number): string {
  const whole = Math.max(1, Math.ceil(ms));
  return whole < 100_000_000 ? `${whole}m` : `${Math.min(99_999_999, Math.ceil(whole / 1000))}S`;
}
