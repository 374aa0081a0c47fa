import type { ReadOptions } from '../options.js';
import type { Batch } from './batch.js';
import type { Key } from './key.js';
import type { IterateOptions, WriteOptions } from './store-options.js';

/**
 * What holds for a store on this machine and for one elsewhere alike: a program written against it can change one for
 * the other. {@link Store} is one, with more methods. V is what comes out, In what goes in.
 *
 * Each method never blocks, and rejects with a FaultlessError, or with the reason of the signal in its options.
 */
export interface KeyValueStore<V = any, In = V> extends AsyncIterable<[string, V]>, AsyncDisposable {
  /** The value; undefined where the key is absent. */
  get(key: Key, options?: ReadOptions): Promise<V | undefined>;
  /** The values, in the order of the keys. In an embedded store one consistent view: no write lands between two of them. */
  getMany(keys: Iterable<Key>, options?: ReadOptions): Promise<(V | undefined)[]>;
  has(key: Key, options?: ReadOptions): Promise<boolean>;
  set(key: Key, value: In, options?: WriteOptions): Promise<void>;
  /** Not atomic: where it rejects, earlier entries may stand. batch() is all or nothing. */
  setMany(
    entries: Iterable<readonly [Key, In]> | AsyncIterable<readonly [Key, In]>,
    options?: WriteOptions,
  ): Promise<void>;
  /** Resolves to whether the key was there. */
  delete(key: Key, options?: ReadOptions): Promise<boolean>;
  /** Resolves to how many of the keys were there. Not atomic. */
  deleteMany(keys: Iterable<Key>, options?: ReadOptions): Promise<number>;
  /** Sets issued after it survive. */
  clear(options?: ReadOptions): Promise<void>;

  /** Atomic. Equality is of the encoded bytes. `expected` undefined: only where absent; `value` undefined: deletes. */
  compareAndSet(key: Key, expected: In | undefined, value: In | undefined, options?: WriteOptions): Promise<boolean>;
  /** Atomic; an absent key counts from 0. ERR_NOT_A_NUMBER; past ±2⁵³ ERR_OUT_OF_RANGE, with nothing changed. */
  increment(key: Key, by?: number, options?: WriteOptions): Promise<number>;
  /** Atomic. `change` is synchronous and may be called again; undefined deletes. */
  update(key: Key, change: (value: V | undefined) => In | undefined, options?: WriteOptions): Promise<V | undefined>;
  /** Milliseconds left, Infinity where there is no end, undefined where the key is absent. */
  ttl(key: Key, options?: ReadOptions): Promise<number | undefined>;
  /** Milliseconds to live from now; resolves to whether the key was there. */
  touch(key: Key, ttl: number, options?: ReadOptions): Promise<boolean>;

  /** Writes that happen together, or not at all. */
  batch(): Batch<In>;

  entries(options?: IterateOptions & { keyEncoding?: 'utf8' }): AsyncIterableIterator<[string, V]>;
  entries(options: IterateOptions & { keyEncoding: 'buffer' }): AsyncIterableIterator<[Buffer, V]>;
  keys(options?: IterateOptions & { keyEncoding?: 'utf8' }): AsyncIterableIterator<string>;
  keys(options: IterateOptions & { keyEncoding: 'buffer' }): AsyncIterableIterator<Buffer>;
  values(options?: IterateOptions): AsyncIterableIterator<V>;

  /** Once everything issued before has finished. */
  close(options?: ReadOptions): Promise<void>;
  readonly closed: boolean;
}
