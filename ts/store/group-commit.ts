import { addon } from '../addon.js';
import { callNative, FaultlessError, fromNative, newError } from '../errors.js';
import type { OperationDiagnostics } from './diagnostics.js';
import type { StoreHandle } from './native.js';

/** Told when a flush has ended that began after it was added: undefined where that succeeded. */
export type Flushed = (failure: unknown) => void;

/**
 * The flushes of one Store. One is under way at a time; it covers everything that was added before it began, and what is
 * added meanwhile shares the next one.
 *
 * With `everyMs` a flush also begins at the latest that long after the first write that no flush covers has resolved.
 * Where such a one fails for good, nothing says so but the writes that come later: they fail.
 */
export class GroupCommit {
  readonly #handle: StoreHandle;
  readonly #diagnostics: OperationDiagnostics;
  readonly #everyMs: number | undefined;
  #waiting: Flushed[] = [];
  /** Promises of writes that are to be flushed, and not settled. */
  #owed = 0;
  #scheduled = false;
  #running = false;
  /** With everyMs: something was written that no flush covers. */
  #dirty = false;
  #timer: NodeJS.Timeout | undefined;
  /** Of a flush that nobody waited for. */
  #failure: FaultlessError | undefined;
  /** Closed on this thread: how the last flush of all ended. */
  #last: { failure: unknown } | undefined;
  #whenIdle: (() => void)[] = [];

  constructor(handle: StoreHandle, diagnostics: OperationDiagnostics, everyMs: number | undefined) {
    this.#handle = handle;
    this.#diagnostics = diagnostics;
    this.#everyMs = everyMs;
  }

  /** A write was issued whose promise waits for a flush. */
  owe(): void {
    this.#owed++;
  }

  /** The promise of such a write is settled. */
  paid(): void {
    this.#owed--;
    this.#tellIdle();
  }

  /** Calls back after a flush that begins after this call. */
  add(flushed: Flushed): void {
    if (this.#last !== undefined) {
      flushed(this.#last.failure);
      return;
    }
    this.#waiting.push(flushed);
    this.#schedule();
  }

  /** A flush that begins after this call. */
  flush(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.add((failure) => (failure === undefined ? resolve() : reject(failure)));
    });
  }

  /** Something was written on this thread. May block with `system`: it waits for a flush then. */
  wroteSync(system: boolean): void {
    if (system) this.flushSync();
    else this.wrote();
  }

  /** May block. */
  flushSync(): void {
    this.#cover();
    try {
      callNative(() => addon.storeFlushSync(this.#handle));
    } catch (error) {
      this.#leaveDirty(error);
      throw error;
    }
  }

  /** Something was written: with everyMs the time to its flush begins. */
  wrote(): void {
    if (this.#everyMs === undefined || this.#last !== undefined) return;
    this.#dirty = true;
    // Unref'ed: a process that has nothing else to do may end before, as it may be killed before.
    this.#timer ??= setTimeout(this.#due, this.#everyMs).unref();
  }

  /** Throws where a periodic flush has failed for good: what is written could be lost without anyone being told. */
  check(): void {
    const cause = this.#failure;
    if (cause === undefined) return;
    throw newError(cause.code, 'A flush (durability: { everyMs }) has failed: close the store and open it again', {
      cause,
    });
  }

  /**
   * For close(), after which nothing is written any more: resolves when no promise waits for a flush, and nothing
   * written is left without one. Answers what that last flush failed with.
   */
  async end(): Promise<unknown> {
    while (this.#owed > 0 || this.#running || this.#waiting.length > 0) {
      await new Promise<void>((resolve) => this.#whenIdle.push(resolve));
    }
    if (!this.#dirty) return undefined;
    return this.flush().then(
      () => undefined,
      (failure: unknown) => failure,
    );
  }

  /** The same on this thread, with everything written already. May block. */
  endSync(): unknown {
    if (this.#last !== undefined) return undefined;
    let failure: unknown;
    if (this.#owed > 0 || this.#running || this.#waiting.length > 0 || this.#dirty) {
      try {
        this.flushSync();
      } catch (error) {
        failure = error;
      }
    }
    clearTimeout(this.#timer);
    this.#last = { failure };
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const flushed of waiting) flushed(failure);
    return failure;
  }

  /** Begins a flush when this tick is over, so that all that ends in it shares it. */
  #schedule(): void {
    if (this.#scheduled || this.#running) return;
    this.#scheduled = true;
    process.nextTick(this.#run);
  }

  readonly #due = (): void => {
    this.#timer = undefined;
    this.add((failure) => {
      if (failure instanceof FaultlessError && failure.code === 'ERR_IO') this.#failure ??= failure;
    });
  };

  readonly #run = async (): Promise<void> => {
    this.#scheduled = false;
    this.#running = true;
    while (this.#waiting.length > 0) {
      const covered = this.#waiting;
      this.#waiting = [];
      this.#cover();
      let failure: unknown;
      try {
        await addon.storeFlush(this.#handle);
      } catch (thrown) {
        failure = fromNative(thrown);
        this.#diagnostics.failed('flush', failure);
        this.#leaveDirty(failure);
      }
      // closeSync() overtook it: the flush that counts was that one's.
      if (failure !== undefined && this.#last !== undefined) failure = this.#last.failure;
      for (const flushed of covered) flushed(failure);
    }
    this.#running = false;
    this.#tellIdle();
  };

  /** A flush begins: what was written until now is its. */
  #cover(): void {
    this.#dirty = false;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** A flush has failed: with everyMs it is tried again, unless that is known to be in vain. */
  #leaveDirty(failure: unknown): void {
    if (failure instanceof FaultlessError && failure.code === 'ERR_IO') this.#dirty = this.#everyMs !== undefined;
    else this.wrote();
  }

  #tellIdle(): void {
    if (this.#owed > 0 || this.#running || this.#waiting.length > 0) return;
    const waiting = this.#whenIdle;
    this.#whenIdle = [];
    for (const resolve of waiting) resolve();
  }
}
