import { addon } from '../addon.js';
import { checkOptions, checkSignal } from '../arguments.js';
import { decodeValue } from '../codec/encoding.js';
import { callNative } from '../errors.js';
import { PendingWaits } from '../ipc/pending-waits.js';
import { runJob } from '../jobs.js';
import { type Source, toPrefix } from './iteration.js';
import type { Key } from './key.js';
import type { ChangeStep, NativeWatch } from './native.js';

/** What {@link Store.watch} tells. */
export type Change<V> =
  | { type: 'set'; key: string; value: V }
  | { type: 'delete'; key: string; reason: 'deleted' | 'expired' | 'evicted' }
  | { type: 'clear' }
  | { type: 'gap' };

/** How {@link Store.watch} watches. */
export interface WatchOptions {
  /** Only keys that begin with this. */
  prefix?: Key;
  /** Ends it: what next() waits for rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** Kinds of change, as csrc/store/watch.h counts them; those between the first and the fifth are reasons of a delete. */
const setKind = 1;
const clearKind = 5;
const gapKind = 6;
const reasons = { 2: 'deleted', 3: 'expired', 4: 'evicted' } as const;

/** Numbers per change in a step's table: kind, then slab, offset and size of the key and of the value. */
const tableColumns = 7;

/** The watchers of one store that wait, for its close to end. */
export class Watches {
  readonly #waiting = new Set<Watch<any>>();

  add(watch: Watch<any>): void {
    this.#waiting.add(watch);
  }

  delete(watch: Watch<any>): void {
    this.#waiting.delete(watch);
  }

  end(): void {
    for (const watch of this.#waiting) watch.end();
    this.#waiting.clear();
  }
}

/**
 * Follows the changes of a store. One step of them is in memory at a time; the next one is read when it is asked for. What
 * waits is a native wait; without a call of next() that waits there is none, and nothing keeps the process alive.
 */
export class Watch<V> implements AsyncIterableIterator<Change<V>> {
  readonly #source: Source;
  readonly #all: Watches;
  readonly #signal: AbortSignal | undefined;
  readonly #watch: NativeWatch;
  readonly #waits = new PendingWaits();
  /** Resolves what waits when the watching ends. */
  #onEnd: (() => void) | undefined;
  #step: ChangeStep | undefined;
  #column = 0;
  #over = false;
  /** Calls of next() that wait, or stand behind one that does. */
  #waiting = 0;
  #lastOver: Promise<unknown> = Promise.resolve();

  constructor(source: Source, all: Watches, options: WatchOptions | undefined) {
    checkOptions(options);
    const { prefix, signal } = options ?? {};
    const bytes = toPrefix(prefix);
    this.#source = source;
    this.#all = all;
    this.#signal = checkSignal(signal);
    source.checkOpen();
    this.#watch = callNative(() => addon.storeWatch(source.handle, bytes));
  }

  next(): Promise<IteratorResult<Change<V>>> {
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

  /** Ends it: calls of next() that wait resolve with `done`. */
  return(): Promise<IteratorResult<Change<V>>> {
    this.end();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.end();
  }

  /** @internal */
  end(): void {
    this.#over = true;
    this.#step = undefined;
    this.#onEnd?.();
    this.#waits.close();
  }

  /** What can be answered now: a change, or the end. */
  #take(): IteratorResult<Change<V>> | undefined {
    if (!this.#over && this.#signal?.aborted) {
      this.end();
      throw this.#signal.reason;
    }
    if (!this.#over && this.#source.isClosed()) this.end();
    if (this.#over) return { done: true, value: undefined };
    const step = this.#step;
    if (step === undefined || this.#column >= step.table.length) return undefined;
    const column = this.#column;
    this.#column = column + tableColumns;
    return { done: false, value: this.#changeAt(step, column) };
  }

  #changeAt({ table, keySlabs, valueSlabs }: ChangeStep, column: number): Change<V> {
    const kind = table[column] as number;
    if (kind === clearKind) return { type: 'clear' };
    if (kind === gapKind) return { type: 'gap' };
    const keys = keySlabs[table[column + 1] as number] as string | Buffer;
    const keyStart = table[column + 2] as number;
    const keyEnd = keyStart + (table[column + 3] as number);
    const key = typeof keys === 'string' ? keys.substring(keyStart, keyEnd) : keys.toString('utf8', keyStart, keyEnd);
    if (kind !== setKind) return { type: 'delete', key, reason: reasons[kind as keyof typeof reasons] };
    const start = table[column + 5] as number;
    const end = start + (table[column + 6] as number);
    const bytes = valueSlabs[table[column + 4] as number] as Buffer;
    return { type: 'set', key, value: decodeValue(this.#source.codec, bytes, start, end, true) as V };
  }

  async #advance(): Promise<IteratorResult<Change<V>>> {
    this.#all.add(this);
    try {
      for (;;) {
        const result = this.#take();
        if (result !== undefined) return result;
        await this.#nextStep();
      }
    } finally {
      // Before whoever waits for it goes on: its next call may find a change at hand.
      this.#waiting--;
      if (this.#waiting === 0) this.#all.delete(this);
    }
  }

  /** Waits where the last step found nothing; then reads what is new. */
  async #nextStep(): Promise<void> {
    const last = this.#step;
    this.#step = undefined;
    try {
      if (last?.idle === true) {
        await this.#waits.run(() => addon.storeWatchWait(this.#watch, last.bell, last.waitMs), this.#signal);
      }
      const step = await this.#orEnd(runJob(() => addon.storeWatchRead(this.#watch), this.#signal));
      // It may have been ended meanwhile: then nothing is kept.
      if (step === undefined || this.#over) return;
      this.#step = step;
      this.#column = 0;
    } catch (error) {
      if (this.#over || this.#source.isClosed()) return;
      this.end();
      throw error;
    }
  }

  /** What the step comes to, or undefined as soon as the watching ends. */
  async #orEnd(step: Promise<ChangeStep>): Promise<ChangeStep | undefined> {
    try {
      return await Promise.race([
        step,
        new Promise<undefined>((resolve) => {
          this.#onEnd = () => resolve(undefined);
        }),
      ]);
    } finally {
      this.#onEnd = undefined;
    }
  }
}
