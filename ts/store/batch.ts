import { checkOptions } from '../arguments.js';
import { encodeValue } from '../codec/encoding.js';
import { newError } from '../errors.js';
import { checkKeyShape, type Key, maxKeyBytes, nameOf, writeKey } from './key.js';
import { toBytes } from './request.js';
import type { StoreCore } from './store-core.js';
import { checkTtl, checkWriteOptions } from './store-options.js';

/** Options of {@link Batch.commit}. */
export interface CommitOptions {
  /** 'process': survives the death of any process; 'system': also of the machine, before the promise resolves. */
  durability?: 'process' | 'system';
  /** Rejects at once with the signal's reason; the batch has happened wholly or not at all. */
  signal?: AbortSignal;
}

/** Entries of a batch at most. */
export const maxBatchEntries = 65_536;
/** Bytes of all its keys and encoded values at most. */
const maxBatchBytes = 2 ** 30;

/** Of an entry in the list: csrc/binding/store_batch.h. */
const headerBytes = 16;
const entrySet = 0;
const entryDelete = 1;
const entryExpect = 2;
const entryExpectAbsent = 3;

/**
 * Sets, deletes and checks that happen together: all of them or nothing, to readers of every process and across a crash
 * of processes or of the machine. Made by {@link Store.batch}; nothing happens before {@link commit}.
 *
 * At most 65,536 entries and 1 GiB of keys and values (ERR_OUT_OF_RANGE), and of records, without the whole 64 KiB units
 * of large values, 16 MiB in one of the store's 16 shards: a batch of up to 16 MiB always fits, one of many keys up to
 * about 200 MiB. A batch is committed once; after that every method fails with ERR_CLOSED.
 */
export class Batch<In = any> {
  readonly #core: StoreCore<unknown>;
  #list: Buffer = Buffer.allocUnsafeSlow(1024);
  #used = 0;
  #length = 0;
  /** Names of its keys: whether it writes them. */
  readonly #names = new Map<string, boolean>();
  #over = false;

  /** @internal */
  constructor(core: StoreCore<any>) {
    this.#core = core;
  }

  /**
   * Sets a key; `ttl` in milliseconds counts from the commit. Of several entries that write one key the last one counts.
   * Key and value are captured now. Throws for keys and values that cannot be, and beyond the limits.
   */
  set(key: Key, value: In, options?: { ttl?: number }): this {
    checkOptions(options);
    const ttl = options?.ttl === undefined ? undefined : checkTtl(options.ttl);
    const lifetime = this.#core.lifetimeOf({ signal: undefined, durability: undefined, ttl });
    return this.#add(entrySet, key, this.#encode(key, value), lifetime?.ttl ?? 0);
  }

  /** Deletes a key, where it is there. */
  delete(key: Key): this {
    return this.#add(entryDelete, key, undefined, 0);
  }

  /**
   * The batch happens only where the key holds `expected` before it (undefined: is absent). Equality is of the encoded
   * bytes, so that of objects the order of properties counts.
   */
  check(key: Key, expected: In | undefined): this {
    if (expected === undefined) return this.#add(entryExpectAbsent, key, undefined, 0);
    return this.#add(entryExpect, key, this.#encode(key, expected), 0);
  }

  /** Sets, deletes and checks so far. */
  get length(): number {
    return this.#length;
  }

  /**
   * All of it happens, atomically across every process: resolves to true; or a check does not hold, and nothing has
   * happened: false. It comes after everything that was issued before on one of its keys through this Store, and before
   * everything issued later. ERR_READ_ONLY, ERR_STORE_FULL, ERR_NO_SPACE, ERR_BUSY: nothing has happened. Never blocks.
   */
  commit(options?: CommitOptions): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const settings = checkWriteOptions(options);
      const core = this.#core;
      this.#checkUsable();
      this.#over = true;
      core.begin(settings.signal);
      core.checkWritable();
      const list = this.#list.subarray(0, this.#used);
      this.#list = none;
      if (this.#length === 0) {
        resolve(true);
        return;
      }
      core.scheduler.submitBatch(this.#names, list, resolve, reject, settings.signal, core.isSystem(settings));
    });
  }

  #checkUsable(): void {
    if (this.#over) throw newError('ERR_CLOSED', 'The batch has been committed: begin another one');
  }

  #encode(key: Key, value: unknown): Uint8Array {
    this.#checkUsable();
    checkKeyShape(key);
    return toBytes(encodeValue(this.#core.codec, value));
  }

  #add(kind: number, key: Key, value: Uint8Array | undefined, ttl: number): this {
    this.#checkUsable();
    checkKeyShape(key);
    if (this.#length === maxBatchEntries) {
      throw newError('ERR_OUT_OF_RANGE', `A batch has at most ${maxBatchEntries} entries`);
    }
    const valueBytes = value?.length ?? 0;
    const name = nameOf(key);
    const start = this.#used;
    const most = start + headerBytes + Math.min(maxKeyBytes, 3 * key.length) + valueBytes;
    if (most > maxBatchBytes) throw newError('ERR_OUT_OF_RANGE', 'A batch has at most 1 GiB of keys and values');
    this.#reserve(most);
    const list = this.#list;
    const keyBytes = writeKey(key, list, start + headerBytes);
    list[start] = kind;
    list[start + 1] = 0;
    list.writeUInt16LE(keyBytes, start + 2);
    list.writeUInt32LE(valueBytes, start + 4);
    list.writeDoubleLE(ttl, start + 8);
    if (value !== undefined) list.set(value, start + headerBytes + keyBytes);
    this.#used = start + headerBytes + keyBytes + valueBytes;
    this.#length++;
    const writes = kind === entrySet || kind === entryDelete;
    if (writes || !this.#names.has(name)) this.#names.set(name, writes);
    return this;
  }

  #reserve(bytes: number): void {
    if (bytes <= this.#list.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(bytes, 2 * this.#list.length));
    this.#list.copy(larger, 0, 0, this.#used);
    this.#list = larger;
  }
}

const none = Buffer.alloc(0);
