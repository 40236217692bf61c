/** Writes the parts of an encoded protobuf message. */

import { WireType } from "./reader.js";

const utf8 = new TextEncoder();

/** Bytes that grow as they are written. The values were checked before; see MessageType.encode. */
export class Writer {
  private bytes = new Uint8Array(64);
  private view = new DataView(this.bytes.buffer);
  private length = 0;

  /** The bytes that were written, in an array of their own. */
  finish(): Uint8Array {
    return this.bytes.slice(0, this.length);
  }

  tag(number: number, wireType: WireType): void {
    this.uint32(((number << 3) | wireType) >>> 0);
  }

  bool(value: boolean): void {
    this.uint32(value ? 1 : 0);
  }

  uint32(value: number): void {
    const start = this.grow(5);
    let position = start;
    while (value > 0x7f) {
      this.bytes[position++] = (value & 0x7f) | 0x80;
      value >>>= 7;
    }
    this.bytes[position++] = value;
    this.length = position;
  }

  /** A negative number takes ten bytes, as it does in an int64. */
  int32(value: number): void {
    if (value >= 0) this.uint32(value);
    else this.uint64(BigInt.asUintN(64, BigInt(value)));
  }

  sint32(value: number): void {
    this.uint32(((value << 1) ^ (value >> 31)) >>> 0);
  }

  int64(value: bigint): void {
    this.uint64(BigInt.asUintN(64, value));
  }

  uint64(value: bigint): void {
    let position = this.grow(10);
    while (value > 0x7fn) {
      this.bytes[position++] = Number(value & 0x7fn) | 0x80;
      value >>= 7n;
    }
    this.bytes[position++] = Number(value);
    this.length = position;
  }

  double(value: number): void {
    const start = this.grow(8);
    this.view.setFloat64(start, value, true);
    this.length = start + 8;
  }

  text(value: string): void {
    this.withLength(utf8.encode(value));
  }

  /** Writes the bytes with their length before them. */
  withLength(value: Uint8Array): void {
    this.uint32(value.length);
    const start = this.grow(value.length);
    this.bytes.set(value, start);
    this.length = start + value.length;
  }

  /** Makes room for `count` more bytes, and returns where they begin. */
  private grow(count: number): number {
    if (this.length + count > this.bytes.length) {
      const larger = new Uint8Array(Math.max(2 * this.bytes.length, this.length + count));
      larger.set(this.bytes);
      this.bytes = larger;
      this.view = new DataView(larger.buffer);
    }
    return this.length;
  }
}
