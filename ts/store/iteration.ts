import { addon } from '../addon.js';
import { checkInteger, checkOptions, checkSignal, wrongType } from '../arguments.js';
import type { ValueCodec } from '../codec/codec.js';
import { isWellFormed } from '../codec/text.js';
import { callNative, newError } from '../errors.js';
import { runJob } from '../jobs.js';
import type { NativeScan, ScanStep, StoreHandle } from './native.js';
import type { Scheduler } from './scheduler.js';
import { type Shape, StepEntries } from './step-entries.js';
import type { IterateOptions } from './store-options.js';

const defaultHighWaterMark = 2 ** 20;
const noLimit = 0xffff_ffff;

/** What an iteration needs of its store. */
export interface Source {
  readonly handle: StoreHandle;
  readonly codec: ValueCodec;
  readonly scheduler: Scheduler;
  /** Throws ERR_CLOSED. */
  checkOpen(): void;
  isClosed(): boolean;
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

/** Checks the option prefix. */
export function toPrefix(prefix: string | Uint8Array | undefined): Buffer {
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

/**
 * Walks a store while everybody goes on reading and writing. The step whose entries are being handed out and the one
 * after it, which is read meanwhile, are in memory, never more. Starts at the first next(); sees all writes issued
 * before that.
 */
export class Iteration<T> implements AsyncIterableIterator<T> {
  readonly #source: Source;
  readonly #shape: Shape;
  readonly #settings: Settings;
  #left: number;
  #scan: NativeScan | undefined;
  #entries: StepEntries | undefined;
  /** The step after `entries`, while it is being read and until it is needed. */
  #ahead: Promise<ScanStep> | undefined;
  /** Of the job that reads a step, or did so last. */
  #jobId = 0;
  /** Whether values are to come as strings. */
  #texts: boolean;
  #over = false;
  /** Calls of next() that wait for a step, or behind one that does. */
  #waiting = 0;
  /** When the last of these is over. */
  #lastOver: Promise<unknown> = Promise.resolve();

  constructor(source: Source, shape: Shape, options: IterateOptions | undefined) {
    this.#source = source;
    this.#shape = shape;
    this.#settings = toSettings(options);
    this.#left = this.#settings.limit;
    this.#texts = source.codec.textMark === -1;
    source.checkOpen();
  }

  next(): Promise<IteratorResult<T>> {
    if (this.#waiting === 0) {
      try {
        const result = this.#take();
        if (result !== undefined) return Promise.resolve(result);
      } catch (error) {
        return Promise.reject(error);
      }
    }
    this.#waiting++;
    const result = this.#lastOver.then(() => this.#advance());
    this.#lastOver = result.catch(() => {});
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
    if (this.#over) return;
    this.#over = true;
    // A step that has no thread yet is not wanted any more; what a running one reads is dropped.
    if (this.#scan !== undefined) {
      addon.cancelJob(this.#jobId);
      addon.storeScanEnd(this.#scan);
    }
    this.#scan = undefined;
    this.#entries = undefined;
    this.#ahead = undefined;
  }

  /** What can be answered now: an entry, or the end. */
  #take(): IteratorResult<T> | undefined {
    if (this.#over) return { done: true, value: undefined };
    this.#checkUnderWay();
    if (this.#left === 0) {
      this.#end();
      return { done: true, value: undefined };
    }
    const entries = this.#entries;
    if (entries === undefined) return undefined;
    if (entries.left > 0) {
      if (this.#left !== noLimit) this.#left--;
      return { done: false, value: entries.take() as T };
    }
    if (!entries.isLast) return undefined;
    this.#end();
    return { done: true, value: undefined };
  }

  /** Ends the iteration and throws where it must not go on. */
  #checkUnderWay(): void {
    const { signal } = this.#settings;
    try {
      if (signal?.aborted) throw signal.reason;
      this.#source.checkOpen();
    } catch (error) {
      this.#end();
      throw error;
    }
  }

  async #advance(): Promise<IteratorResult<T>> {
    try {
      for (;;) {
        const result = this.#take();
        if (result !== undefined) return result;
        await this.#nextStep();
      }
    } finally {
      // Before whoever waits for it goes on: its next call may find an entry at hand.
      this.#waiting--;
    }
  }

  async #nextStep(): Promise<void> {
    this.#entries = undefined;
    try {
      const step = await (this.#ahead ?? this.#readStep(this.#left));
      this.#ahead = undefined;
      // return() may have been called meanwhile: then nothing is kept.
      if (!this.#over) this.#begin(step);
    } catch (error) {
      if (this.#over) return;
      this.#end();
      throw error;
    }
  }

  /** Hands out a step's entries from now on, and has the next one read meanwhile. */
  #begin(step: ScanStep): void {
    this.#entries = new StepEntries(step, this.#shape, this.#source.codec);
    this.#texts = this.#entries.areTexts;
    const left = this.#left === noLimit ? noLimit : this.#left - step.count;
    if (step.done || left <= 0) return;
    this.#ahead = this.#readStep(left);
    // Whoever needs the step hears of its failure.
    this.#ahead.catch(() => {});
  }

  async #readStep(limit: number): Promise<ScanStep> {
    const { scheduler } = this.#source;
    const { prefix, highWaterMark, signal } = this.#settings;
    if (this.#scan === undefined) {
      if (!scheduler.isIdle) await unlessAborted(scheduler.idle(), signal);
      this.#source.checkOpen();
      this.#scan = newScan(this.#source, prefix, this.#shape);
    }
    const scan = this.#scan;
    return runJob(() => {
      // Two steps are in memory at a time.
      const step = addon.storeScanStep(scan, Math.ceil(highWaterMark / 2), limit, this.#texts);
      this.#jobId = addon.lastJobId();
      return step;
    }, signal);
  }
}

function newScan(source: Source, prefix: Uint8Array, shape: Shape): NativeScan {
  return addon.storeScan(source.handle, prefix, shape.values, shape.keyEncoding === 'utf8');
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
  const scan = newScan(source, Buffer.alloc(0), shape);
  let texts = source.codec.textMark === -1;
  try {
    for (;;) {
      source.checkOpen();
      const step = callNative(() => addon.storeScanStepSync(scan, defaultHighWaterMark, noLimit, texts));
      const entries = new StepEntries(step, shape, source.codec);
      texts = entries.areTexts;
      while (entries.left > 0) {
        source.checkOpen();
        yield entries.take() as T;
      }
      if (step.done) return;
    }
  } finally {
    addon.storeScanEnd(scan);
  }
}
