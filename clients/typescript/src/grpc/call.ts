/** One call: a stream of HTTP/2 that is read message by message, and ends with a status. */

import { constants, type ClientHttp2Stream, type IncomingHttpHeaders } from "node:http2";

import type { MessageType } from "../protobuf/message.js";
import { Deframer } from "./framing.js";
import { Code, errorOfHttpStatus, errorOfReset, errorOfTrailers, RpcError } from "./status.js";
import { TIMER_MS_MAX } from "./timer.js";

/**
 * The responses of a call, to be read with `for await`. The loop ends when the call ends with OK, and throws an
 * RpcError otherwise. To leave the loop cancels the call.
 *
 * Only what the reader asks for is read from the stream: at most one chunk of it is decoded ahead, and then HTTP/2's
 * flow control holds the server back.
 */
export class Call<Response> implements AsyncIterableIterator<Response> {
  private readonly deframer: Deframer;
  private readonly messages: Uint8Array[] = [];
  private headers: IncomingHttpHeaders | undefined;
  private trailers: IncomingHttpHeaders | undefined;
  private streamError: Error | undefined;
  // The end of the call. An end with OK has no error.
  private end: { error: RpcError | undefined } | undefined;
  private timer: NodeJS.Timeout | undefined;
  private wake = () => {};

  /** `isLost` tells whether the connection of the stream is gone. */
  constructor(
    private readonly stream: ClientHttp2Stream,
    private readonly type: MessageType<Response>,
    private readonly isLost: () => boolean,
    maxResponseBytes: number | undefined,
    timeoutMs: number | undefined,
  ) {
    this.deframer = new Deframer(maxResponseBytes);
    stream.on("response", (headers) => this.receiveHeaders(headers));
    stream.on("trailers", (trailers) => (this.trailers = trailers));
    stream.on("data", (chunk: Buffer) => this.receive(chunk));
    stream.on("error", (error) => (this.streamError = error));
    stream.on("close", () => this.finish(this.errorAtClose()));
    stream.pause();
    if (timeoutMs !== undefined) {
      const error = new RpcError(Code.DEADLINE_EXCEEDED, `the call has not ended within ${timeoutMs} ms`);
      this.cancelAfter(timeoutMs, error);
    }
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** For one reader at a time. */
  async next(): Promise<IteratorResult<Response>> {
    for (;;) {
      const message = this.messages.shift();
      if (message !== undefined) return { done: false, value: this.decoded(message) };
      if (this.end?.error) throw this.end.error;
      if (this.end) return { done: true, value: undefined };
      const changed = new Promise<void>((resolve) => (this.wake = resolve));
      this.stream.resume();
      await changed;
    }
  }

  async return(): Promise<IteratorResult<Response>> {
    this.cancel();
    return { done: true, value: undefined };
  }

  /** Ends the call here and on the server, with this error for the reader. A call that has ended stays as it is. */
  cancel(error = new RpcError(Code.CANCELLED, "the call was cancelled")): void {
    this.finish(error);
    this.stream.close(constants.NGHTTP2_CANCEL);
    // The data that the server sent before it learned of the cancellation is dropped.
    this.stream.resume();
  }

  private cancelAfter(ms: number, error: RpcError): void {
    const first = Math.min(ms, TIMER_MS_MAX);
    const next = () => (ms > first ? this.cancelAfter(ms - first, error) : this.cancel(error));
    this.timer = setTimeout(next, first);
  }

  private receiveHeaders(headers: IncomingHttpHeaders): void {
    this.headers = headers;
    const isGrpc = /^application\/grpc($|[+;])/.test(headers["content-type"] ?? "");
    const status = Number(headers[":status"]);
    if (status !== 200) {
      const error = headers["grpc-status"] === undefined ? undefined : errorOfTrailers(headers);
      this.cancel(error ?? errorOfHttpStatus(status));
    } else if (!isGrpc) {
      const found = headers["content-type"] ?? "none";
      this.cancel(new RpcError(Code.UNKNOWN, `the response is not one of gRPC: its content type is ${found}`));
    }
  }

  private receive(chunk: Buffer): void {
    if (this.end) return;
    try {
      this.messages.push(...this.deframer.push(chunk));
    } catch (error) {
      this.cancel(error as RpcError);
      return;
    }
    if (this.messages.length > 0) {
      this.stream.pause();
      this.wake();
    }
  }

  private decoded(message: Uint8Array): Response {
    try {
      return this.type.decode(message);
    } catch (error) {
      const failure = new RpcError(Code.INTERNAL, `a ${this.type.name} cannot be decoded: ${(error as Error).message}`);
      this.messages.length = 0;
      this.cancel(failure);
      throw failure;
    }
  }

  /** The error of a stream that has closed by itself, or undefined if it ended with OK. */
  private errorAtClose(): RpcError | undefined {
    // A response without messages has only headers, which are its trailers too.
    const trailers = this.trailers ?? (this.headers?.["grpc-status"] === undefined ? undefined : this.headers);
    if (trailers !== undefined) {
      const error = errorOfTrailers(trailers);
      if (error !== undefined) return error;
      // Node drops what was received and not read yet when the connection is lost.
      if (!this.stream.readableEnded) return this.errorOfLoss();
      if (this.deframer.isBetweenMessages) return undefined;
      return new RpcError(Code.INTERNAL, "the stream ended within a message");
    }
    if (this.isLost()) return this.errorOfLoss();
    if (this.stream.rstCode !== constants.NGHTTP2_NO_ERROR) return errorOfReset(this.stream.rstCode);
    return new RpcError(Code.UNKNOWN, "the stream ended without a status");
  }

  private errorOfLoss(): RpcError {
    const reason = this.streamError ? `: ${this.streamError.message}` : "";
    return new RpcError(Code.UNAVAILABLE, `the connection was lost${reason}`);
  }

  private finish(error: RpcError | undefined): void {
    if (this.end) return;
    this.end = { error };
    clearTimeout(this.timer);
    this.wake();
  }
}
