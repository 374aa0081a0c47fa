import { EventEmitter } from 'node:events';
import type { Location } from './location.js';
import { Store } from './store/store.js';
import type { StoreOptions } from './store/store-options.js';

/** Keys that clear() takes together. */
const clearedTogether = 1_000;

export interface KeyvEntry {
  key: string;
  value: any;
  /** Milliseconds to live. */
  ttl?: number;
}

/**
 * A storage adapter, of one Keyv, for {@link https://keyv.org | Keyv}: `new Keyv({ store: new KeyvFaultless('./cache.store') })`. It
 * uses a Store that is open, and leaves it open, or opens the one at a location at the first call and closes it by
 * disconnect(). Errors are FaultlessErrors; Keyv emits them as 'error'.
 *
 * Keyv puts values into text before they come here; what it hands over as it is (`serialize: undefined`) is kept by the
 * encoding 'auto'. A time to live counts in every process, and Keyv checks it once more by its own clock. Namespaces are prefixes: `namespace:key`.
 */
export class KeyvFaultless extends EventEmitter {
  /** Of Keyv. */
  opts: Record<string, unknown>;
  /** Set by Keyv; what clear() is about. undefined: everything. */
  namespace: string | undefined;
  readonly #location: Location | undefined;
  readonly #options: StoreOptions;
  #store: Promise<Store> | undefined;

  constructor(store: Store | Location, options: StoreOptions = {}) {
    super();
    // Keyv 5 offers iterator() for dialects that it knows, and uses the name for nothing else.
    this.opts = { ...options, dialect: 'redis' };
    this.#options = options;
    if (store instanceof Store) this.#store = Promise.resolve(store);
    else this.#location = store;
  }

  async get<Value>(key: string): Promise<Value | undefined> {
    return (await this.#open()).get(key);
  }

  async getMany<Value>(keys: string[]): Promise<(Value | undefined)[]> {
    return (await this.#open()).getMany(keys);
  }

  /** `ttl`: milliseconds; undefined: that of the store. */
  async set(key: string, value: any, ttl?: number): Promise<boolean> {
    await (await this.#open()).set(key, value, optionsOf(ttl));
    return true;
  }

  async setMany(entries: KeyvEntry[]): Promise<void> {
    const store = await this.#open();
    await Promise.all(entries.map(({ key, value, ttl }) => store.set(key, value, optionsOf(ttl))));
  }

  async has(key: string): Promise<boolean> {
    return (await this.#open()).has(key);
  }

  async hasMany(keys: string[]): Promise<boolean[]> {
    const store = await this.#open();
    return Promise.all(keys.map((key) => store.has(key)));
  }

  async delete(key: string): Promise<boolean> {
    return (await this.#open()).delete(key);
  }

  /** Whether any of them was there. */
  async deleteMany(keys: string[]): Promise<boolean> {
    return (await (await this.#open()).deleteMany(keys)) > 0;
  }

  /** Removes the keys of the namespace that are there. */
  async clear(): Promise<void> {
    const store = await this.#open();
    if (this.namespace === undefined) return store.clear();
    let together: string[] = [];
    for await (const key of store.keys({ prefix: prefixOf(this.namespace) })) {
      together.push(key);
      if (together.length < clearedTogether) continue;
      await store.deleteMany(together);
      together = [];
    }
    await store.deleteMany(together);
  }

  /** Keys with their prefix, as Keyv expects them. */
  async *iterator<Value>(namespace?: string): AsyncGenerator<[string, Value], void> {
    const store = await this.#open();
    yield* store.entries(namespace === undefined ? {} : { prefix: prefixOf(namespace) });
  }

  /** Closes the store, where this has opened it. The next call opens it again. */
  async disconnect(): Promise<void> {
    if (this.#location === undefined) return;
    const opening = this.#store;
    this.#store = undefined;
    await (await opening)?.close();
  }

  #open(): Promise<Store> {
    if (this.#store !== undefined) return this.#store;
    const opening = Store.open(this.#location as Location, this.#options);
    this.#store = opening;
    // What failed once may work the next time.
    opening.catch(() => {
      if (this.#store === opening) this.#store = undefined;
    });
    return opening;
  }
}

function prefixOf(namespace: string): string {
  return `${namespace}:`;
}

function optionsOf(ttl: number | undefined): { ttl: number } | undefined {
  return ttl === undefined || ttl === null || ttl <= 0 ? undefined : { ttl };
}

export default KeyvFaultless;
