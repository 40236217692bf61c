/**
 * Encodes and decodes messages by the tables of their fields, which `scripts/generate` writes to src/generated.
 *
 * A decoded message has every property: a field that was not sent has the default of its type, and a message,
 * oneof or `optional` field that was not sent is undefined. To encode one, give only the properties that are set.
 * A 64-bit integer is a bigint, so that no value is rounded. A bytes field is a Uint8Array, a map is a Map, and an
 * enum is a number: a value that this version does not know is kept. Fields that it does not know are skipped.
 */

import { DecodeError, DEPTH_MAX, Reader, WireType } from "./reader.js";
import { Writer } from "./writer.js";

/** The properties that a message is encoded from. All of them, and those of the messages in it, may be left out. */
export type Init<T> = T extends Uint8Array | Map<string, unknown> | string | number | bigint | boolean | undefined
  ? T
  : T extends readonly (infer Element)[]
  ? readonly Init<Element>[]
  : T extends { case: infer Case; value: infer Value }
  ? { case: Case; value: Init<Value> }
  : { [Key in keyof T]?: Init<T[Key]> };

type Scalar = "bool" | "bytes" | "double" | "enum" | "int32" | "int64" | "sint32" | "string" | "uint32" | "uint64";

/** One field of a message. */
export interface Field {
  readonly number: number;
  /** The name of the property or, in a oneof, of the case. */
  readonly name: string;
  /** The type of the value; in a list or map, of each value. */
  readonly type: Scalar | MessageType<any>;
  /** optional: a field of a plain type that tells whether it is set. map: its keys are texts. */
  readonly rule?: "optional" | "list" | "map";
  /** The property of the oneof that the field belongs to. */
  readonly oneof?: string;
}

type Properties = Record<string, any>;

export class MessageType<T> {
  private fields: readonly Field[] | undefined;
  private byNumber = new Map<number, Field>();

  /** `name` is the full name in the proto. `table` has the fields in the order of their numbers. */
  constructor(readonly name: string, private readonly table: () => readonly Field[]) {}

  /** The message with nothing set. */
  create(): T {
    const message: Properties = {};
    for (const field of this.allFields()) message[field.oneof ?? field.name] = emptyValue(field);
    return message as T;
  }

  /** Throws a TypeError that names the field, if a value is not of its type. */
  encode(message: Init<T>): Uint8Array {
    const writer = new Writer();
    for (const field of this.allFields()) {
      const value = valueOf(field, message as Properties);
      if (value !== undefined && value !== null) this.writeField(writer, field, value);
    }
    return writer.finish();
  }

  /** Throws a DecodeError if the bytes are not an encoding of this message. */
  decode(bytes: Uint8Array): T {
    const reader = new Reader(bytes);
    const message = this.create();
    this.merge(message as Properties, reader, 1);
    return message;
  }

  /** Reads fields up to the reader's end. A message that is sent in several parts is all of them together. */
  private merge(message: Properties, reader: Reader, depth: number): void {
    if (depth > DEPTH_MAX) throw new DecodeError(`messages are nested more than ${DEPTH_MAX} deep`);
    this.allFields();
    while (!reader.isAtEnd) {
      const [number, wireType] = reader.tag();
      const field = this.byNumber.get(number);
      if (field === undefined || !this.readField(message, reader, field, wireType, depth)) {
        reader.skip(number, wireType, depth);
      }
    }
  }

  /** Reads the field and returns true, or reads nothing and returns false if its wire type is not that of its type. */
  private readField(message: Properties, reader: Reader, field: Field, wireType: WireType, depth: number): boolean {
    const { name, oneof, type } = field;
    const isPacked = field.rule === "list" && wireType === WireType.LENGTH && wireTypeOf(type) !== WireType.LENGTH;
    if (isPacked) {
      reader.within(() => {
        while (!reader.isAtEnd) message[name].push(readValue(reader, type, undefined, depth));
      });
      return true;
    }
    if (wireType !== (field.rule === "map" ? WireType.LENGTH : wireTypeOf(type))) return false;
    if (field.rule === "map") {
      const [key, value] = readEntry(reader, type, depth);
      message[name].set(key, value);
    } else if (field.rule === "list") {
      message[name].push(readValue(reader, type, undefined, depth));
    } else if (oneof !== undefined) {
      const before = message[oneof]?.case === name ? message[oneof].value : undefined;
      message[oneof] = { case: name, value: readValue(reader, type, before, depth) };
    } else {
      message[name] = readValue(reader, type, message[name], depth);
    }
    return true;
  }

  private writeField(writer: Writer, field: Field, value: any): void {
    const { number, type } = field;
    const path = `${this.name}.${field.name}`;
    if (field.rule === "map") {
      for (const [key, item] of value as Map<string, unknown>) {
        const entry = new Writer();
        writeTagged(entry, 1, "string", key, path);
        writeTagged(entry, 2, type, item, path);
        writer.tag(number, WireType.LENGTH);
        writer.withLength(entry.finish());
      }
    } else if (field.rule === "list") {
      if (value.length === 0) return;
      if (wireTypeOf(type) === WireType.LENGTH) {
        for (const item of value) writeTagged(writer, number, type, item, path);
        return;
      }
      const packed = new Writer();
      for (const item of value) writeValue(packed, type, item, path);
      writer.tag(number, WireType.LENGTH);
      writer.withLength(packed.finish());
    } else if (field.rule === "optional" || field.oneof !== undefined || !isDefault(value)) {
      writeTagged(writer, number, type, value, path);
    }
  }

  private allFields(): readonly Field[] {
    // Tables name other types, so they are read only when all of these exist.
    if (this.fields === undefined) {
      this.fields = this.table();
      for (const field of this.fields) this.byNumber.set(field.number, field);
    }
    return this.fields;
  }

  /** For readValue only: reads the message as part of another one. */
  static readPart(type: MessageType<any>, reader: Reader, before: Properties | undefined, depth: number): Properties {
    const message = before ?? type.create();
    reader.within(() => type.merge(message, reader, depth));
    return message;
  }
}

function valueOf(field: Field, message: Properties): unknown {
  if (field.oneof === undefined) return message[field.name];
  const member = message[field.oneof];
  return member?.case === field.name ? member.value : undefined;
}

function emptyValue(field: Field): unknown {
  if (field.rule === "list") return [];
  if (field.rule === "map") return new Map();
  if (field.rule === "optional" || field.oneof !== undefined) return undefined;
  return emptyOf(field.type);
}

function emptyOf(type: Field["type"]): unknown {
  switch (type) {
    case "bool":
      return false;
    case "bytes":
      return new Uint8Array();
    case "string":
      return "";
    case "int64":
    case "uint64":
      return 0n;
    case "double":
    case "enum":
    case "int32":
    case "sint32":
    case "uint32":
      return 0;
    default:
      return undefined;
  }
}

/** True for a value that a plain field does not write. −0 is written, because it is another number than 0. */
function isDefault(value: unknown): boolean {
  if (value instanceof Uint8Array) return value.length === 0;
  return Object.is(value, 0) || value === 0n || value === "" || value === false;
}

function wireTypeOf(type: Field["type"]): WireType {
  if (typeof type !== "string" || type === "string" || type === "bytes") return WireType.LENGTH;
  return type === "double" ? WireType.FIXED64 : WireType.VARINT;
}

function readValue(reader: Reader, type: Field["type"], before: Properties | undefined, depth: number): unknown {
  if (typeof type !== "string") return MessageType.readPart(type, reader, before, depth + 1);
  switch (type) {
    case "string":
      return reader.text();
    case "bytes":
      return reader.copy();
    case "enum":
      return reader.int32();
    default:
      return reader[type]();
  }
}

function readEntry(reader: Reader, type: Field["type"], depth: number): [key: string, value: unknown] {
  let key = "";
  let value = typeof type === "string" ? emptyOf(type) : type.create();
  reader.within(() => {
    while (!reader.isAtEnd) {
      const [number, wireType] = reader.tag();
      if (number === 1 && wireType === WireType.LENGTH) key = reader.text();
      else if (number === 2 && wireType === wireTypeOf(type)) value = readValue(reader, type, undefined, depth + 1);
      else reader.skip(number, wireType, depth + 1);
    }
  });
  return [key, value];
}

function writeTagged(writer: Writer, number: number, type: Field["type"], value: unknown, path: string): void {
  writer.tag(number, wireTypeOf(type));
  writeValue(writer, type, value, path);
}

function writeValue(writer: Writer, type: Field["type"], value: any, path: string): void {
  if (typeof type !== "string") {
    if (typeof value !== "object" || value === null) throw mismatch(path, `a ${type.name}`, value);
    writer.withLength(type.encode(value));
    return;
  }
  const expected = CHECKS[type];
  if (!expected.holds(value)) throw mismatch(path, expected.what, value);
  switch (type) {
    case "string":
      return writer.text(value);
    case "bytes":
      return writer.withLength(value);
    case "bool":
      return writer.bool(value);
    case "enum":
      return writer.int32(value);
    case "int64":
    case "uint64":
      return writer[type](value);
    default:
      return writer[type](value);
  }
}

function mismatch(path: string, what: string, value: unknown): TypeError {
  const found = typeof value === "number" || typeof value === "bigint" ? String(value) : typeof value;
  return new TypeError(`${path} is to be ${what}, and is ${found}`);
}

interface Check {
  readonly what: string;
  holds(value: unknown): boolean;
}

const int32: Check = {
  what: "an integer of 32 bits",
  holds: (value) => Number.isInteger(value) && (value as number) === ((value as number) | 0),
};

const CHECKS: Record<Scalar, Check> = {
  bool: { what: "true or false", holds: (value) => typeof value === "boolean" },
  bytes: { what: "a Uint8Array", holds: (value) => value instanceof Uint8Array },
  double: { what: "a number", holds: (value) => typeof value === "number" },
  enum: int32,
  int32,
  sint32: int32,
  int64: {
    what: "a bigint of 64 bits",
    holds: (value) => typeof value === "bigint" && BigInt.asIntN(64, value) === value,
  },
  // Half of a surrogate pair has no encoding in UTF-8.
  string: { what: "well-formed text", holds: (value) => typeof value === "string" && !/\p{Surrogate}/u.test(value) },
  uint32: {
    what: "an integer of 32 bits without sign",
    holds: (value) => Number.isInteger(value) && (value as number) === (value as number) >>> 0,
  },
  uint64: {
    what: "a bigint of 64 bits without sign",
    holds: (value) => typeof value === "bigint" && BigInt.asUintN(64, value) === value,
  },
};
