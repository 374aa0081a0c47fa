import { addon } from '../addon.js';
import type { EncodedValue } from '../codec/codec.js';
import { newError } from '../errors.js';
import { type Key, writeKey } from './key.js';
import type { NativeRequest, StoreHandle } from './native.js';
import { Kind, Operation } from './operation.js';

/** Layout of the buffer: csrc/binding/store_request.h. */
const headerBytes = 24;
const answerOffset = 8;
const flagOrdered = 1;
const flagLarge = 2;

/** From here on a value is not copied into the buffer but keeps memory of its own. */
const largeBytes = 16 * 1024;
const maxValueBytes = 0xffff_ffff;

/**
 * A request takes no more operations, or no more bytes of values, than makes it worth another one on another thread.
 */
const maxOperations = 512;
const maxBytes = 512 * 1024;

const firstCapacity = 2 * 1024;
/** Buffers of requests that are over, for the next ones. */
const spareBuffers: Buffer[] = [];
const maxSpareBuffers = 8;
const maxSpareBytes = 256 * 1024;

/** Operations that travel together. Takes more of them as long as it is open. */
export class Request {
  readonly operations: Operation[] = [];
  /** In another request, and still to come before this one starts. */
  readonly predecessors: (Operation | Request)[] = [];
  /** How many of them are not over. */
  waiting = 0;
  /** Requests that start only after all of this. */
  dependents: Request[] | undefined;
  open = true;
  /** It is in the queue for a thread, or has one. */
  dispatched = false;
  /** Operations that are not over. */
  unfinished = 0;
  over = false;
  native: NativeRequest | undefined;

  #bytes: Buffer = spareBuffers.pop() ?? Buffer.allocUnsafeSlow(firstCapacity);
  #used = 0;
  #largeValues: Uint8Array[] | undefined;
  #largeSize = 0;
  #whenOver: Promise<void> | undefined;
  #resolveOver: (() => void) | undefined;

  get full(): boolean {
    return this.operations.length >= maxOperations || this.#used + this.#largeSize >= maxBytes;
  }

  /** Appends an operation whose key was checked. Throws where key or value are too long; nothing has changed then. */
  append(
    kind: Kind,
    key: Key | undefined,
    value: EncodedValue | undefined,
    ordered: boolean,
    resolve: (value: any) => void,
    reject: (reason: unknown) => void,
    system = false,
  ): Operation {
    const position = this.#used;
    const keyRoom = key === undefined ? 0 : typeof key === 'string' ? 3 * key.length : key.length;
    this.#reserve(headerBytes + keyRoom);
    const keyBytes = key === undefined ? 0 : writeKey(key, this.#bytes, position + headerBytes);
    const end = position + headerBytes + keyBytes;
    let flags = ordered ? flagOrdered : 0;
    let valueBytes = 0;
    if (value !== undefined) {
      const large = toLarge(value);
      if (large === undefined) {
        valueBytes = this.#writeValue(value, end);
        this.#used = end + valueBytes;
      } else {
        this.#largeValues ??= [];
        flags |= flagLarge;
        valueBytes = this.#largeValues.push(large) - 1;
        this.#largeSize += large.length;
        this.#used = end;
      }
    } else {
      this.#used = end;
    }
    const bytes = this.#bytes;
    bytes[position] = kind;
    bytes[position + 1] = flags;
    bytes.writeUInt16LE(keyBytes, position + 2);
    bytes.writeUInt32LE(valueBytes, position + 4);
    bytes.writeUInt32LE(0, position + answerOffset);
    const operation = new Operation(kind, this, this.operations.length, position, resolve, reject, system);
    this.operations.push(operation);
    this.unfinished++;
    return operation;
  }

  /** Appends a getMany: `keys` is the list that csrc/binding/store_request.h describes. */
  appendMany(keys: Buffer, resolve: (value: any) => void, reject: (reason: unknown) => void): Operation {
    return this.append(Kind.getMany, undefined, { prefix: -1, data: keys, owned: true }, false, resolve, reject);
  }

  /** Leaves an operation out; only before the native part has it. */
  skip(operation: Operation): void {
    this.#bytes[operation.position] = Kind.skip;
  }

  /** The native part's view of it, made at the first call; nothing more can be appended then. */
  toNative(handle: StoreHandle): NativeRequest {
    this.open = false;
    this.native ??= addon.storeRequest(
      handle,
      this.#bytes.subarray(0, this.#used),
      this.operations.length,
      this.#largeValues,
    );
    return this.native;
  }

  /** What came of an operation: an Answer, and where its value is. */
  answerOf(operation: Operation): number {
    return this.#bytes.readUInt32LE(operation.position + answerOffset);
  }

  slabOf(operation: Operation): number {
    return this.#bytes.readUInt32LE(operation.position + answerOffset + 4);
  }

  offsetOf(operation: Operation): number {
    return this.#bytes.readUInt32LE(operation.position + answerOffset + 8);
  }

  sizeOf(operation: Operation): number {
    return this.#bytes.readUInt32LE(operation.position + answerOffset + 12);
  }

  /** The encoded value of a set that is under way: [bytes, start, end), not to be kept. */
  valueOf(operation: Operation): [Buffer, number, number] {
    const { position } = operation;
    const bytes = this.#bytes;
    const size = bytes.readUInt32LE(position + 4);
    if (((bytes[position + 1] as number) & flagLarge) === 0) {
      const start = position + headerBytes + bytes.readUInt16LE(position + 2);
      return [bytes, start, start + size];
    }
    const large = (this.#largeValues as Uint8Array[])[size] as Uint8Array;
    return [Buffer.from(large.buffer, large.byteOffset, large.byteLength), 0, large.length];
  }

  /** Resolves when all of its operations are over. */
  whenOver(): Promise<void> {
    if (this.over) return Promise.resolve();
    this.#whenOver ??= new Promise((resolve) => {
      this.#resolveOver = resolve;
    });
    return this.#whenOver;
  }

  /** All operations are over: those who wait for that are told. */
  finish(): void {
    this.over = true;
    this.open = false;
    this.predecessors.length = 0;
    this.#resolveOver?.();
  }

  /** All promises are settled and the native part is done with the memory. */
  recycle(): void {
    this.operations.length = 0;
    this.#largeValues = undefined;
    if (spareBuffers.length < maxSpareBuffers && this.#bytes.length <= maxSpareBytes) spareBuffers.push(this.#bytes);
    this.#bytes = none;
  }

  #reserve(size: number): void {
    const needed = this.#used + size;
    if (needed <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, 2 * this.#bytes.length));
    this.#bytes.copy(larger, 0, 0, this.#used);
    this.#bytes = larger;
  }

  #writeValue(value: EncodedValue, start: number): number {
    const { prefix, data } = value;
    const room = 1 + (typeof data === 'string' ? 3 * data.length : data.length);
    // The key is behind #used still: it must move along.
    const kept = this.#used;
    this.#used = start;
    this.#reserve(room);
    this.#used = kept;
    let at = start;
    if (prefix >= 0) this.#bytes[at++] = prefix;
    if (typeof data === 'string') {
      at += this.#bytes.write(data, at, 'utf8');
    } else {
      this.#bytes.set(data, at);
      at += data.length;
    }
    return at - start;
  }
}

const none = Buffer.alloc(0);

/** A value as memory of its own, where it is large; with one copy at most. */
function toLarge({ prefix, data, owned }: EncodedValue): Uint8Array | undefined {
  if (data.length < largeBytes) return undefined;
  const extra = prefix >= 0 ? 1 : 0;
  const size = (typeof data === 'string' ? Buffer.byteLength(data) : data.length) + extra;
  if (size > maxValueBytes) throw newError('ERR_VALUE_TOO_LARGE', `A value has at most ${maxValueBytes} bytes`);
  if (owned && extra === 0 && typeof data !== 'string') return data;
  const bytes = Buffer.allocUnsafeSlow(size);
  if (extra === 1) bytes[0] = prefix;
  if (typeof data === 'string') bytes.write(data, extra, 'utf8');
  else bytes.set(data, extra);
  return bytes;
}

/**
 * An encoded value as bytes: in `scratch` from `start` on where it fits (answers its size), or in memory of its own.
 */
export function toScratch(value: EncodedValue, scratch: Buffer, start: number): number | Uint8Array {
  const large = toLarge(value);
  if (large !== undefined) return large;
  const { prefix, data } = value;
  let at = start;
  if (prefix >= 0) scratch[at++] = prefix;
  if (typeof data === 'string') return at + scratch.write(data, at, 'utf8') - start;
  scratch.set(data, at);
  return at + data.length - start;
}
