// Encoding 'auto': keeps the type of each value. One byte says which, the rest is the value:
//
//   1 string, UTF-8                            6 true
//   2 string with lone surrogates, UTF-16LE    7 null
//   3 bytes                                    8 bigint: sign byte, magnitude (big-integer.ts)
//   4 number: float 64, little-endian          9 Date: float 64, little-endian, milliseconds; NaN: an invalid Date
//   5 false                                   10 array or object (structure-encoder.ts)
//
// One value has one form: equality of values is equality of bytes.
import { newError } from '../errors.js';
import { decodeBigInt, encodeBigInt } from './big-integer.js';
import { ByteWriter } from './byte-writer.js';
import { type EncodedValue, type ValueCodec, viewOf } from './codec.js';
import { decodeStructure } from './structure-decoder.js';
import { encodeStructure, isPlainDate } from './structure-encoder.js';
import { isWellFormed } from './text.js';

const text8 = 1;
const text16 = 2;
const bytesOnly = 3;
const number = 4;
const no = 5;
const yes = 6;
const nothing = 7;
const bigInteger = 8;
const date = 9;
const structure = 10;

const none = new Uint8Array(0);
const doubles = Buffer.alloc(8);
/** A structure larger than this does not stay in memory for the next one. */
const keptBytes = 64 * 1024;
/** Where structures are put together; taken while one is, as a getter may store something itself. */
let writer: ByteWriter | undefined = new ByteWriter(1024);

function encodeDouble(prefix: number, value: number): EncodedValue {
  doubles.writeDoubleLE(Number.isNaN(value) ? Number.NaN : value); // NaN has many forms in bits
  return { prefix, data: doubles, owned: false };
}

function encodeNested(value: object): EncodedValue {
  const taken = writer ?? new ByteWriter(1024);
  writer = undefined;
  try {
    taken.length = 0;
    taken.writeByte(structure);
    encodeStructure(taken, value);
    const owned = taken.bytes.length > keptBytes;
    return { prefix: -1, data: taken.bytes.subarray(0, taken.length), owned };
  } finally {
    writer = taken.bytes.length > keptBytes ? new ByteWriter(1024) : taken;
  }
}

export const autoCodec: ValueCodec = {
  name: 'auto',
  textMark: text8,

  encode(value: unknown): EncodedValue {
    switch (typeof value) {
      case 'string':
        if (isWellFormed(value)) return { prefix: text8, data: value, owned: false };
        return { prefix: text16, data: Buffer.from(value, 'utf16le'), owned: true };
      case 'number':
        return encodeDouble(number, value);
      case 'boolean':
        return { prefix: value ? yes : no, data: none, owned: true };
      case 'bigint':
        return { prefix: bigInteger, data: encodeBigInt(value), owned: true };
      case 'object':
        if (value === null) return { prefix: nothing, data: none, owned: true };
        if (value instanceof Uint8Array) return { prefix: bytesOnly, data: value, owned: false };
        if (isPlainDate(value)) return encodeDouble(date, value.getTime());
        return encodeNested(value);
      default:
        throw newError('ERR_INVALID_ARG_TYPE', `No value that can be stored: ${typeof value}`);
    }
  },

  decode(bytes: Buffer, start: number, end: number, owned: boolean): unknown {
    const from = start + 1;
    switch (start < end ? bytes[start] : undefined) {
      case text8:
        return bytes.toString('utf8', from, end);
      case text16:
        return bytes.toString('utf16le', from, end);
      case bytesOnly:
        return viewOf(bytes, from, end, owned);
      case number:
        if (end - from !== 8) break;
        return bytes.readDoubleLE(from);
      case no:
        return false;
      case yes:
        return true;
      case nothing:
        return null;
      case bigInteger:
        if (end === from) break;
        return decodeBigInt(bytes, from, end);
      case date:
        if (end - from !== 8) break;
        return new Date(bytes.readDoubleLE(from));
      case structure:
        return decodeStructure(bytes, from, end, owned);
    }
    throw newError('ERR_CORRUPT', 'The stored bytes are no value of this encoding');
  },
};
