import { addon } from '../addon.js';
import type { EncodedValue } from '../codec/codec.js';
import { newError } from '../errors.js';
import { startTime } from './diagnostics.js';
import type { Freshness } from './hot-cache.js';
import { type Key, writeKey } from './key.js';
import type { NativeRequest, StoreHandle } from './native.js';
import { Answer, Kind, Operation } from './operation.js';
import type { Steps } from './steps.js';

/** Layout of a header, in 32-bit words: csrc/binding/store_request.h. */
const headerWords = 12;
const sizeWord = 1;
const answerWord = 2;
/** Until there is an answer: where the key is in `bytes`. */
const slabWord = 3;
const offsetWord = 4;
const answerSizeWord = 5;
const freshnessWord = 6;
const expectedSizeWord = 6;
/** In 64-bit words. */
const headerDoubles = headerWords / 2;
const ttlDouble = 2;
const numberDouble = 3;
const expiryDouble = 5;
const flagOrdered = 1;
const flagLarge = 2;
const flagTtl = 4;
const flagKeepTtl = 8;
const flagExpects = 16;
const flagLargeExpected = 32;
const flagDelete = 64;

/** How long what is written lives. */
export interface Lifetime {
  /** Milliseconds; 0: without end. */
  readonly ttl: number;
  /** Where the key is there, its own end counts instead. */
  readonly keep: boolean;
}

/** What a compareAndSet or an increment needs besides. */
export interface Condition extends Lifetime {
  /** Of a compareAndSet: the encoded value; undefined: the key is to be absent. */
  readonly expected?: Uint8Array | undefined;
  /** Of an increment. */
  readonly by?: number;
}

/** From here on a value is not copied into the buffer but keeps memory of its own. */
const largeBytes = 16 * 1024;
const maxValueBytes = 0xffff_ffff;

/**
 * A request takes no more operations, or no more bytes of values, than makes it worth another one on another thread.
 */
const maxOperations = 512;
const maxBytes = 512 * 1024;

/** Where a request is put together, and answered. Used again by the next ones: to make it anew costs more than to fill. */
class Space {
  headers = new Int32Array(0);
  /** The same memory. */
  doubles = new Float64Array(0);
  bytes: Buffer = Buffer.allocUnsafeSlow(firstBytes);

  constructor() {
    this.growHeaders(firstHeaders);
  }

  growHeaders(count: number): void {
    const memory = new ArrayBuffer(count * headerWords * 4);
    const headers = new Int32Array(memory);
    headers.set(this.headers);
    this.headers = headers;
    this.doubles = new Float64Array(memory);
  }

  growBytes(needed: number, used: number): void {
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, 2 * this.bytes.length));
    this.bytes.copy(larger, 0, 0, used);
    this.bytes = larger;
  }
}

const firstHeaders = 16;
const firstBytes = 1024;
const spareSpaces: Space[] = [];
const maxSpareSpaces = 8;
const maxSpareBytes = 256 * 1024;

/** Small values come here, if nothing that is handed out keeps a view of them. */
const answersBytes = 256 * 1024;
const spareAnswers: Buffer[] = [];
const maxSpareAnswers = 4;

/** Operations that travel together. Takes more of them as long as it is open. */
export class Request {
  readonly operations: Operation[] = [];
  /** Of its first call, where somebody wants to know how long it takes; else 0. */
  readonly startTime: number = startTime();
  /** Of a getMany or a batch: one for each key. */
  claims: Operation[] | undefined;
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
  /** Of an update: it goes this way instead. */
  steps: Steps | undefined;

  #space: Space = spareSpaces.pop() ?? new Space();
  #used = 0;
  #answers: Buffer | undefined;
  /** Some operation answers a value. */
  #hasReads = false;
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
    name: string | undefined,
    hash: number,
    value: EncodedValue | undefined,
    ordered: boolean,
    resolve: (value: any) => void,
    reject: (reason: unknown) => void,
    system: boolean,
    condition?: Condition | Lifetime,
  ): Operation {
    const index = this.operations.length;
    const start = this.#used;
    let end = start;
    if (key !== undefined) {
      this.#reserve(start + (typeof key === 'string' ? 3 * key.length : key.length), start);
      end += writeKey(key, this.#space.bytes, start);
    }
    const keyBytes = end - start;
    let flags = ordered ? flagOrdered : 0;
    let expectedBytes = 0;
    if (kind === Kind.compareAndSet) {
      const { expected } = condition as Condition;
      if (expected !== undefined) flags |= flagExpects;
      if (expected !== undefined && expected.length >= largeBytes) {
        flags |= flagLargeExpected;
        expectedBytes = this.#addLarge(expected);
      } else if (expected !== undefined) {
        expectedBytes = expected.length;
        this.#reserve(end + expectedBytes, end);
        this.#space.bytes.set(expected, end);
        end += expectedBytes;
      }
      if (value === undefined) flags |= flagDelete;
    }
    let valueBytes = 0;
    if (value !== undefined) {
      const large = toLarge(value);
      if (large === undefined) {
        valueBytes = this.#writeValue(value, end);
        end += valueBytes;
      } else {
        flags |= flagLarge;
        valueBytes = this.#addLarge(large);
      }
    }
    this.#used = end;
    const space = this.#space;
    const at = index * headerWords;
    if (at >= space.headers.length) space.growHeaders(2 * index);
    const { headers } = space;
    if (condition !== undefined) {
      const { ttl, keep } = condition;
      if (ttl > 0) flags |= flagTtl;
      if (keep) flags |= flagKeepTtl;
      space.doubles[index * headerDoubles + ttlDouble] = ttl;
      if (kind === Kind.increment) {
        space.doubles[index * headerDoubles + numberDouble] = (condition as Condition).by as number;
      } else {
        headers[at + expectedSizeWord] = expectedBytes;
      }
    }
    headers[at] = kind | (flags << 8) | (keyBytes << 16);
    headers[at + sizeWord] = valueBytes;
    headers[at + answerWord] = Answer.notYet;
    headers[at + slabWord] = start;
    if (kind === Kind.get || kind === Kind.entry || kind === Kind.getMany) this.#hasReads = true;
    const operation = new Operation(kind, this, index, name, hash, resolve, reject, system);
    this.operations.push(operation);
    this.unfinished++;
    return operation;
  }

  /** Appends a getMany: `keys` is the list that csrc/binding/store_request.h describes. */
  appendMany(keys: Buffer, resolve: (value: any) => void, reject: (reason: unknown) => void): Operation {
    const list = { prefix: -1, data: keys, owned: true };
    return this.append(Kind.getMany, undefined, undefined, 0, list, false, resolve, reject, false);
  }

  /** Appends a batch: `entries` is the list that csrc/binding/store_batch.h describes. */
  appendBatch(
    entries: Buffer,
    resolve: (value: any) => void,
    reject: (reason: unknown) => void,
    system: boolean,
  ): Operation {
    const list = { prefix: -1, data: entries, owned: true };
    return this.append(Kind.batch, undefined, undefined, 0, list, false, resolve, reject, system);
  }

  /** Leaves an operation out; only before the native part has it. */
  skip(operation: Operation): void {
    const { headers } = this.#space;
    const at = operation.index * headerWords;
    headers[at] = ((headers[at] as number) & ~0xff) | Kind.skip;
  }

  /**
   * The native part's view of it, made at the first call; nothing more can be appended then. With `shareAnswers`
   * nothing that is made of the answers keeps a view of them.
   */
  toNative(handle: StoreHandle, shareAnswers: boolean): NativeRequest {
    this.open = false;
    if (this.native !== undefined) return this.native;
    const space = this.#space;
    if (shareAnswers && this.#hasReads) this.#answers = spareAnswers.pop() ?? Buffer.allocUnsafeSlow(answersBytes);
    const count = this.operations.length;
    this.native = addon.storeRequest(
      handle,
      space.headers,
      space.bytes,
      this.#used,
      count,
      this.#answers,
      this.#largeValues,
    );
    return this.native;
  }

  /** What came of an operation: an Answer, and where its value is. */
  answerOf({ index }: Operation): number {
    return this.#space.headers[index * headerWords + answerWord] as number;
  }

  /** Number of the slab; where there is none of that number, it is {@link answers}. */
  slabOf({ index }: Operation): number {
    return this.#space.headers[index * headerWords + slabWord] as number;
  }

  offsetOf({ index }: Operation): number {
    return (this.#space.headers[index * headerWords + offsetWord] as number) >>> 0;
  }

  sizeOf({ index }: Operation): number {
    return (this.#space.headers[index * headerWords + answerSizeWord] as number) >>> 0;
  }

  /** Values that came without a slab of their own. They change with the next request: nothing may keep a view of it. */
  get answers(): Buffer {
    return this.#answers as Buffer;
  }

  /** Of an increment the sum; of an entry and of its ttl the milliseconds left, 0: without end. */
  numberOf({ index }: Operation): number {
    return this.#space.doubles[index * headerDoubles + numberDouble] as number;
  }

  /** Of a get. */
  freshnessOf({ index }: Operation): Freshness {
    const { headers, doubles } = this.#space;
    const at = index * headerWords + freshnessWord;
    return {
      slot: (headers[at] as number) >>> 0,
      version: (headers[at + 1] as number) >>> 0,
      tag: (headers[at + 2] as number) >>> 0,
      expiresAtMs: doubles[index * headerDoubles + expiryDouble] as number,
    };
  }

  /** The encoded value of a set that is under way: [bytes, start, end), not to be kept. */
  valueOf({ index }: Operation): [Buffer, number, number] {
    const { headers, bytes } = this.#space;
    const at = index * headerWords;
    const word = headers[at] as number;
    const size = headers[at + sizeWord] as number;
    if (((word >>> 8) & flagLarge) === 0) {
      const start = (headers[at + slabWord] as number) + (word >>> 16);
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

  /** All promises are settled and the native part is done with the memory. Not to be used any more. */
  recycle(): void {
    if (this.#space === noSpace) return;
    this.operations.length = 0;
    this.#largeValues = undefined;
    const { bytes } = this.#space;
    if (spareSpaces.length < maxSpareSpaces && bytes.length <= maxSpareBytes) spareSpaces.push(this.#space);
    this.#space = noSpace;
    if (this.#answers !== undefined && spareAnswers.length < maxSpareAnswers) spareAnswers.push(this.#answers);
    this.#answers = undefined;
  }

  /** Answers the index. */
  #addLarge(value: Uint8Array): number {
    this.#largeValues ??= [];
    this.#largeSize += value.length;
    return this.#largeValues.push(value) - 1;
  }

  /** Makes room for bytes up to `end`; what there is up to `used` stays. */
  #reserve(end: number, used: number): void {
    if (end > this.#space.bytes.length) this.#space.growBytes(end, used);
  }

  #writeValue({ prefix, data }: EncodedValue, start: number): number {
    this.#reserve(start + 1 + (typeof data === 'string' ? 3 * data.length : data.length), start);
    const { bytes } = this.#space;
    let at = start;
    if (prefix >= 0) bytes[at++] = prefix;
    if (typeof data === 'string') return at + bytes.write(data, at, 'utf8') - start;
    bytes.set(data, at);
    return at + data.length - start;
  }
}

const noSpace = new Space();

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

/** An encoded value as bytes that nobody else has. */
export function toBytes(value: EncodedValue): Uint8Array {
  const { prefix, data, owned } = value;
  const large = toLarge(value);
  if (large !== undefined) return large;
  if (owned && prefix < 0 && typeof data !== 'string') return data;
  const head = prefix >= 0 ? 1 : 0;
  const bytes = Buffer.allocUnsafeSlow(head + (typeof data === 'string' ? Buffer.byteLength(data) : data.length));
  if (head === 1) bytes[0] = prefix;
  if (typeof data === 'string') bytes.write(data, head, 'utf8');
  else bytes.set(data, head);
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
