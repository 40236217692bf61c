/** The methods of a service, which scripts/generate lists in src/generated. */

import type { MessageType } from "../protobuf/message.js";

/** A method with one request and one response. `path` is "/package.Service/Method". */
export class UnaryMethod<Request, Response> {
  constructor(
    readonly path: string,
    readonly request: MessageType<Request>,
    readonly response: MessageType<Response>,
  ) {}
}

/** A method with one request and a stream of responses. */
export class StreamMethod<Request, Response> {
  // Otherwise both kinds of method would be the same type, for types with the same properties are.
  readonly isStream = true;

  constructor(
    readonly path: string,
    readonly request: MessageType<Request>,
    readonly response: MessageType<Response>,
  ) {}
}
