import { wrongType } from '../arguments.js';
import { FaultlessError, newError } from '../errors.js';
import { autoCodec } from './auto.js';
import { type Codec, type EncodedValue, type ValueCodec, viewOf } from './codec.js';
import { bufferCodec, jsonCodec, msgpackCodec, numberCodec, utf8Codec } from './simple.js';
import { isWellFormed } from './text.js';

/** The encodings that have a name. */
export type EncodingName = 'auto' | 'utf8' | 'buffer' | 'number' | 'json' | 'msgpack';

const builtIn = new Map<string, ValueCodec>(
  [autoCodec, utf8Codec, bufferCodec, numberCodec, jsonCodec, msgpackCodec].map((codec) => [codec.name, codec]),
);

/** Bytes of a codec's name in the file. */
const maxNameBytes = 63;

/** The codec of an `encoding` option. */
export function toCodec(encoding: unknown): ValueCodec {
  if (encoding === undefined) return autoCodec;
  if (typeof encoding === 'string') {
    const codec = builtIn.get(encoding);
    if (codec !== undefined) return codec;
    throw newError('ERR_INVALID_ARG_VALUE', `encoding must be one of ${[...builtIn.keys()].join(', ')}, or a codec`);
  }
  if (typeof encoding !== 'object' || encoding === null) throw wrongType('encoding', 'a name or a codec');
  const { name, encode, decode } = encoding as Partial<Codec<unknown>>;
  if (typeof name !== 'string') throw wrongType('encoding.name', 'a string');
  if (typeof encode !== 'function') throw wrongType('encoding.encode', 'a function');
  if (typeof decode !== 'function') throw wrongType('encoding.decode', 'a function');
  const nameBytes = Buffer.byteLength(name);
  if (nameBytes < 1 || nameBytes > maxNameBytes || builtIn.has(name) || name.includes('\0')) {
    const rule = `1 to ${maxNameBytes} bytes, without NUL, and none of the built-in ones`;
    throw newError('ERR_INVALID_ARG_VALUE', `The name of a codec has ${rule}`);
  }
  return wrap(encoding as Codec<unknown>, name);
}

function wrap(codec: Codec<unknown>, name: string): ValueCodec {
  return {
    name,
    custom: true,
    keepsBytes: true,
    encode(value: unknown): EncodedValue {
      const data: unknown = codec.encode(value);
      if (typeof data !== 'string' && !(data instanceof Uint8Array)) {
        throw newError('ERR_INVALID_ARG_TYPE', `The codec ${name} must encode to a Uint8Array or a string`);
      }
      if (typeof data === 'string' && !isWellFormed(data)) {
        throw newError('ERR_INVALID_ARG_VALUE', `The codec ${name} encoded to a string with lone surrogates`);
      }
      return { prefix: -1, data, owned: false };
    },
    decode: (bytes, start, end, owned) => codec.decode(viewOf(bytes, start, end, owned)),
  };
}

/**
 * Encodes; whatever is thrown that is no FaultlessError (by a codec, by a getter of the value) becomes
 * ERR_INVALID_ARG_VALUE.
 */
export function encodeValue(codec: ValueCodec, value: unknown): EncodedValue {
  try {
    return codec.encode(value);
  } catch (cause) {
    if (cause instanceof FaultlessError) throw cause;
    throw newError('ERR_INVALID_ARG_VALUE', `The encoding ${codec.name} could not encode the value`, { cause });
  }
}

/** Decodes; whatever is thrown becomes ERR_CORRUPT. */
export function decodeValue(codec: ValueCodec, bytes: Buffer, start: number, end: number, owned: boolean): unknown {
  try {
    return codec.decode(bytes, start, end, owned);
  } catch (cause) {
    if (cause instanceof FaultlessError) throw cause;
    throw newError('ERR_CORRUPT', `The stored bytes are no value of the encoding ${codec.name}`, { cause });
  }
}
