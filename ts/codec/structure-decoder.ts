// The reverse of structure-encoder.ts. Counts and lengths are checked before they are followed: hostile bytes throw
// ERR_CORRUPT.
import { newError } from '../errors.js';
import { decodeBigInt } from './big-integer.js';
import { viewOf } from './codec.js';
import { extensionBigInt, extensionDate, extensionText16, maxDepth } from './structure-encoder.js';

interface Reader {
  readonly bytes: Buffer;
  position: number;
  readonly end: number;
  readonly owned: boolean;
}

/** The value at the bytes' start. Throws where they are not what encodeStructure writes. */
export function decodeStructure(bytes: Buffer, start: number, end: number, owned: boolean): unknown {
  const reader = { bytes, position: start, end, owned };
  const value = decodeNext(reader, 0);
  if (reader.position !== end) throw malformed();
  return value;
}

function decodeNext(reader: Reader, depth: number): unknown {
  const { bytes } = reader;
  const token = bytes[take(reader, 1)] as number;
  if (token < 0x80) return token;
  if (token >= 0xe0) return token - 0x100;
  if (token < 0x90) return decodeObject(reader, token & 0x0f, depth + 1);
  if (token < 0xa0) return decodeArray(reader, token & 0x0f, depth + 1);
  if (token < 0xc0) return decodeText(reader, token & 0x1f);
  switch (token) {
    case 0xc0:
      return null;
    case 0xc2:
      return false;
    case 0xc3:
      return true;
    case 0xc4:
    case 0xc5:
    case 0xc6: {
      const size = takeLength(reader, token - 0xc4);
      const at = take(reader, size);
      return viewOf(bytes, at, at + size, reader.owned);
    }
    case 0xc7:
    case 0xc8:
    case 0xc9:
      return decodeExtension(reader, takeLength(reader, token - 0xc7));
    case 0xcb:
      return bytes.readDoubleBE(take(reader, 8));
    case 0xcc:
      return bytes[take(reader, 1)];
    case 0xcd:
      return bytes.readUInt16BE(take(reader, 2));
    case 0xce:
      return bytes.readUInt32BE(take(reader, 4));
    case 0xd0:
      return bytes.readInt8(take(reader, 1));
    case 0xd1:
      return bytes.readInt16BE(take(reader, 2));
    case 0xd2:
      return bytes.readInt32BE(take(reader, 4));
    case 0xd9:
    case 0xda:
    case 0xdb:
      return decodeText(reader, takeLength(reader, token - 0xd9));
    case 0xdc:
    case 0xdd:
      return decodeArray(reader, takeLength(reader, token - 0xdc + 1), depth + 1);
    case 0xde:
    case 0xdf:
      return decodeObject(reader, takeLength(reader, token - 0xde + 1), depth + 1);
    default:
      throw malformed();
  }
}

function decodeArray(reader: Reader, count: number, depth: number): unknown[] {
  // Each element takes a byte at least: a wrong count must not ask for memory.
  if (depth > maxDepth || count > reader.end - reader.position) throw malformed();
  const array: unknown[] = [];
  for (let i = 0; i < count; i++) array.push(decodeNext(reader, depth));
  return array;
}

function decodeObject(reader: Reader, count: number, depth: number): Record<string, unknown> {
  if (depth > maxDepth || count > reader.end - reader.position) throw malformed();
  const object: Record<string, unknown> = {};
  for (let i = 0; i < count; i++) {
    const key = decodeNext(reader, depth);
    if (typeof key !== 'string') throw malformed();
    const value = decodeNext(reader, depth);
    if (key === '__proto__') {
      Object.defineProperty(object, key, { value, writable: true, enumerable: true, configurable: true });
    } else {
      object[key] = value;
    }
  }
  return object;
}

function decodeText(reader: Reader, size: number): string {
  const at = take(reader, size);
  return reader.bytes.toString('utf8', at, at + size);
}

function decodeExtension(reader: Reader, size: number): unknown {
  const type = reader.bytes[take(reader, 1)];
  const at = take(reader, size);
  switch (type) {
    case extensionBigInt:
      if (size < 1) throw malformed();
      return decodeBigInt(reader.bytes, at, at + size);
    case extensionText16:
      return reader.bytes.toString('utf16le', at, at + size);
    case extensionDate:
      if (size !== 8) throw malformed();
      return new Date(reader.bytes.readDoubleBE(at));
    default:
      throw malformed();
  }
}

/** Steps over `size` bytes; answers where they begin. */
function take(reader: Reader, size: number): number {
  const at = reader.position;
  if (size > reader.end - at) throw malformed();
  reader.position = at + size;
  return at;
}

/** A length of 1, 2 or 4 bytes. */
function takeLength(reader: Reader, width: number): number {
  if (width === 0) return reader.bytes[take(reader, 1)] as number;
  if (width === 1) return reader.bytes.readUInt16BE(take(reader, 2));
  return reader.bytes.readUInt32BE(take(reader, 4));
}

function malformed(): Error {
  return newError('ERR_CORRUPT', 'The stored bytes are no value of this encoding');
}
