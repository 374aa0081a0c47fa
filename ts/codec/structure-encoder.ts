// Arrays and plain objects as MessagePack, exactly: what is read is what was written.
//
// Why this and no library: the ones at hand turn −0 into 0 and the key '__proto__' into another, look at properties
// named 'constructor' and 'toJSON' of plain objects, lose lone surrogates, and keep their extensions in one global
// table. The bytes are ordinary MessagePack: any reader of it that is told of three extension types (the application's
// to choose, by its specification) reads them.
//
//   integer within 32 bits, other than −0    positive and negative fixint, (u)int 8, 16, 32
//   any other number                         float 64
//   string, key                              str, or extension 2 (UTF-16LE) where it has lone surrogates
//   bytes                                    bin
//   bigint                                   extension 1: sign byte, magnitude (big-integer.ts)
//   Date                                     extension 3: float 64, milliseconds; NaN: invalid
//   property that is undefined               left out
import { types } from 'node:util';
import { newError } from '../errors.js';
import { encodeBigInt } from './big-integer.js';
import type { ByteWriter } from './byte-writer.js';
import { isWellFormed } from './text.js';

/** Arrays and objects within each other at most: so far, decoding never meets the end of the stack. */
export const maxDepth = 1000;

// Types of extensions.
export const extensionBigInt = 1;
export const extensionText16 = 2;
export const extensionDate = 3;

/**
 * Appends the value. Throws ERR_INVALID_ARG_TYPE for what is no Value, ERR_INVALID_ARG_VALUE for cycles and depths
 * beyond {@link maxDepth}.
 */
export function encodeStructure(writer: ByteWriter, value: unknown, depth = 0): void {
  switch (typeof value) {
    case 'string':
      encodeText(writer, value);
      break;
    case 'number':
      encodeNumber(writer, value);
      break;
    case 'boolean':
      writer.writeByte(value ? 0xc3 : 0xc2);
      break;
    case 'bigint':
      encodeExtension(writer, extensionBigInt, encodeBigInt(value));
      break;
    case 'object':
      if (value === null) writer.writeByte(0xc0);
      else encodeReference(writer, value, depth);
      break;
    default:
      throw noValue(typeof value);
  }
}

function encodeReference(writer: ByteWriter, value: object, depth: number): void {
  if (value instanceof Uint8Array) {
    encodeLength(writer, value.length, 0xc4);
    writer.writeBytes(value);
  } else if (Array.isArray(value)) {
    encodeArray(writer, value, depth + 1);
  } else if (isPlainDate(value)) {
    const bytes = Buffer.allocUnsafe(8);
    bytes.writeDoubleBE(value.getTime());
    encodeExtension(writer, extensionDate, bytes);
  } else {
    encodeObject(writer, value as Record<string, unknown>, depth + 1);
  }
}

/** Whether it is a Date and not an instance of a class derived from it. */
export function isPlainDate(value: object): value is Date {
  if (!types.isDate(value)) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === Date.prototype || prototype?.constructor?.name === 'Date';
}

function encodeArray(writer: ByteWriter, array: readonly unknown[], depth: number): void {
  const prototype = Object.getPrototypeOf(array);
  // The prototype of arrays is itself an array, in every realm; that of a derived class is not.
  if (prototype !== Array.prototype && !Array.isArray(prototype)) throw noValue('an instance of a class');
  checkDepth(depth);
  const { length } = array;
  encodeCount(writer, length, 0x90, 0xdc);
  for (let i = 0; i < length; i++) encodeStructure(writer, array[i], depth);
}

function encodeObject(writer: ByteWriter, object: Record<string, unknown>, depth: number): void {
  const prototype = Object.getPrototypeOf(object);
  if (prototype !== Object.prototype && prototype !== null && !isForeignObjectPrototype(prototype)) {
    throw noValue('an instance of a class');
  }
  checkDepth(depth);
  if (Object.getOwnPropertySymbols(object).length > 0) throw noValue('an object with symbol keys');
  const keys = Object.keys(object);
  // Read once: a getter may answer something else the next time.
  const values = keys.map((key) => object[key]);
  let count = 0;
  for (const value of values) if (value !== undefined) count++;
  encodeCount(writer, count, 0x80, 0xde);
  for (let i = 0; i < keys.length; i++) {
    if (values[i] === undefined) continue;
    encodeText(writer, keys[i] as string);
    encodeStructure(writer, values[i], depth);
  }
}

/** Object.prototype of another realm (node:vm). */
function isForeignObjectPrototype(prototype: object): boolean {
  return Object.getPrototypeOf(prototype) === null && Object.hasOwn(prototype, 'propertyIsEnumerable');
}

function encodeText(writer: ByteWriter, text: string): void {
  const { length } = text;
  // Nearly every string is ASCII: its length in bytes is then known before it is written.
  const start = writer.length;
  const header = length < 32 ? 1 : length < 0x100 ? 2 : length < 0x10000 ? 3 : 5;
  writer.reserve(header);
  writer.length = start + header;
  const size = writer.writeText(text);
  if (size !== length) {
    if (!isWellFormed(text)) {
      writer.length = start;
      encodeExtension(writer, extensionText16, Buffer.from(text, 'utf16le'));
      return;
    }
    const needed = size < 32 ? 1 : size < 0x100 ? 2 : size < 0x10000 ? 3 : 5;
    if (needed !== header) {
      writer.reserve(needed - header);
      writer.bytes.copyWithin(start + needed, start + header, start + header + size);
      writer.length = start + needed + size;
    }
  }
  putTextHeader(writer.bytes, start, size);
}

function putTextHeader(bytes: Buffer, at: number, size: number): void {
  if (size < 32) {
    bytes[at] = 0xa0 | size;
  } else if (size < 0x100) {
    bytes[at] = 0xd9;
    bytes[at + 1] = size;
  } else if (size < 0x10000) {
    bytes[at] = 0xda;
    bytes.writeUInt16BE(size, at + 1);
  } else {
    bytes[at] = 0xdb;
    bytes.writeUInt32BE(size, at + 1);
  }
}

function encodeNumber(writer: ByteWriter, value: number): void {
  const at = writer.reserve(9);
  const { bytes } = writer;
  if ((value | 0) === value && !Object.is(value, -0)) {
    if (value >= -32 && value < 128) {
      bytes[at] = value & 0xff;
      writer.length = at + 1;
    } else if (value >= -128 && value < 256) {
      bytes[at] = value < 0 ? 0xd0 : 0xcc;
      bytes[at + 1] = value & 0xff;
      writer.length = at + 2;
    } else if (value >= -0x8000 && value < 0x10000) {
      bytes[at] = value < 0 ? 0xd1 : 0xcd;
      bytes[at + 1] = (value >> 8) & 0xff;
      bytes[at + 2] = value & 0xff;
      writer.length = at + 3;
    } else {
      bytes[at] = value < 0 ? 0xd2 : 0xce;
      if (value < 0) bytes.writeInt32BE(value, at + 1);
      else bytes.writeUInt32BE(value, at + 1);
      writer.length = at + 5;
    }
    return;
  }
  bytes[at] = 0xcb;
  bytes.writeDoubleBE(Number.isNaN(value) ? Number.NaN : value, at + 1); // NaN has many forms in bits
  writer.length = at + 9;
}

/** Header of 8, 16 or 32 bits of length: `first` is the shortest one's byte. */
function encodeLength(writer: ByteWriter, length: number, first: number): void {
  const at = writer.reserve(5);
  const { bytes } = writer;
  if (length < 0x100) {
    bytes[at] = first;
    bytes[at + 1] = length;
    writer.length = at + 2;
  } else if (length < 0x10000) {
    bytes[at] = first + 1;
    bytes.writeUInt16BE(length, at + 1);
    writer.length = at + 3;
  } else {
    if (length > 0xffff_ffff) throw newError('ERR_VALUE_TOO_LARGE', 'A value has at most 4 GiB - 1 bytes');
    bytes[at] = first + 2;
    bytes.writeUInt32BE(length, at + 1);
    writer.length = at + 5;
  }
}

/** Header of an array or map. */
function encodeCount(writer: ByteWriter, count: number, fix: number, first: number): void {
  const at = writer.reserve(5);
  const { bytes } = writer;
  if (count < 16) {
    bytes[at] = fix | count;
    writer.length = at + 1;
  } else if (count < 0x10000) {
    bytes[at] = first;
    bytes.writeUInt16BE(count, at + 1);
    writer.length = at + 3;
  } else {
    bytes[at] = first + 1;
    bytes.writeUInt32BE(count, at + 1);
    writer.length = at + 5;
  }
}

function encodeExtension(writer: ByteWriter, type: number, bytes: Uint8Array): void {
  encodeLength(writer, bytes.length, 0xc7);
  writer.writeByte(type);
  writer.writeBytes(bytes);
}

function checkDepth(depth: number): void {
  if (depth <= maxDepth) return;
  throw newError('ERR_INVALID_ARG_VALUE', `The value has a cycle, or more than ${maxDepth} levels`);
}

function noValue(what: string): Error {
  return newError('ERR_INVALID_ARG_TYPE', `No value that can be stored: ${what}`);
}
