import { addon, type QueueStats } from '../addon.js';
import { checkIterable } from '../arguments.js';
import type { Codec, EncodedValue, ValueCodec } from '../codec/codec.js';
import { decodeValue, type EncodingName, encodeValue } from '../codec/encoding.js';
import { COLD, type Cold } from '../cold.js';
import { callNative, newError } from '../errors.js';
import { runJob } from '../jobs.js';
import { type Location, toPath } from '../location.js';
import type { LongWork, ReadOptions } from '../options.js';
import { settle } from './answers.js';
import { GroupCommit } from './group-commit.js';
import { Iteration, iterateSync, type Shape, type Source, toKeyEncoding } from './iteration.js';
import { checkKey, type Key, writeKey } from './key.js';
import { deleteMany, setMany } from './many.js';
import type { StoreHandle } from './native.js';
import { Kind } from './operation.js';
import { toScratch } from './request.js';
import { Scheduler } from './scheduler.js';
import {
  checkReadOptions,
  checkWriteOptions,
  type IterateOptions,
  type OpenSettings,
  type StoreOptions,
  toOpenOptions,
  type WriteOptions,
  type WriteSettings,
} from './store-options.js';
import { TurnBudget } from './turn-budget.js';
import { checkLongWork, type VerifyReport, verify } from './verification.js';

/** What Store.stats() tells: all of it is in memory. */
export interface StoreStats {
  /** Live keys. */
  keys: number;
  liveBytes: number;
  /** Of superseded and deleted records, until cleaning gets to them. */
  garbageBytes: number;
  fileBytes: number;
  /** Within the file. */
  freeBytes: number;
  maxBytes: number;
  shards: number;
  /** Lines of the index. */
  buckets: number;
  /** Lines that an index of a store of maxBytes can have. */
  maxBuckets: number;
  /** Entries per place for one in the index, 0 … 1. */
  loadFactor: number;
  maxLoadFactor: number;
  /** In-process copies of hot values: none so far. */
  hot: { entries: number; bytes: number; hits: number; misses: number; evictions: number; stale: number };
  /** Work of this Store on libuv's threads. Waiting and running: requests; one carries many operations. */
  queue: QueueStats;
  lockedBytes: number;
  /** Whether tryGet and tryHas can answer at all; otherwise they say COLD, always. */
  fastPath: boolean;
}

/** Layout of the scratch buffer: csrc/binding/store_sync.cc. */
const scratchValue = 64 * 1024;
const scratch = Buffer.allocUnsafeSlow(2 * scratchValue);
/** Reads that a turn of the event loop answers at once: some tens of microseconds. */
const readsPerTurn = 32;
const isAbsent = -1;
const isCold = -2;

const wholeEntries: Shape = { keys: true, values: true, keyEncoding: 'utf8' };

/**
 * A key-value store in one file, or in shared memory, that any number of processes have open at a time.
 *
 * - A promise method rejects, a sync method throws; always a FaultlessError, and an abort with the signal's reason.
 *   Each may fail with ERR_CLOSED, ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE, ERR_KEY_EMPTY, ERR_KEY_TOO_LONG, ERR_IO
 *   (the device failed, or somebody cut the file short), ERR_CORRUPT and ERR_BUSY (a live process has held a lock for 5
 *   s); writes also with ERR_READ_ONLY, ERR_STORE_FULL, ERR_NO_SPACE and ERR_VALUE_TOO_LARGE.
 * - Bytes handed in are captured at the call; bytes handed out are fresh: yours to change and keep.
 * - Operations on one key of one Store object take effect in call order, awaited or not; a get sees the sets issued
 *   before it.
 * - Only the methods that say so may block the calling thread.
 * - Pending calls keep the process alive, an open store does not.
 */
export class Store<V = any, In = V> implements AsyncIterable<[string, V]>, AsyncDisposable, Disposable {
  readonly #handle: StoreHandle;
  readonly #codec: ValueCodec;
  readonly #scheduler: Scheduler;
  readonly #commit: GroupCommit;
  /** Whether writes that say nothing of it wait for a flush. */
  readonly #system: boolean;
  readonly #turnBudget = new TurnBudget(readsPerTurn);
  readonly #source: Source;
  readonly #location: string;
  readonly #readOnly: boolean;
  /** Calls that are more than operations under way, for close() to wait for. */
  readonly #calls = new Set<Promise<unknown>>();
  #closing: Promise<void> | undefined;

  private constructor(handle: StoreHandle, location: Location, { native, codec, durability }: OpenSettings) {
    this.#handle = handle;
    this.#codec = codec;
    this.#location = describeLocation(location, native.path);
    this.#readOnly = native.readOnly;
    this.#system = durability === 'system';
    const commit = new GroupCommit(handle, typeof durability === 'number' ? durability : undefined);
    this.#commit = commit;
    const scheduler = new Scheduler(handle, commit, (operation, answer, slabs) => {
      settle(codec, operation, answer, slabs);
    });
    this.#scheduler = scheduler;
    this.#source = { handle, codec, scheduler, checkOpen: () => this.#checkOpen() };
  }

  /**
   * Opens a store, or creates it. The encoding decides what values can be:
   *
   * - 'auto' (default) keeps the type of each: string, number (also NaN, −0 and infinities), bigint, boolean, null,
   *   Date (also an invalid one), Uint8Array (comes back as Buffer), arrays and plain objects of these, at most 1,000
   *   levels deep. Properties that are undefined are left out; strings may have lone surrogates. Map, Set, functions,
   *   symbols and instances of classes are ERR_INVALID_ARG_TYPE, cycles ERR_INVALID_ARG_VALUE.
   * - 'utf8': strings (lone surrogates: ERR_INVALID_ARG_VALUE). 'buffer': bytes. 'json' and 'msgpack': what those can
   *   express.
   * - a {@link Codec}.
   *
   * ERR_NOT_FOUND (and not `create`, or no such directory), ERR_EXISTS (`exclusive`), ERR_ACCESS, ERR_FORMAT (not one
   * of our files, or another encoding or maxBytes than it was created with), ERR_MEMLOCK (`pin`), ERR_UNSUPPORTED (a
   * network filesystem, options that a later release implements), ERR_NO_SPACE, ERR_BUSY, ERR_IO, ERR_CORRUPT.
   */
  static open(location: Location, options: StoreOptions & { encoding: 'utf8' }): Promise<Store<string>>;
  static open(
    location: Location,
    options: StoreOptions & { encoding: 'buffer' },
  ): Promise<Store<Buffer, Uint8Array | string>>;
  static open<V>(location: Location, options: StoreOptions & { encoding: Codec<V> }): Promise<Store<V>>;
  static open<V = any>(
    location: Location,
    options?: StoreOptions & { encoding?: 'auto' | 'json' | 'msgpack' },
  ): Promise<Store<V>>;
  static async open(
    location: Location,
    options?: StoreOptions & { encoding?: EncodingName | Codec<any> },
  ): Promise<Store> {
    const settings = toOpenOptions(toPath(location), options);
    const handle = await runJob(
      () => addon.storeOpen(settings.native),
      options?.signal,
      (unheard) => void addon.storeClose(unheard).catch(() => {}),
    );
    const { thrown } = settings.progress;
    if (thrown !== undefined) {
      await runJob(() => addon.storeClose(handle));
      throw thrown.reason;
    }
    return new Store(handle, location, settings);
  }

  /** Like open(). May block. */
  static openSync(location: Location, options: StoreOptions & { encoding: 'utf8' }): Store<string>;
  static openSync(
    location: Location,
    options: StoreOptions & { encoding: 'buffer' },
  ): Store<Buffer, Uint8Array | string>;
  static openSync<V>(location: Location, options: StoreOptions & { encoding: Codec<V> }): Store<V>;
  static openSync<V = any>(
    location: Location,
    options?: StoreOptions & { encoding?: 'auto' | 'json' | 'msgpack' },
  ): Store<V>;
  static openSync(location: Location, options?: StoreOptions & { encoding?: EncodingName | Codec<any> }): Store {
    const settings = toOpenOptions(toPath(location), options);
    options?.signal?.throwIfAborted();
    const handle = callNative(() => addon.storeOpenSync(settings.native));
    const { thrown } = settings.progress;
    if (thrown !== undefined) {
      callNative(() => addon.storeCloseSync(handle));
      throw thrown.reason;
    }
    return new Store(handle, location, settings);
  }

  /**
   * Removes the file of a store; whoever has it open goes on with it. ERR_NOT_FOUND; ERR_FORMAT where it is not one of
   * ours: it is left untouched.
   */
  static async destroy(location: Location): Promise<void> {
    const path = toPath(location);
    await runJob(() => addon.storeDestroy(path));
  }

  // ─────────────────────────────────────────────────────────── promises

  /** The value; undefined where the key is absent. */
  get(key: Key, options?: ReadOptions): Promise<V | undefined> {
    if (options === undefined && this.#turnBudget.take()) {
      try {
        const value = this.#getNow(key);
        if (value !== COLD) return Promise.resolve(value);
      } catch (thrown) {
        return Promise.reject(thrown);
      }
    }
    return this.#submit(Kind.get, key, undefined, checkReadOptions, options);
  }

  /** The values, in the order of the keys, as one consistent view: no write lands between two of them. */
  getMany(keys: Iterable<Key>, options?: ReadOptions): Promise<(V | undefined)[]> {
    return new Promise((resolve, reject) => {
      const all = [...checkIterable('keys', keys)];
      const signal = this.#begin(checkReadOptions(options));
      for (const key of all) checkKey(key);
      if (all.length === 0) resolve([]);
      else this.#scheduler.submitMany(all, resolve, reject, signal);
    });
  }

  has(key: Key, options?: ReadOptions): Promise<boolean> {
    return this.#submit(Kind.has, key, undefined, checkReadOptions, options);
  }

  /**
   * Resolves once every get that starts later, in any process, sees the value or a newer one; with durability 'system',
   * of this write or of the store, once a power cut cannot undo it either.
   */
  set(key: Key, value: In, options?: WriteOptions): Promise<void> {
    return new Promise((resolve, reject) => {
      const settings = checkWriteOptions(options);
      const signal = this.#begin(settings.signal);
      this.#checkWritable();
      checkKey(key);
      const encoded = encodeValue(this.#codec, value);
      this.#scheduler.submit(Kind.set, key, encoded, resolve, reject, signal, this.#isSystem(settings));
    });
  }

  /**
   * Sets all entries; what an iterable gives is captured during the call, what an async iterable gives as it comes. Not
   * atomic: where it rejects, earlier entries may stand.
   */
  setMany(
    entries: Iterable<readonly [Key, In]> | AsyncIterable<readonly [Key, In]>,
    options?: WriteOptions,
  ): Promise<void> {
    return this.#track(() => {
      const settings = checkWriteOptions(options);
      const signal = this.#begin(settings.signal);
      this.#checkWritable();
      return setMany(this.#scheduler, this.#codec, entries, signal, this.#isSystem(settings));
    });
  }

  /** Resolves to whether the key was there. */
  delete(key: Key, options?: ReadOptions): Promise<boolean> {
    return this.#submit(Kind.delete, key, undefined, checkReadOptions, options);
  }

  /** Resolves to how many of the keys were there. Not atomic. */
  deleteMany(keys: Iterable<Key>, options?: ReadOptions): Promise<number> {
    return this.#track(() => {
      const signal = this.#begin(checkReadOptions(options));
      this.#checkWritable();
      return deleteMany(this.#scheduler, checkIterable('keys', keys), signal, this.#system);
    });
  }

  /** Removes every key that is there. Sets issued after it survive. */
  clear(options?: ReadOptions): Promise<void> {
    return new Promise((resolve, reject) => {
      const signal = this.#begin(checkReadOptions(options));
      this.#checkWritable();
      this.#scheduler.submitClear(resolve, reject, signal, this.#system);
    });
  }

  /**
   * Walks the store, in no order, while everybody goes on reading and writing: a key that is there throughout is
   * delivered exactly once, one that comes or goes meanwhile at most once. Writes issued before the first entry is
   * asked for are seen. In memory are at most `highWaterMark` bytes of entries (one at least). Keys that are no UTF-8
   * need `keyEncoding: 'buffer'`.
   */
  entries(options?: IterateOptions & { keyEncoding?: 'utf8' }): AsyncIterableIterator<[string, V]>;
  entries(options: IterateOptions & { keyEncoding: 'buffer' }): AsyncIterableIterator<[Buffer, V]>;
  entries(
    options?: IterateOptions & { keyEncoding?: 'utf8' | 'buffer' },
  ): AsyncIterableIterator<[string, V]> | AsyncIterableIterator<[Buffer, V]> {
    const shape = { keys: true, values: true, keyEncoding: toKeyEncoding(options) };
    return new Iteration<[string, V]>(this.#source, shape, options);
  }

  /** The keys alone, as entries(). Values are not read. */
  keys(options?: IterateOptions & { keyEncoding?: 'utf8' }): AsyncIterableIterator<string>;
  keys(options: IterateOptions & { keyEncoding: 'buffer' }): AsyncIterableIterator<Buffer>;
  keys(
    options?: IterateOptions & { keyEncoding?: 'utf8' | 'buffer' },
  ): AsyncIterableIterator<string> | AsyncIterableIterator<Buffer> {
    const shape = { keys: true, values: false, keyEncoding: toKeyEncoding(options) };
    return new Iteration<string>(this.#source, shape, options);
  }

  /** The values alone, as entries(). */
  values(options?: IterateOptions): AsyncIterableIterator<V> {
    return new Iteration<V>(this.#source, { keys: false, values: true, keyEncoding: 'utf8' }, options);
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<[string, V]> {
    return this.entries();
  }

  /**
   * Resolves once a power cut cannot undo what was issued before the call. After a failure later ones fail too: reopen.
   */
  flush(): Promise<void> {
    return this.#track(async () => {
      this.#begin(undefined);
      if (!this.#scheduler.isIdle) await this.#scheduler.idle();
      await this.#commit.flush();
    });
  }

  /** Share of the store's bytes that is in memory now, 0 … 1. ERR_UNSUPPORTED where it cannot be known. */
  residency(): Promise<number> {
    return this.#track(async () => {
      this.#begin(undefined);
      return runJob(() => addon.storeResidency(this.#handle));
    });
  }

  /**
   * Looks for damage while everybody goes on reading and writing: reads every record and large value and compares their
   * checksums, the index with the records, the tables with what uses them. What it finds is in the report; it rejects
   * only where the store is closed, a lock is not to be had (ERR_BUSY) or the signal aborts. Damage in what is written
   * or cleaned away meanwhile may be missed; sound data is never called damaged. Progress is counted in bytes. Memory:
   * about a hundredth of the index, and some bytes for each deleted key whose records are not yet cleaned away.
   */
  verify(options?: LongWork): Promise<VerifyReport> {
    return this.#track(async () => {
      const work = checkLongWork(options);
      this.#begin(work.signal);
      return verify(this.#handle, work);
    });
  }

  /** Closes once everything issued before has finished. Again: harmless, and resolves when the first one does. */
  close(): Promise<void> {
    this.#closing ??= this.#closeAfterAll();
    return this.#closing;
  }

  /** close(). */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  // ─────────────────────────────────────────────────────────── now, or COLD

  /**
   * The value now, undefined where the key is absent, or COLD where telling would wait: for a device, a lock, or an own
   * write under way (unless that write's value is at hand: then it is answered). Never waits.
   */
  tryGet(key: Key): V | undefined | Cold {
    const pending = this.#pendingWrite(key);
    if (pending === 'unknown') return COLD;
    if (pending === 'none') return this.#readNow(key);
    if (pending.kind !== Kind.set) return undefined;
    const [bytes, start, end] = pending.request.valueOf(pending);
    return decodeValue(this.#codec, bytes, start, end, false) as V;
  }

  /** Like tryGet(): whether the key is there. */
  tryHas(key: Key): boolean | Cold {
    const pending = this.#pendingWrite(key);
    if (pending === 'unknown') return COLD;
    if (pending !== 'none') return pending.kind === Kind.set;
    const answer = callNative(() => addon.storeTryHas(this.#handle, scratch, writeKey(key, scratch, 0)));
    return answer === isCold ? COLD : answer !== isAbsent;
  }

  // ─────────────────────────────────────────────────────────── for scripts, start-up and stores in RAM

  /** Like get(). May block. */
  getSync(key: Key): V | undefined {
    this.#beginSync(key, false);
    const answer = callNative(() => addon.storeGetSync(this.#handle, scratch, writeKey(key, scratch, 0)));
    return this.#decodeAnswer(answer);
  }

  /** Like has(). May block. */
  hasSync(key: Key): boolean {
    this.#beginSync(key, false);
    return callNative(() => addon.storeHasSync(this.#handle, scratch, writeKey(key, scratch, 0))) !== isAbsent;
  }

  /** Like set(). May block. */
  setSync(key: Key, value: In, options?: WriteOptions): void {
    const settings = checkWriteOptions(options);
    settings.signal?.throwIfAborted();
    this.#checkWritable();
    checkKey(key);
    const encoded: EncodedValue = encodeValue(this.#codec, value);
    const bytes = toScratch(encoded, scratch, scratchValue);
    this.#beginSync(key, true);
    callNative(() => addon.storeSetSync(this.#handle, scratch, writeKey(key, scratch, 0), bytes));
    this.#commitSync(this.#isSystem(settings));
  }

  /** Like delete(). May block. */
  deleteSync(key: Key): boolean {
    this.#checkWritable();
    this.#beginSync(key, true);
    const existed = callNative(() => addon.storeDeleteSync(this.#handle, scratch, writeKey(key, scratch, 0)));
    this.#commitSync(this.#system);
    return existed;
  }

  /** Like clear(). May block. */
  clearSync(): void {
    this.#checkWritable();
    this.#scheduler.settleAll();
    callNative(() => addon.storeClearSync(this.#handle));
    this.#commitSync(this.#system);
  }

  /** Like keys(). Each step of it may block. */
  keysSync(): IterableIterator<string> {
    this.#checkOpen();
    return iterateSync(this.#source, { keys: true, values: false, keyEncoding: 'utf8' });
  }

  /** Like entries(). Each step of it may block. */
  entriesSync(): IterableIterator<[string, V]> {
    this.#checkOpen();
    return iterateSync(this.#source, wholeEntries);
  }

  /** entriesSync(). */
  [Symbol.iterator](): IterableIterator<[string, V]> {
    return this.entriesSync();
  }

  /** Like flush(). May block. */
  flushSync(): void {
    this.#checkOpen();
    this.#scheduler.settleAll();
    this.#commit.flushSync();
  }

  /** Like close(). May block. A step of an iteration that has no thread yet fails with ERR_CLOSED. */
  closeSync(): void {
    this.#closing ??= Promise.resolve();
    this.#scheduler.settleAll();
    const failure = this.#commit.endSync();
    callNative(() => addon.storeCloseSync(this.#handle));
    if (failure !== undefined) throw failure;
  }

  /** closeSync(). */
  [Symbol.dispose](): void {
    this.closeSync();
  }

  // ─────────────────────────────────────────────────────────── the whole

  /** Never blocks. */
  stats(): StoreStats {
    this.#checkOpen();
    const hot = { entries: 0, bytes: 0, hits: 0, misses: 0, evictions: 0, stale: 0 };
    return { ...callNative(() => addon.storeStats(this.#handle)), hot };
  }

  /** Live keys; 0 once it is closed. Never blocks. */
  get size(): number {
    return this.closed ? 0 : addon.storeSize(this.#handle);
  }

  /** The file's absolute path, or shm:NAME. */
  get location(): string {
    return this.#location;
  }

  get readOnly(): boolean {
    return this.#readOnly;
  }

  /** True from the call of close() on. */
  get closed(): boolean {
    return this.#closing !== undefined;
  }

  // ─────────────────────────────────────────────────────────── inside

  #submit<T>(
    kind: Kind,
    key: Key,
    value: EncodedValue | undefined,
    check: (options: ReadOptions | undefined) => AbortSignal | undefined,
    options: ReadOptions | undefined,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      const signal = this.#begin(check(options));
      const write = kind === Kind.delete;
      if (write) this.#checkWritable();
      this.#scheduler.submit(kind, key, value, resolve, reject, signal, write && this.#system);
    });
  }

  /** Throws where the store is closed or the signal aborted. */
  #begin(signal: AbortSignal | undefined): AbortSignal | undefined {
    this.#checkOpen();
    signal?.throwIfAborted();
    return signal;
  }

  #beginSync(key: Key, write: boolean): void {
    this.#checkOpen();
    checkKey(key);
    this.#scheduler.settleKey(key, write);
  }

  /** Whether a write waits for a flush. */
  #isSystem({ durability }: WriteSettings): boolean {
    return durability === undefined ? this.#system : durability === 'system';
  }

  /** Something was written on this thread. */
  #commitSync(system: boolean): void {
    if (system) this.#commit.flushSync();
    else this.#commit.wrote();
  }

  #pendingWrite(key: Key): ReturnType<Scheduler['pendingWrite']> {
    this.#checkOpen();
    checkKey(key);
    return this.#scheduler.pendingWrite(key);
  }

  /** COLD also where a write of the key is under way. */
  #getNow(key: Key): V | undefined | Cold {
    return this.#pendingWrite(key) === 'none' ? this.#readNow(key) : COLD;
  }

  #readNow(key: Key): V | undefined | Cold {
    const answer = callNative(() => addon.storeTryGet(this.#handle, scratch, writeKey(key, scratch, 0)));
    return answer === isCold ? COLD : this.#decodeAnswer(answer);
  }

  #decodeAnswer(answer: number | Buffer): V | undefined {
    if (typeof answer !== 'number') return decodeValue(this.#codec, answer, 0, answer.length, true) as V;
    if (answer === isAbsent) return undefined;
    return decodeValue(this.#codec, scratch, scratchValue, scratchValue + answer, false) as V;
  }

  /** Runs a call that close() must wait for; what it throws rejects. */
  #track<T>(call: () => Promise<T>): Promise<T> {
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

  async #closeAfterAll(): Promise<void> {
    await Promise.all(this.#calls);
    await this.#scheduler.idle();
    const failure = await this.#commit.end();
    await runJob(() => addon.storeClose(this.#handle));
    if (failure !== undefined) throw failure;
  }

  #checkOpen(): void {
    if (this.#closing !== undefined) throw newError('ERR_CLOSED', 'The store is closed');
  }

  #checkWritable(): void {
    this.#checkOpen();
    if (this.#readOnly) throw newError('ERR_READ_ONLY', 'The store is open for reading only');
    this.#commit.check();
  }
}

function describeLocation(location: Location, path: string): string {
  return typeof location === 'string' && location.startsWith('shm:') ? location : path;
}
