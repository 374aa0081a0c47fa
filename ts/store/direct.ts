import { addon } from '../addon.js';
import type { EncodedValue, ValueCodec } from '../codec/codec.js';
import { decodeValue } from '../codec/encoding.js';
import { COLD, type Cold } from '../cold.js';
import { fromNative } from '../errors.js';
import type { Freshness, HotCache } from './hot-cache.js';
import { type Key, nameOf, writeKey } from './key.js';
import type { StoreHandle, SyncCalls } from './native.js';
import { toScratch } from './request.js';
import type { Uses } from './uses.js';

/** Layout of the scratch buffer: csrc/binding/store_sync.cc. */
const valueAt = 64 * 1024;
const freshnessAt = 2 * valueAt;
const freshnessBytes = 24;
const scratch = Buffer.allocUnsafeSlow(freshnessAt + freshnessBytes);
const freshnessWords = new Uint32Array(scratch.buffer, freshnessAt, 4);
const expiry = new Float64Array(scratch.buffer, freshnessAt + 16, 1);
const isAbsent = -1;
const isCold = -2;
/** Of storeSync: no value is to be answered as a string. */
const noText = -2;

type Answer = number | string | Buffer;

/** A value that was encoded, in the scratch buffer (its size) or in memory of its own. */
export type ScratchValue = number | Uint8Array;

/**
 * Reads and writes of one key on the calling thread, by one native call each. Keys have been checked; what of this
 * Store's operations has to come before is the caller's to see to.
 */
export class Direct<V> {
  readonly #calls: SyncCalls;
  readonly #codec: ValueCodec;
  readonly #hot: () => HotCache | undefined;
  readonly #uses: Uses | undefined;

  constructor(handle: StoreHandle, codec: ValueCodec, hot: () => HotCache | undefined, uses: Uses | undefined) {
    this.#calls = addon.storeSync(handle, scratch, codec.textMark ?? noText);
    this.#codec = codec;
    this.#hot = hot;
    this.#uses = uses;
  }

  // Each of these has its own try: a function object for each call is a tenth of a read of a hot key.

  /** May block. */
  get(key: Key): V | undefined {
    let answer: Answer;
    try {
      answer = this.#calls.get(writeKey(key, scratch, 0));
    } catch (thrown) {
      throw fromNative(thrown);
    }
    return this.#decode(key, answer);
  }

  tryGet(key: Key): V | undefined | Cold {
    let answer: Answer;
    try {
      answer = this.#calls.tryGet(writeKey(key, scratch, 0));
    } catch (thrown) {
      throw fromNative(thrown);
    }
    if (answer === isCold) return COLD;
    this.#uses?.wake(); // the native part has noted it
    return this.#decode(key, answer);
  }

  /** May block. */
  has(key: Key): boolean {
    try {
      return this.#calls.has(writeKey(key, scratch, 0)) !== isAbsent;
    } catch (thrown) {
      throw fromNative(thrown);
    }
  }

  tryHas(key: Key): boolean | Cold {
    try {
      const answer = this.#calls.tryHas(writeKey(key, scratch, 0));
      return answer === isCold ? COLD : answer !== isAbsent;
    } catch (thrown) {
      throw fromNative(thrown);
    }
  }

  /** To be handed to set() before anything else is encoded or read. */
  encode(value: EncodedValue): ScratchValue {
    return toScratch(value, scratch, valueAt);
  }

  /** May block. */
  set(key: Key, value: ScratchValue): void {
    try {
      this.#calls.set(writeKey(key, scratch, 0), value);
    } catch (thrown) {
      throw fromNative(thrown);
    }
  }

  /** May block. */
  delete(key: Key): boolean {
    try {
      return this.#calls.delete(writeKey(key, scratch, 0));
    } catch (thrown) {
      throw fromNative(thrown);
    }
  }

  #decode(key: Key, answer: Answer): V | undefined {
    const hot = this.#hot();
    const freshness = hot && freshnessOfScratch();
    if (typeof answer === 'string') {
      if (freshness !== undefined) hot?.offer(nameOf(key), answer, scratch, 0, answer.length, freshness);
      return answer as V;
    }
    if (answer === isAbsent) {
      if (freshness !== undefined) hot?.offer(nameOf(key), undefined, scratch, 0, 0, freshness);
      return undefined;
    }
    let own = typeof answer !== 'number';
    let bytes = typeof answer === 'number' ? scratch : answer;
    let start = typeof answer === 'number' ? valueAt : 0;
    let end = typeof answer === 'number' ? valueAt + answer : answer.length;
    if (freshness !== undefined && this.#codec.custom) {
      // A codec of somebody's own may read this store itself, and may change what it is given.
      bytes = own ? bytes : Buffer.from(scratch.subarray(start, end));
      end -= start;
      start = 0;
      own = false;
    }
    const value = decodeValue(this.#codec, bytes, start, end, own) as V;
    if (freshness !== undefined) hot?.offer(nameOf(key), value, bytes, start, end, freshness);
    return value;
  }
}

function freshnessOfScratch(): Freshness {
  return {
    slot: freshnessWords[0] as number,
    version: freshnessWords[1] as number,
    tag: freshnessWords[2] as number,
    expiresAtMs: expiry[0] as number,
  };
}
