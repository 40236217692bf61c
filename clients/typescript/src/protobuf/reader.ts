/**
 * Reads the parts of an encoded protobuf message: varints, fixed numbers, texts and unknown fields.
 * See https://protobuf.dev/programming-guides/encoding.
 */

/** The bytes are not an encoding of the message. */
export class DecodeError extends Error {
  override readonly name = "DecodeError";
}

export enum WireType {
  VARINT = 0,
  FIXED64 = 1,
  LENGTH = 2,
  GROUP_START = 3,
  GROUP_END = 4,
  FIXED32 = 5,
}

/** The depth to which messages and groups may be nested. Other implementations of protobuf have the same limit. */
export const DEPTH_MAX = 100;

// A byte order mark is a character like any other, and text that is not UTF-8 is an error.
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A position in bytes that are read up to `end`. Every read that would pass the end throws a DecodeError. */
export class Reader {
  position = 0;
  end: number;
  private readonly bytes: Uint8Array;
  private readonly view: DataView;
  // The last varint that was read, as two numbers of 32 bits, because bitwise operators have no more.
  private low = 0;
  private high = 0;

  constructor(bytes: Uint8Array) {
    // A Buffer's own `slice` would not copy.
    this.bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.end = bytes.byteLength;
  }

  get isAtEnd(): boolean {
    return this.position === this.end;
  }

  /** Reads the number and the wire type that every field begins with. */
  tag(): [number: number, wireType: WireType] {
    this.varint();
    if (this.high !== 0) throw new DecodeError("the tag of a field has more than 32 bits");
    const number = this.low >>> 3;
    if (number === 0) throw new DecodeError("a field has the number 0");
    return [number, this.low & 7];
  }

  bool(): boolean {
    this.varint();
    return this.low !== 0 || this.high !== 0;
  }

  /** Reads a number of 32 bits. As in other implementations, longer ones lose their upper bits. */
  int32(): number {
    this.varint();
    return this.low | 0;
  }

  uint32(): number {
    this.varint();
    return this.low;
  }

  sint32(): number {
    this.varint();
    return (this.low >>> 1) ^ -(this.low & 1);
  }

  int64(): bigint {
    return BigInt.asIntN(64, this.uint64());
  }

  uint64(): bigint {
    this.varint();
    return (BigInt(this.high) << 32n) | BigInt(this.low);
  }

  double(): number {
    return this.view.getFloat64(this.advance(8), true);
  }

  text(): string {
    try {
      return utf8.decode(this.span());
    } catch {
      throw new DecodeError("a text is not UTF-8");
    }
  }

  /** Reads bytes into an array of their own. */
  copy(): Uint8Array {
    return this.span().slice();
  }

  /** Reads the length of a part, calls `body` with `end` at the part's end, and goes on behind it. */
  within(body: () => void): void {
    const length = this.length();
    const outer = this.end;
    this.end = this.position + length;
    body();
    this.end = outer;
  }

  /** Skips the content of a field. `depth` is how deep its message is nested. */
  skip(number: number, wireType: WireType, depth: number): void {
    switch (wireType) {
      case WireType.VARINT:
        this.varint();
        return;
      case WireType.FIXED64:
        this.advance(8);
        return;
      case WireType.LENGTH:
        this.advance(this.length());
        return;
      case WireType.GROUP_START:
        this.skipGroup(number, depth + 1);
        return;
      case WireType.FIXED32:
        this.advance(4);
        return;
      default:
        throw new DecodeError(`field ${number} has the wire type ${wireType}, which is not expected here`);
    }
  }

  private skipGroup(number: number, depth: number): void {
    if (depth > DEPTH_MAX) throw new DecodeError(`groups are nested more than ${DEPTH_MAX} deep`);
    for (;;) {
      const [inner, wireType] = this.tag();
      if (wireType !== WireType.GROUP_END) {
        this.skip(inner, wireType, depth);
      } else if (inner === number) {
        return;
      } else {
        throw new DecodeError(`the group ${number} ends with the number ${inner}`);
      }
    }
  }

  private varint(): void {
    let low = 0;
    let high = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = this.bytes[this.advance(1)]!;
      const bits = byte & 0x7f;
      if (shift < 28) {
        low |= bits << shift;
      } else if (shift === 28) {
        low |= bits << 28;
        high = bits >>> 4;
      } else {
        high |= bits << (shift - 32);
      }
      if (byte < 0x80) {
        this.low = low >>> 0;
        this.high = high >>> 0;
        return;
      }
    }
    throw new DecodeError("a varint has more than 10 bytes");
  }

  private length(): number {
    this.varint();
    if (this.high !== 0 || this.low > this.end - this.position) {
      throw new DecodeError("a field is longer than its message");
    }
    return this.low;
  }

  private span(): Uint8Array {
    const length = this.length();
    const start = this.advance(length);
    return this.bytes.subarray(start, start + length);
  }

  /** Moves on by `count` bytes, and returns the position before. */
  private advance(count: number): number {
    if (count > this.end - this.position) throw new DecodeError("the message ends within a field");
    const start = this.position;
    this.position += count;
    return start;
  }
}
