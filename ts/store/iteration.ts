import { addon } from '../addon.js';
import { checkInteger, checkOptions, checkSignal, wrongType } from '../arguments.js';
import type { ValueCodec } from '../codec/codec.js';
import { decodeValue } from '../codec/encoding.js';
import { isWellFormed } from '../codec/text.js';
import { callNative, newError } from '../errors.js';
import { runJob } from '../jobs.js';
import type { NativeScan, ScanStep, StoreHandle } from './native.js';
import type { Scheduler } from './scheduler.js';
import type { IterateOptions } from './store-options.js';

const defaultHighWaterMark = 2 ** 20;
const noLimit = 0xffff_ffff;
/** Numbers per entry in a step's table. */
const tableColumns = 6;

/** What an iteration needs of its store. */
export interface Source {
  readonly handle: StoreHandle;
  readonly codec: ValueCodec;
  readonly scheduler: Scheduler;
  /** Throws ERR_CLOSED. */
  checkOpen(): void;
}

/** What is handed out of each entry. */
export interface Shape {
  keys: boolean;
  values: boolean;
  keyEncoding: 'utf8' | 'buffer';
}

interface Settings {
  prefix: Buffer;
  limit: number;
  highWaterMark: number;
  signal: AbortSignal | undefined;
}

function toSettings(options: IterateOptions | undefined): Settings {
  checkOptions(options);
  const { prefix, limit, highWaterMark = defaultHighWaterMark, signal } = options ?? {};
  return {
    prefix: toPrefix(prefix),
    limit: limit === undefined ? noLimit : checkLimit(limit),
    highWaterMark: checkInteger('highWaterMark', highWaterMark, 1, 2 ** 32),
    signal: checkSignal(signal),
  };
}

function checkLimit(limit: number): number {
  if (limit === Number.POSITIVE_INFINITY) return noLimit;
  return Math.min(noLimit, checkInteger('limit', limit, 0, Number.MAX_SAFE_INTEGER));
}

function toPrefix(prefix: string | Uint8Array | undefined): Buffer {
  if (prefix === undefined) return Buffer.alloc(0);
  if (typeof prefix === 'string') {
    if (!isWellFormed(prefix)) throw newError('ERR_INVALID_ARG_VALUE', 'prefix must not have lone surrogates');
    return Buffer.from(prefix);
  }
  if (prefix instanceof Uint8Array) return Buffer.from(prefix);
  throw wrongType('prefix', 'a string or a Uint8Array');
}

/** Checks the option keyEncoding. */
export function toKeyEncoding(options: unknown): 'utf8' | 'buffer' {
  checkOptions(options);
  const { keyEncoding = 'utf8' } = (options ?? {}) as { keyEncoding?: unknown };
  if (keyEncoding === 'utf8' || keyEncoding === 'buffer') return keyEncoding;
  if (typeof keyEncoding !== 'string') throw wrongType('keyEncoding', 'a string');
  throw newError('ERR_INVALID_ARG_VALUE', "keyEncoding must be 'utf8' or 'buffer'");
}

function bytesAt(step: ScanStep, column: number): [slab: Buffer, start: number, end: number] {
  const { table, slabs } = step;
  const start = table[column + 1] as number;
  return [slabs[table[column] as number] as Buffer, start, start + (table[column + 2] as number)];
}

/** Entry `index` of a step in its shape. */
function entryAt(step: ScanStep, index: number, shape: Shape, codec: ValueCodec): unknown {
  const column = index * tableColumns;
  let key: string | Buffer | undefined;
  if (shape.keys) {
    const [slab, start, end] = bytesAt(step, column);
    key = shape.keyEncoding === 'utf8' ? slab.toString('utf8', start, end) : slab.subarray(start, end);
  }
  if (!shape.values) return key;
  const [slab, start, end] = bytesAt(step, column + 3);
  const value = decodeValue(codec, slab, start, end, true);
  return shape.keys ? [key, value] : value;
}

/**
 * Walks a store while everybody goes on reading and writing: a step's worth of entries is in memory, never more. Starts
 * at the first next(); sees all writes issued before that.
 */
export class Iteration<T> implements AsyncIterableIterator<T> {
  readonly #source: Source;
  readonly #shape: Shape;
  readonly #settings: Settings;
  #left: number;
  #scan: NativeScan | undefined;
  #step: ScanStep | undefined;
  #index = 0;
  #over = false;
  /** The next() that is under way, where it waits for a step: later ones queue behind it. */
  #under: Promise<unknown> | undefined;

  constructor(source: Source, shape: Shape, options: IterateOptions | undefined) {
    this.#source = source;
    this.#shape = shape;
    this.#settings = toSettings(options);
    this.#left = this.#settings.limit;
    source.checkOpen();
  }

  next(): Promise<IteratorResult<T>> {
    if (this.#under === undefined) {
      try {
        const result = this.#take();
        if (result !== undefined) return Promise.resolve(result);
      } catch (error) {
        return Promise.reject(error);
      }
    }
    const result = (this.#under ?? Promise.resolve()).then(() => this.#advance());
    const settled = result
      .catch(() => {})
      .then(() => {
        if (this.#under === settled) this.#under = undefined;
      });
    this.#under = settled;
    return result;
  }

  /** Lets go of everything. */
  return(): Promise<IteratorResult<T>> {
    this.#end();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end();
  }

  #end(): void {
    this.#over = true;
    this.#scan = undefined;
    this.#step = undefined;
  }

  /** What can be answered now: an entry, or the end. */
  #take(): IteratorResult<T> | undefined {
    if (this.#over) return { done: true, value: undefined };
    const { signal } = this.#settings;
    try {
      if (signal?.aborted) throw signal.reason;
      this.#source.checkOpen();
    } catch (error) {
      this.#end();
      throw error;
    }
    if (this.#left === 0) {
      this.#end();
      return { done: true, value: undefined };
    }
    const step = this.#step;
    if (step === undefined) return undefined;
    if (this.#index < step.count) {
      const index = this.#index++;
      if (this.#left !== noLimit) this.#left--;
      return { done: false, value: entryAt(step, index, this.#shape, this.#source.codec) as T };
    }
    if (!step.done) return undefined;
    this.#end();
    return { done: true, value: undefined };
  }

  async #advance(): Promise<IteratorResult<T>> {
    for (;;) {
      const result = this.#take();
      if (result !== undefined) return result;
      try {
        const step = await this.#readStep();
        // return() may have been called meanwhile: then nothing is kept.
        if (!this.#over) this.#step = step;
        this.#index = 0;
      } catch (error) {
        this.#end();
        throw error;
      }
    }
  }

  async #readStep(): Promise<ScanStep> {
    const { handle, scheduler } = this.#source;
    const { prefix, highWaterMark, signal } = this.#settings;
    this.#step = undefined;
    if (this.#scan === undefined) {
      if (!scheduler.isIdle) await unlessAborted(scheduler.idle(), signal);
      this.#source.checkOpen();
      this.#scan = addon.storeScan(handle, prefix, this.#shape.values);
    }
    const scan = this.#scan;
    return runJob(() => addon.storeScanStep(scan, highWaterMark, this.#left), signal);
  }
}

/** Rejects with the signal's reason when it aborts first. */
function unlessAborted(promise: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason);
    if (signal.aborted) return onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    void promise.then(() => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    });
  });
}

/** The same on the calling thread. May block. */
export function* iterateSync<T>(source: Source, shape: Shape): IterableIterator<T> {
  source.checkOpen();
  source.scheduler.settleAll();
  const scan = addon.storeScan(source.handle, Buffer.alloc(0), shape.values);
  for (;;) {
    source.checkOpen();
    const step = callNative(() => addon.storeScanStepSync(scan, defaultHighWaterMark, noLimit));
    for (let index = 0; index < step.count; index++) {
      source.checkOpen();
      yield entryAt(step, index, shape, source.codec) as T;
    }
    if (step.done) return;
  }
}
