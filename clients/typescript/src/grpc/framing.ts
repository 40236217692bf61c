/**
 * The five bytes before each message of a stream: whether it is compressed, and its length.
 * See https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
 */

import { Code, RpcError } from "./status.js";

/** The longest request, and the longest response unless a channel has another limit, in bytes, as in gRPC's clients. */
export const MESSAGE_BYTES_MAX = 4 * 1024 * 1024;

const HEADER_BYTES = 5;

/** A message with its header. */
export function framed(message: Uint8Array): Buffer {
  if (message.length > MESSAGE_BYTES_MAX) throw tooLong("request", message.length, MESSAGE_BYTES_MAX);
  const frame = Buffer.alloc(HEADER_BYTES + message.length);
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, HEADER_BYTES);
  return frame;
}

/** Puts messages together from the chunks in which they arrive. It keeps at most one message that is incomplete. */
export class Deframer {
  private readonly header = Buffer.alloc(HEADER_BYTES);
  private message: Uint8Array | undefined;
  // The number of bytes that have arrived of the message or, before it has begun, of the header.
  private filled = 0;

  /** `bytesMax` is the longest message. */
  constructor(private readonly bytesMax = MESSAGE_BYTES_MAX) {}

  /** True if the stream may end here. */
  get isBetweenMessages(): boolean {
    return this.message === undefined && this.filled === 0;
  }

  /** The messages that end in this chunk. Throws an RpcError if one is too long or compressed. */
  push(chunk: Uint8Array): Uint8Array[] {
    const complete: Uint8Array[] = [];
    let position = 0;
    while (position < chunk.length) {
      const target = this.message ?? this.header;
      const count = Math.min(target.length - this.filled, chunk.length - position);
      target.set(chunk.subarray(position, position + count), this.filled);
      position += count;
      this.filled += count;
      if (this.filled < target.length) break;
      this.filled = 0;
      if (this.message === undefined) this.message = this.begin();
      // The second condition is for a message of no bytes, which has no chunk of its own.
      if (target === this.message || this.message.length === 0) {
        complete.push(this.message);
        this.message = undefined;
      }
    }
    return complete;
  }

  private begin(): Uint8Array {
    if (this.header[0] !== 0) {
      throw new RpcError(Code.INTERNAL, "the response is compressed, which the request did not allow");
    }
    const length = this.header.readUInt32BE(1);
    if (length > this.bytesMax) throw tooLong("response", length, this.bytesMax);
    return new Uint8Array(length);
  }
}

function tooLong(what: string, length: number, limit: number): RpcError {
  const message = `a ${what} of ${length} bytes is longer than the limit of ${limit} bytes`;
  return new RpcError(Code.RESOURCE_EXHAUSTED, message);
}
