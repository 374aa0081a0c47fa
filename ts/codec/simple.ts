// The encodings that are one call each: 'utf8', 'buffer', 'number', 'json', 'msgpack'.
import { Packr } from 'msgpackr';
import { newError } from '../errors.js';
import { type EncodedValue, type ValueCodec, viewOf } from './codec.js';
import { isWellFormed } from './text.js';

function encodeText(text: string): EncodedValue {
  if (!isWellFormed(text)) throw newError('ERR_INVALID_ARG_VALUE', 'A string with lone surrogates has no UTF-8 form');
  return { prefix: -1, data: text, owned: false };
}

export const utf8Codec: ValueCodec = {
  name: 'utf8',
  textMark: -1,
  encode(value: unknown): EncodedValue {
    if (typeof value !== 'string') throw newError('ERR_INVALID_ARG_TYPE', 'value must be a string');
    return encodeText(value);
  },
  decode: (bytes, start, end) => bytes.toString('utf8', start, end),
};

export const bufferCodec: ValueCodec = {
  name: 'buffer',
  keepsBytes: true,
  encode(value: unknown): EncodedValue {
    if (typeof value === 'string') return encodeText(value);
    if (value instanceof Uint8Array) return { prefix: -1, data: value, owned: false };
    throw newError('ERR_INVALID_ARG_TYPE', 'value must be a Uint8Array or a string');
  },
  decode: viewOf,
};

const float64 = Buffer.alloc(8);

/** A float 64, little-endian. One number has one form: equality of numbers is equality of bytes, but that −0 is not 0. */
export const numberCodec: ValueCodec = {
  name: 'number',
  encode(value: unknown): EncodedValue {
    if (typeof value !== 'number') throw newError('ERR_INVALID_ARG_TYPE', 'value must be a number');
    float64.writeDoubleLE(Number.isNaN(value) ? Number.NaN : value); // NaN has many forms in bits
    return { prefix: -1, data: float64, owned: false };
  },
  decode(bytes, start, end) {
    if (end - start !== 8) throw newError('ERR_CORRUPT', 'The stored bytes are no number');
    return bytes.readDoubleLE(start);
  },
};

export const jsonCodec: ValueCodec = {
  name: 'json',
  encode(value: unknown): EncodedValue {
    let text: string | undefined;
    try {
      text = JSON.stringify(value);
    } catch (cause) {
      if (cause instanceof TypeError && /bigint/i.test(cause.message)) {
        throw newError('ERR_INVALID_ARG_TYPE', 'JSON has no form for a bigint', { cause });
      }
      throw newError('ERR_INVALID_ARG_VALUE', 'The value has no JSON form', { cause });
    }
    // undefined, a function or a symbol.
    if (text === undefined) throw newError('ERR_INVALID_ARG_TYPE', `JSON has no form for ${typeof value}`);
    return { prefix: -1, data: text, owned: false };
  },
  decode: (bytes, start, end) => JSON.parse(bytes.toString('utf8', start, end)),
};

// No records: their structures would have to be shared between processes. No reuse of one buffer for what it answers.
const packr = new Packr({ useRecords: false, variableMapSize: true, int64AsType: 'auto' } as object);

export const msgpackCodec: ValueCodec = {
  name: 'msgpack',
  keepsBytes: true,
  encode(value: unknown): EncodedValue {
    if (value === undefined || typeof value === 'function' || typeof value === 'symbol') {
      throw newError('ERR_INVALID_ARG_TYPE', `MessagePack has no form for ${typeof value}`);
    }
    try {
      return { prefix: -1, data: packr.pack(value), owned: false };
    } catch (cause) {
      throw newError('ERR_INVALID_ARG_VALUE', 'The value has no MessagePack form', { cause });
    }
  },
  decode: (bytes, start, end, owned) => packr.unpack(viewOf(bytes, start, end, owned)),
};
