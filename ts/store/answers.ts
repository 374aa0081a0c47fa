import type { ValueCodec } from '../codec/codec.js';
import { decodeValue } from '../codec/encoding.js';
import { Answer, Kind, type Operation } from './operation.js';

/** Bytes of an entry in the answer of a getMany: csrc/binding/store_request.h. */
const manyEntryBytes = 16;

/** Settles an operation that did not fail. Where its value cannot be decoded, that call alone rejects. */
export function settle(codec: ValueCodec, operation: Operation, answer: number, slabs: readonly Buffer[]): void {
  const { kind, resolve, reject } = operation;
  let value: unknown;
  try {
    switch (kind) {
      case Kind.get:
        value = answer === Answer.ok ? decodeOne(codec, operation, slabs) : undefined;
        break;
      case Kind.getMany:
        value = decodeMany(codec, operation, slabs);
        break;
      case Kind.has:
      case Kind.delete:
        value = answer === Answer.ok;
        break;
    }
  } catch (error) {
    reject?.(error);
    return;
  }
  resolve?.(value);
}

function decodeOne(codec: ValueCodec, operation: Operation, slabs: readonly Buffer[]): unknown {
  const { request } = operation;
  const start = request.offsetOf(operation);
  const slab = slabs[request.slabOf(operation)] as Buffer;
  return decodeValue(codec, slab, start, start + request.sizeOf(operation), true);
}

function decodeMany(codec: ValueCodec, operation: Operation, slabs: readonly Buffer[]): unknown[] {
  const { request } = operation;
  const list = slabs[request.slabOf(operation)] as Buffer;
  const values: unknown[] = [];
  const begin = request.offsetOf(operation);
  const end = begin + request.sizeOf(operation);
  for (let at = begin; at < end; at += manyEntryBytes) {
    if (list.readUInt32LE(at) !== Answer.ok) {
      values.push(undefined);
      continue;
    }
    const slab = slabs[list.readUInt32LE(at + 4)] as Buffer;
    const start = list.readUInt32LE(at + 8);
    values.push(decodeValue(codec, slab, start, start + list.readUInt32LE(at + 12), true));
  }
  return values;
}
