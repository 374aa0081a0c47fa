import type { ValueCodec } from '../codec/codec.js';
import { decodeValue } from '../codec/encoding.js';
import type { HotCache } from './hot-cache.js';
import { Answer, Kind, type Operation } from './operation.js';

/** Of an entry in the answer of a getMany: csrc/binding/store_request.h. */
const manyEntryWords = 4;
const none = Buffer.alloc(0);

/**
 * Settles an operation that did not fail. Where its value cannot be decoded, that call alone rejects. What a get
 * answered is offered to `hot`.
 */
export function settle(
  codec: ValueCodec,
  hot: HotCache | undefined,
  operation: Operation,
  answer: number,
  slabs: readonly (Buffer | undefined)[],
): void {
  const { kind, resolve, reject } = operation;
  let value: unknown;
  try {
    switch (kind) {
      case Kind.get:
        value = answerGet(codec, hot, operation, answer, slabs);
        break;
      case Kind.getMany:
        value = decodeMany(codec, operation, slabs);
        break;
      case Kind.entry:
        value = answer === Answer.ok ? answerEntry(codec, operation, slabs) : undefined;
        break;
      case Kind.ttl:
        value = answer === Answer.ok ? leftOf(operation) : undefined;
        break;
      case Kind.increment:
        value = operation.request.numberOf(operation);
        break;
      case Kind.has:
      case Kind.delete:
      case Kind.compareAndSet:
      case Kind.touch:
      case Kind.batch:
        value = answer === Answer.ok;
        break;
    }
  } catch (error) {
    reject?.(error);
    return;
  }
  resolve?.(value);
}

function answerGet(
  codec: ValueCodec,
  hot: HotCache | undefined,
  operation: Operation,
  answer: number,
  slabs: readonly (Buffer | undefined)[],
): unknown {
  const { name, request } = operation;
  if (answer !== Answer.ok) {
    if (name !== undefined) hot?.offer(name, undefined, none, 0, 0, request.freshnessOf(operation));
    return undefined;
  }
  const start = request.offsetOf(operation);
  const end = start + request.sizeOf(operation);
  const slab = slabs[request.slabOf(operation)];
  const bytes = slab ?? request.answers;
  // A codec of somebody's own may change what it is given.
  const owned = slab !== undefined && (hot === undefined || codec.custom !== true);
  const value = decodeValue(codec, bytes, start, end, owned);
  if (name !== undefined) hot?.offer(name, value, bytes, start, end, request.freshnessOf(operation));
  return value;
}

/** Milliseconds left to live. */
function leftOf(operation: Operation): number {
  return operation.request.numberOf(operation) || Number.POSITIVE_INFINITY;
}

function answerEntry(codec: ValueCodec, operation: Operation, slabs: readonly (Buffer | undefined)[]): unknown {
  const { request } = operation;
  const start = request.offsetOf(operation);
  const bytes = request.sizeOf(operation);
  const slab = slabs[request.slabOf(operation)];
  const value = decodeValue(codec, slab ?? request.answers, start, start + bytes, slab !== undefined);
  return { value, ttl: leftOf(operation), bytes };
}

function decodeMany(codec: ValueCodec, operation: Operation, slabs: readonly (Buffer | undefined)[]): unknown[] {
  const { request } = operation;
  const { buffer, byteOffset } = slabs[request.slabOf(operation)] ?? request.answers;
  const begin = byteOffset + request.offsetOf(operation);
  // A copy lies on a word's boundary.
  const words = new Uint32Array(buffer.slice(begin, begin + request.sizeOf(operation)));
  const values: unknown[] = [];
  for (let at = 0; at < words.length; at += manyEntryWords) {
    if (words[at] !== Answer.ok) {
      values.push(undefined);
      continue;
    }
    const slab = slabs[words[at + 1] as number];
    const start = words[at + 2] as number;
    const end = start + (words[at + 3] as number);
    values.push(decodeValue(codec, slab ?? request.answers, start, end, slab !== undefined));
  }
  return values;
}
