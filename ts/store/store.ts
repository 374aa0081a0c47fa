import { untilAbort } from '../abort.js';
import { addon } from '../addon.js';
import { checkIterable } from '../arguments.js';
import type { Codec } from '../codec/codec.js';
import { decodeValue, type EncodingName, encodeValue } from '../codec/encoding.js';
import { COLD, type Cold } from '../cold.js';
import { callNative } from '../errors.js';
import { runJob } from '../jobs.js';
import { type Location, toPath } from '../location.js';
import type { LongWork, ReadOptions } from '../options.js';
import { compareAndSet, increment, incrementSync, setExpiringSync, update } from './atomic.js';
import { backup } from './backup.js';
import { Batch } from './batch.js';
import { compact } from './compaction.js';
import { tellError } from './diagnostics.js';
import { Iteration, iterateSync, toKeyEncoding } from './iteration.js';
import { checkKey, type Key } from './key.js';
import type { KeyValueStore } from './key-value-store.js';
import { deleteMany, setMany } from './many.js';
import type { StoreHandle } from './native.js';
import { Kind } from './operation.js';
import type { StoreStats } from './stats.js';
import type { Shape } from './step-entries.js';
import { StoreCore } from './store-core.js';
import {
  checkReadOptions,
  checkTtl,
  checkWriteOptions,
  type IterateOptions,
  type OpenSettings,
  type StoreOptions,
  toOpenOptions,
  type WriteOptions,
} from './store-options.js';
import { type VerifyReport, verify } from './verification.js';
import { packKeys, warm } from './warming.js';
import { type Change, Watch, type WatchOptions } from './watch.js';

function openSync({ native, location }: OpenSettings): StoreHandle {
  try {
    return callNative(() => addon.storeOpenSync(native));
  } catch (error) {
    tellError(location, 'open', error);
    throw error;
  }
}

const noHotStats = { entries: 0, bytes: 0, hits: 0, misses: 0, evictions: 0, stale: 0 };

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
export class Store<V = any, In = V> implements KeyValueStore<V, In>, Disposable {
  readonly #core: StoreCore<V>;

  private constructor(core: StoreCore<V>) {
    this.#core = core;
  }

  /**
   * Opens a store, or creates it. The encoding decides what values can be:
   *
   * - 'auto' (default) keeps the type of each: string, number (also NaN, −0 and infinities), bigint, boolean, null,
   *   Date (also an invalid one), Uint8Array (comes back as Buffer), arrays and plain objects of these, at most 1,000
   *   levels deep. Properties that are undefined are left out; strings may have lone surrogates. Map, Set, functions,
   *   symbols and instances of classes are ERR_INVALID_ARG_TYPE, cycles ERR_INVALID_ARG_VALUE.
   * - 'utf8': strings (lone surrogates: ERR_INVALID_ARG_VALUE). 'buffer': bytes. 'number': numbers, in 8 bytes. 'json' and 'msgpack': what those can
   *   express.
   * - a {@link Codec}.
   *
   * ERR_NOT_FOUND (and not `create`, or no such directory), ERR_EXISTS (`exclusive`), ERR_ACCESS, ERR_FORMAT (not one
   * of our files, or another encoding, maxBytes or onFull than it was created with), ERR_MEMLOCK (`pin`), ERR_UNSUPPORTED (a
   * network filesystem, options that a later release implements), ERR_NO_SPACE, ERR_BUSY, ERR_IO, ERR_CORRUPT.
   */
  static open(location: Location, options: StoreOptions & { encoding: 'utf8' }): Promise<Store<string>>;
  static open(
    location: Location,
    options: StoreOptions & { encoding: 'buffer' },
  ): Promise<Store<Buffer, Uint8Array | string>>;
  static open(location: Location, options: StoreOptions & { encoding: 'number' }): Promise<Store<number>>;
  static open<V>(location: Location, options: StoreOptions & { encoding: Codec<V> }): Promise<Store<V>>;
  static open<V = any>(
    location: Location,
    options?: StoreOptions & { encoding?: 'auto' | 'json' | 'msgpack' },
  ): Promise<Store<V>>;
  static async open(
    location: Location,
    options?: StoreOptions & { encoding?: EncodingName | Codec<any> },
  ): Promise<Store> {
    const settings = toOpenOptions(location, options);
    const start = performance.now();
    const handle = await runJob(
      () => addon.storeOpen(settings.native),
      options?.signal,
      (unheard) => void addon.storeClose(unheard).catch(() => {}),
    ).catch((error: unknown) => {
      tellError(settings.location, 'open', error);
      throw error;
    });
    const { thrown } = settings.progress;
    if (thrown === undefined) return new Store(new StoreCore(handle, settings, start));
    await runJob(() => addon.storeClose(handle));
    throw thrown.reason;
  }

  /** Like open(). May block. */
  static openSync(location: Location, options: StoreOptions & { encoding: 'utf8' }): Store<string>;
  static openSync(
    location: Location,
    options: StoreOptions & { encoding: 'buffer' },
  ): Store<Buffer, Uint8Array | string>;
  static openSync(location: Location, options: StoreOptions & { encoding: 'number' }): Store<number>;
  static openSync<V>(location: Location, options: StoreOptions & { encoding: Codec<V> }): Store<V>;
  static openSync<V = any>(
    location: Location,
    options?: StoreOptions & { encoding?: 'auto' | 'json' | 'msgpack' },
  ): Store<V>;
  static openSync(location: Location, options?: StoreOptions & { encoding?: EncodingName | Codec<any> }): Store {
    const settings = toOpenOptions(location, options);
    options?.signal?.throwIfAborted();
    const start = performance.now();
    const handle = openSync(settings);
    const { thrown } = settings.progress;
    if (thrown === undefined) return new Store(new StoreCore(handle, settings, start));
    callNative(() => addon.storeCloseSync(handle));
    throw thrown.reason;
  }

  /**
   * Removes the file of a store; whoever has it open goes on with it. ERR_NOT_FOUND; ERR_FORMAT where it is not one of
   * ours: it is left untouched.
   */
  static async destroy(location: Location, options?: ReadOptions): Promise<void> {
    const path = toPath(location);
    const signal = checkReadOptions(options);
    await runJob(() => addon.storeDestroy(path), signal);
  }

  // ─────────────────────────────────────────────────────────── promises

  /** The value; undefined where the key is absent. */
  get(key: Key, options?: ReadOptions): Promise<V | undefined> {
    if (options === undefined) {
      try {
        const now = this.#core.getNow(key);
        if (now !== undefined) return now;
      } catch (thrown) {
        return Promise.reject(thrown);
      }
    }
    return this.#core.submit(Kind.get, key, options);
  }

  /** The values, in the order of the keys, as one consistent view: no write lands between two of them. */
  getMany(keys: Iterable<Key>, options?: ReadOptions): Promise<(V | undefined)[]> {
    return new Promise((resolve, reject) => {
      const all = [...checkIterable('keys', keys)];
      const signal = this.#core.begin(checkReadOptions(options));
      if (all.length === 0) resolve([]);
      else this.#core.scheduler.submitMany(all, resolve, reject, signal);
    });
  }

  has(key: Key, options?: ReadOptions): Promise<boolean> {
    return this.#core.submit(Kind.has, key, options);
  }

  /**
   * Resolves once every get that starts later, in any process, sees the value or a newer one; with durability 'system',
   * of this write or of the store, once a power cut cannot undo it either.
   */
  set(key: Key, value: In, options?: WriteOptions): Promise<void> {
    return new Promise((resolve, reject) => {
      const settings = checkWriteOptions(options);
      const signal = this.#core.begin(settings.signal);
      this.#core.checkWritable();
      checkKey(key);
      const encoded = encodeValue(this.#core.codec, value);
      const { scheduler } = this.#core;
      const lifetime = this.#core.lifetimeOf(settings);
      scheduler.submit(Kind.set, key, encoded, resolve, reject, signal, this.#core.isSystem(settings), lifetime);
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
    return this.#core.track(() => {
      const settings = checkWriteOptions(options);
      const signal = this.#core.begin(settings.signal);
      this.#core.checkWritable();
      const lifetime = this.#core.lifetimeOf(settings);
      return setMany(this.#core.scheduler, this.#core.codec, entries, signal, this.#core.isSystem(settings), lifetime);
    });
  }

  /** Resolves to whether the key was there. */
  delete(key: Key, options?: ReadOptions): Promise<boolean> {
    return this.#core.submit(Kind.delete, key, options);
  }

  /** Resolves to how many of the keys were there. Not atomic. */
  deleteMany(keys: Iterable<Key>, options?: ReadOptions): Promise<number> {
    return this.#core.track(() => {
      const signal = this.#core.begin(checkReadOptions(options));
      this.#core.checkWritable();
      return deleteMany(this.#core.scheduler, checkIterable('keys', keys), signal, this.#core.system);
    });
  }

  /** Removes every key that is there. Sets issued after it survive. */
  clear(options?: ReadOptions): Promise<void> {
    return new Promise((resolve, reject) => {
      const signal = this.#core.begin(checkReadOptions(options));
      this.#core.checkWritable();
      this.#core.scheduler.submitClear(resolve, reject, signal, this.#core.system);
    });
  }

  /**
   * Sets the key to `value` only where it holds `expected`, atomically across every process; resolves to whether it
   * did. Equality is of the encoded bytes, so that of objects the order of properties counts. `expected` undefined: only
   * where the key is absent; `value` undefined: deletes it. Like set() it clears an earlier time to live, or applies the
   * store's. Never blocks.
   */
  compareAndSet(key: Key, expected: In | undefined, value: In | undefined, options?: WriteOptions): Promise<boolean> {
    return compareAndSet(this.#core, key, expected, value, options);
  }

  /**
   * Begins a batch: sets, deletes and checks that its {@link Batch.commit} does all together or not at all, to readers
   * of every process, and across a crash.
   */
  batch(): Batch<In> {
    this.#core.checkOpen();
    return new Batch<In>(this.#core);
  }

  /**
   * Adds `by` (default 1) to the number that the key holds, atomically across every process; resolves to the sum. An
   * absent key counts from 0. A time to live stays, unless `options` has one. ERR_NOT_A_NUMBER: the value is no number
   * (with 'utf8' and 'buffer' the decimal text of one is, with a {@link Codec} what decodes to one);
   * ERR_OUT_OF_RANGE: the sum would be beyond ±2⁵³, or `by` is not finite. Then nothing has changed. Never blocks.
   */
  increment(key: Key, by?: number, options?: WriteOptions): Promise<number> {
    return increment(this.#core, key, by, options);
  }

  /**
   * Sets the key to what `change` makes of its value (undefined: absent), atomically across every process; resolves to
   * the new value. `change` is synchronous and may be called again where somebody else has written meanwhile; undefined
   * deletes. What it throws is what this rejects with, and nothing has changed. Other operations on the key wait for it
   * (in `change` the Sync methods, on this key, are ERR_BUSY). A time to live stays, unless `options` has one. Never
   * blocks.
   */
  update(key: Key, change: (value: V | undefined) => In | undefined, options?: WriteOptions): Promise<V | undefined> {
    return update(this.#core, key, change, options);
  }

  /** Milliseconds left to live, 1 at least; Infinity where there is no end, undefined where the key is absent. */
  ttl(key: Key, options?: ReadOptions): Promise<number | undefined> {
    return this.#core.submit(Kind.ttl, key, options);
  }

  /**
   * Lets the key live for `ttl` milliseconds from now (more than 0; Infinity: without end), whatever it had before;
   * the value stays. Resolves to whether the key was there. ERR_OUT_OF_RANGE. Never blocks.
   */
  touch(key: Key, ttl: number, options?: ReadOptions): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const lifetime = { ttl: checkTtl(ttl), keep: false };
      this.#core.submit<boolean>(Kind.touch, key, options, lifetime).then(resolve, reject);
    });
  }

  /**
   * The value with what is known about it: milliseconds left to live, 1 at least (Infinity: no end), and how many bytes
   * the encoded value has. undefined where the key is absent.
   */
  getEntry(key: Key, options?: ReadOptions): Promise<{ value: V; ttl: number; bytes: number } | undefined> {
    return this.#core.submit(Kind.entry, key, options);
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
    return new Iteration<[string, V]>(this.#core.source, shape, options);
  }

  /** The keys alone, as entries(). Values are not read. */
  keys(options?: IterateOptions & { keyEncoding?: 'utf8' }): AsyncIterableIterator<string>;
  keys(options: IterateOptions & { keyEncoding: 'buffer' }): AsyncIterableIterator<Buffer>;
  keys(
    options?: IterateOptions & { keyEncoding?: 'utf8' | 'buffer' },
  ): AsyncIterableIterator<string> | AsyncIterableIterator<Buffer> {
    const shape = { keys: true, values: false, keyEncoding: toKeyEncoding(options) };
    return new Iteration<string>(this.#core.source, shape, options);
  }

  /** The values alone, as entries(). */
  values(options?: IterateOptions): AsyncIterableIterator<V> {
    return new Iteration<V>(this.#core.source, { keys: false, values: true, keyEncoding: 'utf8' }, options);
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<[string, V]> {
    return this.entries();
  }

  /**
   * Resolves once a power cut cannot undo what was issued before the call. After a failure later ones fail too: reopen.
   */
  flush(options?: ReadOptions): Promise<void> {
    return this.#core.untilAbort(options, async () => {
      if (!this.#core.scheduler.isIdle) await this.#core.scheduler.idle();
      await this.#core.commit.flush();
    });
  }

  /** Share of the store's bytes that is in memory now, 0 … 1. ERR_UNSUPPORTED where it cannot be known. */
  residency(options?: ReadOptions): Promise<number> {
    return this.#core.untilAbort(options, (signal) => runJob(() => addon.storeResidency(this.#core.handle), signal));
  }

  /**
   * Brings what these keys hold into memory, in the background, at the queue depth of the device: then tryGet() answers
   * them, until the system wants the memory for something else. Absent keys are passed over. Other operations come in
   * between. ERR_IO and ERR_CORRUPT of the first key that cannot be read. An abort leaves what has come by then.
   */
  warm(keys: Iterable<Key>, options?: ReadOptions): Promise<void> {
    return this.#core.longWork('warm', options, (work) =>
      warm(this.#core.handle, packKeys(checkIterable('keys', keys)), work),
    );
  }

  /**
   * Changes by any process, this one too, that take effect after the call; those of a key in the order of their commits,
   * each once. Nothing is kept for a watcher: it reads what the store's own file still has.
   *
   * - `set`, with the value that was set; an operation that changes nothing but a time to live is not told.
   * - `delete`: 'deleted' by a call; 'expired', once for each value that expired: when that is noticed, some 50 ms later
   *   where a watcher of a store that may be written waits, or before whatever replaces the value or deletes it.
   * - `clear`, once for each, whatever the prefix: what was set before it comes before it, what is set once it has resolved
   *   comes after it.
   * - `gap`: changes were missed, and those that come now are newer: read again what you keep. The consumer was so slow
   *   that cleaning overtook it, a value of 64 KiB or more was replaced before it could be read, a clear was given up
   *   half-way, or something expired untold, as no watcher had asked for changes within 30 s.
   *
   * A waiting next() sleeps, without a thread of libuv's, and keeps the process alive; a watcher that is not asked does
   * neither. It ends with return() or a break, when this Store is closed, and with the signal: then next() rejects with
   * its reason. A readOnly store cannot ask to be woken: there a watcher looks at some words in memory every 20 ms, and expiries
   * that nobody else watches come as gaps.
   *
   * ERR_CLOSED, ERR_INVALID_ARG_TYPE and ERR_INVALID_ARG_VALUE are thrown; next() rejects with ERR_IO or ERR_CORRUPT.
   */
  watch(options?: WatchOptions): AsyncIterableIterator<Change<V>> {
    return new Watch<V>(this.#core.source, this.#core.watches, options);
  }

  /**
   * Gives back to the filesystem what no live record needs, down to about a tenth above what they take, while everybody
   * goes on reading and writing. Writers keep the file bounded without it; this is for less than that, now. It rewrites
   * what lives in the shards that have something to give, flushes, and resolves with how much less the file takes than
   * before. A damaged record stays where it is, with what is younger in its shard: ERR_CORRUPT with its place, once all
   * else has been done. Several at once are harmless. An abort leaves what has been done by then.
   */
  compact(options?: LongWork): Promise<{ freedBytes: number }> {
    return this.#core.longWork('compact', options, (work) => compact(this.#core.handle, this.location, work));
  }

  /**
   * Looks for damage while everybody goes on reading and writing: reads every record and large value and compares their
   * checksums, the index with the records, the tables with what uses them. What it finds is in the report; it rejects
   * only where the store is closed, a lock is not to be had (ERR_BUSY) or the signal aborts. Damage in what is written
   * or cleaned away meanwhile may be missed; sound data is never called damaged. Progress is counted in bytes. Memory:
   * about a hundredth of the index, and some bytes for each deleted key whose records are not yet cleaned away.
   */
  verify(options?: LongWork): Promise<VerifyReport> {
    return this.#core.longWork('verify', options, (work) => verify(this.#core.handle, work));
  }

  /**
   * Copies the store to a new file while everybody goes on reading and writing. The copy shows the store as it was at
   * one moment between the call and its end: everything that had resolved before that moment, in whatever process, and
   * nothing that was written later. It is a store of its own, closed and flushed, with the same encoding, maxBytes and onFull,
   * for its owner alone (0o600). It has only the space that its records need, shares blocks with the store where the
   * filesystem can, and is on the device when the promise resolves. Nothing is to be found at `to` before that, nor after
   * a failure, an abort or the death of the process. Read-only stores can be copied as well.
   *
   * Every record and value is verified; the damaged ones are not left out silently: ERR_CORRUPT, with the offset. ERR_IO
   * (either file; `path` says which, in the store with the offset), ERR_EXISTS (`to` is there already: never replaced),
   * ERR_NOT_FOUND and ERR_ACCESS (its directory), ERR_NO_SPACE, ERR_UNSUPPORTED, ERR_BUSY (a lock is not to be had, or
   * the store is written faster than it can be copied). Progress is counted in bytes, half of it for the copy, half for
   * its index. The signal counts until the last progress; then the file gets its name. Of a store that was opened with `salvage`, or read-only though it had to be recovered, the copy has what is sound.
   */
  backup(to: Location, options?: LongWork): Promise<void> {
    return this.#core.longWork('backup', options, async (work) => {
      const path = toPath(to);
      // What was issued before the call is to be in it.
      if (!this.#core.scheduler.isIdle) await untilAbort(this.#core.scheduler.idle(), work.signal);
      return backup(this.#core.handle, path, work);
    });
  }

  /**
   * Closes once everything issued before has finished. Again: harmless, and resolves when the first one does. An abort
   * ends the waiting alone: the store is closed all the same, as soon as the device lets it.
   */
  async close(options?: ReadOptions): Promise<void> {
    const signal = checkReadOptions(options);
    const closed = this.#core.close();
    await untilAbort(closed, signal);
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
    const hot = this.#core.getHot(key);
    if (hot !== COLD) return hot;
    const pending = this.#core.pendingWrite(key);
    if (pending === 'unknown') return COLD;
    if (pending === 'none') return this.#core.direct.tryGet(key);
    if (pending.kind === Kind.delete) return undefined;
    const [bytes, start, end] = pending.request.valueOf(pending);
    return decodeValue(this.#core.codec, bytes, start, end, false) as V;
  }

  /** Like tryGet(): whether the key is there. */
  tryHas(key: Key): boolean | Cold {
    const pending = this.#core.pendingWrite(key);
    if (pending === 'unknown') return COLD;
    if (pending !== 'none') return pending.kind === Kind.set;
    return this.#core.direct.tryHas(key);
  }

  // ─────────────────────────────────────────────────────────── for scripts, start-up and stores in RAM

  /** Like get(). May block. */
  getSync(key: Key): V | undefined {
    this.#core.beginSync(key, false);
    const hot = this.#core.getHot(key);
    if (hot !== COLD) return hot;
    return this.#core.direct.get(key);
  }

  /** Like has(). May block. */
  hasSync(key: Key): boolean {
    this.#core.beginSync(key, false);
    return this.#core.direct.has(key);
  }

  /** Like set(). May block. */
  setSync(key: Key, value: In, options?: WriteOptions): void {
    const settings = checkWriteOptions(options);
    settings.signal?.throwIfAborted();
    this.#core.checkWritable();
    checkKey(key);
    const lifetime = this.#core.lifetimeOf(settings);
    if (lifetime !== undefined) {
      setExpiringSync(this.#core, key, value, lifetime);
    } else {
      const encoded = this.#core.direct.encode(encodeValue(this.#core.codec, value));
      this.#core.beginSync(key, true);
      this.#core.direct.set(key, encoded);
    }
    this.#core.wroteSync(this.#core.isSystem(settings));
  }

  /** Like increment(). May block. */
  incrementSync(key: Key, by?: number, options?: WriteOptions): number {
    return incrementSync(this.#core, key, by, options);
  }

  /** Like delete(). May block. */
  deleteSync(key: Key): boolean {
    this.#core.checkWritable();
    this.#core.beginSync(key, true);
    const existed = this.#core.direct.delete(key);
    this.#core.wroteSync(this.#core.system);
    return existed;
  }

  /** Like clear(). May block. */
  clearSync(): void {
    this.#core.checkWritable();
    this.#core.scheduler.settleAll();
    callNative(() => addon.storeClearSync(this.#core.handle));
    this.#core.wroteSync(this.#core.system);
  }

  /** Like keys(). Each step of it may block. */
  keysSync(): IterableIterator<string> {
    this.#core.checkOpen();
    return iterateSync(this.#core.source, { keys: true, values: false, keyEncoding: 'utf8' });
  }

  /** Like entries(). Each step of it may block. */
  entriesSync(): IterableIterator<[string, V]> {
    this.#core.checkOpen();
    return iterateSync(this.#core.source, wholeEntries);
  }

  /** entriesSync(). */
  [Symbol.iterator](): IterableIterator<[string, V]> {
    return this.entriesSync();
  }

  /** Like flush(). May block. */
  flushSync(): void {
    this.#core.checkOpen();
    this.#core.scheduler.settleAll();
    this.#core.commit.flushSync();
  }

  /** Like close(). May block. A step of an iteration that has no thread yet fails with ERR_CLOSED. */
  closeSync(): void {
    this.#core.closeSync();
  }

  /** closeSync(). */
  [Symbol.dispose](): void {
    this.closeSync();
  }

  // ─────────────────────────────────────────────────────────── the whole

  /** Never blocks. */
  stats(): StoreStats {
    this.#core.checkOpen();
    return { ...callNative(() => addon.storeStats(this.#core.handle)), hot: this.#core.hot?.stats ?? noHotStats };
  }

  /** Live keys, expired ones that were not yet swept included; 0 once it is closed. Never blocks. */
  get size(): number {
    return this.closed ? 0 : addon.storeSize(this.#core.handle);
  }

  /** The file's absolute path, or shm:NAME. */
  get location(): string {
    return this.#core.location;
  }

  get readOnly(): boolean {
    return this.#core.readOnly;
  }

  /** True from the call of close() on. */
  get closed(): boolean {
    return this.#core.closing !== undefined;
  }
}
