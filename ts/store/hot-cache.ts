import { addon } from '../addon.js';
import type { ValueCodec } from '../codec/codec.js';
import { decodeValue } from '../codec/encoding.js';
import type { StoreHandle } from './native.js';
import type { StoreStats } from './stats.js';
import type { Uses } from './uses.js';

/** What an entry takes besides its key and its value, bytes: the entry, its place in the map. About. */
const entryOverheadBytes = 200;
/** A value larger than this share of the cache has no place in it. */
const largestShare = 1 / 16;
/** A key is remembered by its tag before it gets a place: so many bytes of the cache for each tag. */
const bytesPerTag = 128;
const mostTags = 2 ** 16;

/** A copy of what a key held, or that it was absent. */
interface Entry {
  readonly name: string;
  /** Of the key's hash. */
  readonly tag: number;
  /** Index of its version slot's word, and what that held when the value was read. */
  word: number;
  version: number;
  /** By the store's clock, ms; 0: never. */
  expiresAtMs: number;
  /** Where it cannot be changed: a primitive, or undefined for an absent key. */
  value: unknown;
  /** Everything else is decoded anew each time. */
  encoded: Buffer | undefined;
  bytes: number;
  /** It has been found since the hand went by. */
  visited: boolean;
  newer: Entry | undefined;
  older: Entry | undefined;
}

/** Until when what was read is the newest: Freshness of csrc/store/store.h. */
export interface Freshness {
  readonly slot: number;
  readonly version: number;
  readonly tag: number;
  readonly expiresAtMs: number;
}

/**
 * Copies of values in this process, coherent with every process: each is used only as long as its version slot, a word
 * in memory that all processes share, holds what it held when the value was read. Every write of a key, by anybody,
 * moves the slot on before it resolves; a slot that comes round to an old version moves the epoch on before.
 *
 * A key gets a place when it is read a second time while its tag is remembered, so that a walk over many keys leaves
 * the cache as it was. Room is made by SIEVE (Zhang et al., NSDI 2024): a hand goes from old to new and takes the first
 * entry that was not found since it came by.
 *
 * Primitives are handed out as they are. Everything else can be changed by who gets it, and is decoded anew from bytes
 * that nobody else has.
 */
export class HotCache {
  readonly #handle: StoreHandle;
  readonly #codec: ValueCodec;
  readonly #limitBytes: number;
  /** To be told of hits, where they count. */
  readonly #uses: Uses | undefined;
  readonly #buffer: ArrayBuffer;
  readonly #words: Int32Array;
  readonly #epochWord: number;
  readonly #firstSlotWord: number;
  readonly #entries = new Map<string, Entry>();
  readonly #tags: Uint32Array;
  #epoch: number;
  #bytes = 0;
  #newest: Entry | undefined;
  #oldest: Entry | undefined;
  #hand: Entry | undefined;
  #hits = 0;
  #misses = 0;
  #evictions = 0;
  #stale = 0;

  /** undefined where `limitBytes` is 0, or versions cannot be read without waiting. */
  static create(
    handle: StoreHandle,
    codec: ValueCodec,
    limitBytes: number,
    uses: Uses | undefined,
  ): HotCache | undefined {
    const versions = limitBytes === 0 ? undefined : addon.storeVersions(handle);
    return (
      versions &&
      new HotCache(handle, codec, limitBytes, uses, versions.buffer, versions.epochWord, versions.firstSlotWord)
    );
  }

  private constructor(
    handle: StoreHandle,
    codec: ValueCodec,
    limitBytes: number,
    uses: Uses | undefined,
    buffer: ArrayBuffer,
    epochWord: number,
    firstSlotWord: number,
  ) {
    this.#handle = handle;
    this.#codec = codec;
    this.#limitBytes = limitBytes;
    this.#uses = uses;
    this.#buffer = buffer;
    this.#words = new Int32Array(buffer);
    this.#epochWord = epochWord;
    this.#firstSlotWord = firstSlotWord;
    this.#epoch = Atomics.load(this.#words, epochWord);
    const tags = Math.min(mostTags, Math.max(64, limitBytes / bytesPerTag));
    this.#tags = new Uint32Array(2 ** Math.ceil(Math.log2(tags)));
  }

  /** The entry of a key, where it is the newest. */
  find(name: string): Entry | undefined {
    const entry = this.#entries.get(name);
    if (entry === undefined) {
      this.#misses++;
      return undefined;
    }
    // In this order: whoever lets a version come round has moved the epoch on before.
    if (Atomics.load(this.#words, entry.word) !== entry.version) return this.#outdated(entry);
    if (Atomics.load(this.#words, this.#epochWord) !== this.#epoch) return this.#outdated(entry);
    if (entry.expiresAtMs !== 0 && entry.expiresAtMs <= addon.storeNow(this.#handle)) return this.#outdated(entry);
    entry.visited = true;
    this.#hits++;
    if (this.#uses !== undefined && (entry.encoded ?? entry.value) !== undefined) this.#uses.note(entry.tag);
    return entry;
  }

  /** What a found entry holds; undefined: the key is absent. Throws where a codec does. */
  valueOf(entry: Entry): unknown {
    const { encoded } = entry;
    return encoded === undefined ? entry.value : decodeValue(this.#codec, encoded, 0, encoded.length, false);
  }

  /** Takes in what was read: `value`, decoded from bytes[start … end), or undefined for an absent key. */
  offer(name: string, value: unknown, bytes: Buffer, start: number, end: number, freshness: Freshness): void {
    const { tag, version } = freshness;
    if ((version & 1) !== 0) return;
    const place = tag & (this.#tags.length - 1);
    if (this.#tags[place] !== tag) {
      this.#tags[place] = tag;
      return;
    }
    const size = entryOverheadBytes + 2 * name.length + (end - start);
    if (size > this.#limitBytes * largestShare) return;
    const known = this.#entries.get(name);
    if (known !== undefined) this.#drop(known);
    const changeable = (typeof value === 'object' && value !== null) || typeof value === 'function';
    const entry: Entry = {
      name,
      tag,
      word: this.#firstSlotWord + freshness.slot,
      version: version | 0,
      expiresAtMs: freshness.expiresAtMs,
      value: changeable ? undefined : value,
      encoded: changeable ? Buffer.from(bytes.subarray(start, end)) : undefined,
      bytes: size,
      visited: false,
      newer: undefined,
      older: this.#newest,
    };
    if (this.#newest === undefined) this.#oldest = entry;
    else this.#newest.newer = entry;
    this.#newest = entry;
    this.#entries.set(name, entry);
    this.#bytes += size;
    while (this.#bytes > this.#limitBytes) this.#evict();
  }

  get stats(): StoreStats['hot'] {
    return {
      entries: this.#entries.size,
      bytes: this.#bytes,
      hits: this.#hits,
      misses: this.#misses,
      evictions: this.#evictions,
      stale: this.#stale,
    };
  }

  /** The store is closed: lets go of its memory. Not to be used any more. */
  close(): void {
    addon.storeForgetVersions(this.#buffer);
  }

  #outdated(entry: Entry): undefined {
    this.#stale++;
    this.#misses++;
    const epoch = Atomics.load(this.#words, this.#epochWord);
    if (epoch === this.#epoch) {
      this.#drop(entry);
      return undefined;
    }
    this.#epoch = epoch;
    this.#entries.clear();
    this.#bytes = 0;
    this.#newest = undefined;
    this.#oldest = undefined;
    this.#hand = undefined;
    return undefined;
  }

  #evict(): void {
    let entry = (this.#hand ?? this.#oldest) as Entry;
    while (entry.visited) {
      entry.visited = false;
      entry = (entry.newer ?? this.#oldest) as Entry;
    }
    this.#hand = entry;
    this.#evictions++;
    this.#drop(entry);
  }

  #drop(entry: Entry): void {
    const { newer, older } = entry;
    if (newer === undefined) this.#newest = older;
    else newer.older = older;
    if (older === undefined) this.#oldest = newer;
    else older.newer = newer;
    if (this.#hand === entry) this.#hand = newer;
    this.#entries.delete(entry.name);
    this.#bytes -= entry.bytes;
  }
}
