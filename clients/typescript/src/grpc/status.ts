/** The ends of a call: gRPC's codes, and the errors that are made of trailers, HTTP statuses and HTTP/2 error codes. */

import { constants, type IncomingHttpHeaders } from "node:http2";

import type { Any } from "../generated/google/protobuf/any.js";
import { Status } from "../generated/google/rpc/status.js";
import type { MessageType } from "../protobuf/message.js";

/** The codes of https://grpc.io/docs/guides/status-codes. */
export enum Code {
  OK = 0,
  CANCELLED = 1,
  UNKNOWN = 2,
  INVALID_ARGUMENT = 3,
  DEADLINE_EXCEEDED = 4,
  NOT_FOUND = 5,
  ALREADY_EXISTS = 6,
  PERMISSION_DENIED = 7,
  RESOURCE_EXHAUSTED = 8,
  FAILED_PRECONDITION = 9,
  ABORTED = 10,
  OUT_OF_RANGE = 11,
  UNIMPLEMENTED = 12,
  INTERNAL = 13,
  UNAVAILABLE = 14,
  DATA_LOSS = 15,
  UNAUTHENTICATED = 16,
}

/** A call that did not end with OK. */
export class RpcError extends Error {
  override readonly name = "RpcError";

  constructor(readonly code: Code, message: string, readonly details: readonly Any[] = []) {
    super(message);
  }

  /** The error detail of this type, such as google.rpc.BadRequest. Throws a DecodeError if it is malformed. */
  detail<T>(type: MessageType<T>): T | undefined {
    const found = this.details.find((detail) => detail.typeUrl.endsWith(`/${type.name}`));
    return found && type.decode(found.value);
  }
}

/** The error that trailers tell of, or undefined if they say OK. */
export function errorOfTrailers(trailers: IncomingHttpHeaders): RpcError | undefined {
  const sent = String(trailers["grpc-status"]);
  const code: Code = /^\d{1,2}$/.test(sent) && Number(sent) in Code ? Number(sent) : Code.UNKNOWN;
  if (code === Code.OK) return undefined;
  const message = percentDecoded(String(trailers["grpc-message"] ?? ""));
  return new RpcError(code, message || `the call ended with the status ${sent}`, detailsOf(trailers));
}

/** The error of a response that is not one of gRPC, such as one that a proxy made. */
export function errorOfHttpStatus(status: number): RpcError {
  return new RpcError(HTTP_CODES[status] ?? Code.UNKNOWN, `the response has the HTTP status ${status}`);
}

/** The error of a stream that the peer reset with this error code of HTTP/2. */
export function errorOfReset(code: number): RpcError {
  return new RpcError(RESET_CODES[code] ?? Code.INTERNAL, `the stream was reset with the HTTP/2 error code ${code}`);
}

// By https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md.
const HTTP_CODES: Record<number, Code> = {
  400: Code.INTERNAL,
  401: Code.UNAUTHENTICATED,
  403: Code.PERMISSION_DENIED,
  404: Code.UNIMPLEMENTED,
  429: Code.UNAVAILABLE,
  502: Code.UNAVAILABLE,
  503: Code.UNAVAILABLE,
  504: Code.UNAVAILABLE,
};

// By https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#errors.
const RESET_CODES: Record<number, Code> = {
  [constants.NGHTTP2_REFUSED_STREAM]: Code.UNAVAILABLE,
  [constants.NGHTTP2_CANCEL]: Code.CANCELLED,
  [constants.NGHTTP2_ENHANCE_YOUR_CALM]: Code.RESOURCE_EXHAUSTED,
  [constants.NGHTTP2_INADEQUATE_SECURITY]: Code.PERMISSION_DENIED,
};

/** Decodes %XX as UTF-8. Whatever is malformed stays as it was sent, because a message is only for people. */
function percentDecoded(text: string): string {
  return text.replace(/(%[0-9a-fA-F]{2})+/g, (run) => {
    try {
      return decodeURIComponent(run);
    } catch {
      return run;
    }
  });
}

function detailsOf(trailers: IncomingHttpHeaders): readonly Any[] {
  const sent = trailers["grpc-status-details-bin"];
  if (sent === undefined) return [];
  try {
    return Status.decode(Buffer.from(String(sent), "base64")).details;
  } catch {
    // The status itself is known, and matters more than its details.
    return [];
  }
}
