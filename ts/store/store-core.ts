import { untilAbort } from '../abort.js';
import { addon } from '../addon.js';
import type { ValueCodec } from '../codec/codec.js';
import { COLD, type Cold } from '../cold.js';
import { callNative, newError } from '../errors.js';
import { runJob } from '../jobs.js';
import type { LongWork, ReadOptions } from '../options.js';
import { settle } from './answers.js';
import { OperationDiagnostics, tellClosed, tellError, tellOpened } from './diagnostics.js';
import { Direct } from './direct.js';
import { GroupCommit } from './group-commit.js';
import { HotCache } from './hot-cache.js';
import type { Source } from './iteration.js';
import { checkKey, type Key, nameOf } from './key.js';
import { checkLongWork } from './long-work.js';
import type { StoreHandle } from './native.js';
import { isWrite, type Kind } from './operation.js';
import type { Lifetime } from './request.js';
import { Scheduler } from './scheduler.js';
import { checkReadOptions, type OpenSettings, type WriteSettings } from './store-options.js';
import { afterTurn, TurnBudget } from './turn-budget.js';
import { Uses } from './uses.js';
import { Watches } from './watch.js';

/** What a turn of the event loop answers at once: some tens of microseconds. */
const turnBudget = 256;
const costOfRead = 8;
const costOfHot = 1;

/** What a Store is made of, and what its methods share. */
export class StoreCore<V> {
  readonly handle: StoreHandle;
  readonly codec: ValueCodec;
  readonly scheduler: Scheduler;
  readonly direct: Direct<V>;
  readonly commit: GroupCommit;
  readonly source: Source;
  readonly watches: Watches = new Watches();
  readonly location: string;
  readonly readOnly: boolean;
  /** Whether writes that say nothing of it wait for a flush. */
  readonly system: boolean;
  /** Milliseconds to live for writes that say nothing of it; 0: no end. */
  readonly #ttl: number;
  readonly #turnBudget = new TurnBudget(turnBudget);
  /** Calls that are more than operations under way, for close() to wait for. */
  readonly #calls = new Set<Promise<unknown>>();
  readonly #diagnostics: OperationDiagnostics;
  hot: HotCache | undefined;
  /** Where reads on this thread count for what is evicted. */
  readonly #uses: Uses | undefined;
  closing: Promise<void> | undefined;

  /** `start`: when it was asked for, of performance.now(). */
  constructor(handle: StoreHandle, settings: OpenSettings, start: number) {
    const { native, codec, durability, hotBytes, ttl } = settings;
    this.handle = handle;
    this.codec = codec;
    this.location = settings.location;
    this.readOnly = native.readOnly;
    this.system = durability === 'system';
    this.#ttl = ttl;
    const diagnostics = new OperationDiagnostics(handle, this.location);
    this.#diagnostics = diagnostics;
    const commit = new GroupCommit(handle, diagnostics, typeof durability === 'number' ? durability : undefined);
    this.commit = commit;
    this.#uses = Uses.create(handle, (carry) => this.track(carry));
    this.hot = HotCache.create(handle, codec, hotBytes, this.#uses);
    this.direct = new Direct(handle, codec, () => this.hot, this.#uses);
    const scheduler = new Scheduler(handle, commit, diagnostics, codec.keepsBytes !== true, (...answered) => {
      settle(codec, this.hot, ...answered);
    });
    this.scheduler = scheduler;
    tellOpened(this, start);
    const isClosed = (): boolean => this.closing !== undefined;
    this.source = { handle, codec, scheduler, checkOpen: () => this.checkOpen(), isClosed };
  }

  /** Store.get without options, where the event loop can answer it by itself. */
  getNow(key: Key): Promise<V | undefined> | undefined {
    const value = this.getHot(key);
    if (value !== COLD) {
      return this.#turnBudget.take(costOfHot) ? Promise.resolve(value) : afterTurn(value);
    }
    // With others under way it travels with them, so that a flood of reads does not hold the loop.
    if (!this.scheduler.isIdle) return undefined;
    const within = this.#turnBudget.take(costOfRead);
    if (!within && !this.#turnBudget.takeLast()) return undefined;
    this.checkOpen();
    checkKey(key);
    const read = this.direct.tryGet(key);
    if (read === COLD) return undefined;
    return within ? Promise.resolve(read) : afterTurn(read);
  }

  /** An operation without a value. */
  submit<T>(kind: Kind, key: Key, options: ReadOptions | undefined, lifetime?: Lifetime): Promise<T> {
    return new Promise((resolve, reject) => {
      const signal = this.begin(checkReadOptions(options));
      const write = isWrite(kind);
      if (write) this.checkWritable();
      const system = write && this.system;
      this.scheduler.submit(kind, key, undefined, resolve, reject, signal, system, lifetime);
    });
  }

  /** Throws where the store is closed or the signal aborted. */
  begin(signal: AbortSignal | undefined): AbortSignal | undefined {
    this.checkOpen();
    signal?.throwIfAborted();
    return signal;
  }

  /** May block: what is under way on the key has taken effect when this returns. */
  beginSync(key: Key, write: boolean): void {
    this.checkOpen();
    checkKey(key);
    this.scheduler.settleKey(key, write);
  }

  /** Whether a write waits for a flush. */
  isSystem({ durability }: WriteSettings): boolean {
    return durability === undefined ? this.system : durability === 'system';
  }

  /** How long what a write puts there lives, whatever was there before. */
  lifetimeOf({ ttl }: WriteSettings): Lifetime | undefined {
    const milliseconds = ttl ?? this.#ttl;
    return milliseconds === 0 ? undefined : { ttl: milliseconds, keep: false };
  }

  /** How long it lives where an earlier value's time counts, if the write says nothing of it. */
  keptLifetimeOf({ ttl }: WriteSettings): Lifetime {
    return ttl === undefined ? { ttl: this.#ttl, keep: true } : { ttl, keep: false };
  }

  /** Something was written on this thread. May block with `system`: it waits for a flush then. */
  wroteSync(system: boolean): void {
    this.#diagnostics.wrote();
    this.commit.wroteSync(system);
  }

  pendingWrite(key: Key): ReturnType<Scheduler['pendingWrite']> {
    this.checkOpen();
    checkKey(key);
    return this.scheduler.pendingWrite(key);
  }

  /** What this process has a copy of that is the newest value. COLD: none, or a write of the key is under way. */
  getHot(key: Key): V | undefined | Cold {
    const { hot } = this;
    if (hot === undefined || (!this.scheduler.isIdle && this.pendingWrite(key) !== 'none')) return COLD;
    if (typeof key !== 'string' && !(key instanceof Uint8Array)) return COLD;
    const entry = hot.find(nameOf(key));
    return entry === undefined ? COLD : (hot.valueOf(entry) as V | undefined);
  }

  /** Runs a call that close() must wait for; what it throws rejects. */
  track<T>(call: () => Promise<T>): Promise<T> {
    let result: Promise<T>;
    try {
      result = call();
    } catch (error) {
      return Promise.reject(error);
    }
    const settled: Promise<void> = result.then(
      () => void this.#calls.delete(settled),
      () => void this.#calls.delete(settled),
    );
    this.#calls.add(settled);
    return result;
  }

  /** Runs a call that close() must wait for, and that ends for its caller where the signal aborts. */
  untilAbort<T>(options: ReadOptions | undefined, run: (signal: AbortSignal | undefined) => Promise<T>): Promise<T> {
    let signal: AbortSignal | undefined;
    const whole = this.track(async () => {
      signal = this.begin(checkReadOptions(options));
      return run(signal);
    });
    return untilAbort(whole, signal);
  }

  /** `name`: for node:diagnostics_channel. */
  longWork<T>(name: string, options: LongWork | undefined, run: (work: LongWork) => Promise<T>): Promise<T> {
    return this.track(async () => {
      const work = checkLongWork(options);
      this.begin(work.signal);
      try {
        return await run(work);
      } catch (error) {
        tellError(this.location, name, error);
        throw error;
      }
    });
  }

  close(): Promise<void> {
    this.closing ??= this.#tellClosing(this.#closeAfterAll());
    this.#coolDown();
    this.watches.end();
    return this.closing;
  }

  /** May block. */
  closeSync(): void {
    const start = performance.now();
    const already = this.closing !== undefined;
    this.closing ??= Promise.resolve();
    this.#coolDown();
    this.watches.end();
    this.scheduler.settleAll();
    const failure = this.commit.endSync();
    callNative(() => addon.storeCloseSync(this.handle));
    if (!already) tellClosed(this, start);
    if (failure !== undefined) throw failure;
  }

  checkOpen(): void {
    if (this.closing !== undefined) throw newError('ERR_CLOSED', 'The store is closed');
  }

  checkWritable(): void {
    this.checkOpen();
    if (this.readOnly) throw newError('ERR_READ_ONLY', 'The store is open for reading only');
    this.commit.check();
  }

  async #tellClosing(closing: Promise<void>): Promise<void> {
    const start = performance.now();
    await closing;
    tellClosed(this, start);
  }

  async #closeAfterAll(): Promise<void> {
    await Promise.all(this.#calls);
    await this.scheduler.idle();
    const failure = await this.commit.end();
    await runJob(() => addon.storeClose(this.handle));
    if (failure !== undefined) throw failure;
  }

  /** Nothing is hot any more. */
  #coolDown(): void {
    this.#uses?.close();
    this.hot?.close();
    this.hot = undefined;
  }
}
