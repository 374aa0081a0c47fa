/**
 * What is stored: the same for every system. Keys of 20 bytes whose order has nothing to do with their numbers, values of 128
 * bytes that no compression makes smaller, taken from a pool that stays in the processor's cache: so a comparison with
 * the right value costs next to nothing, and it is made for every answer.
 */
import type { Stored } from './systems/system.js';

export const keyBytes = 20;
export const valueBytes = 128;
const poolSize = 1024; // a power of two

/** A small generator of random numbers, the same everywhere: mulberry32. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 0 … 2³² − 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  }

  /** 0 … limit − 1. */
  below(limit: number): number {
    return Math.floor((this.next() / 2 ** 32) * limit);
  }

  /** `count` numbers of 0 … limit − 1. */
  list(count: number, limit: number): Uint32Array {
    return Uint32Array.from({ length: count }, () => this.below(limit));
  }
}

/** Numbers of 0 … limit − 1 by Zipf's law: number i comes (i + 1)^−exponent times as often as number 0. */
export class Zipf {
  readonly #random: Random;
  /** Of number i: how many of all are it or smaller ones. */
  readonly #shares: Float64Array;

  constructor(seed: number, limit: number, exponent = 0.99) {
    this.#random = new Random(seed);
    this.#shares = new Float64Array(limit);
    let sum = 0;
    for (let i = 0; i < limit; i++) {
      sum += (i + 1) ** -exponent;
      this.#shares[i] = sum;
    }
    for (let i = 0; i < limit; i++) this.#shares[i] = (this.#shares[i] as number) / sum;
  }

  next(): number {
    const share = this.#random.next() / 2 ** 32;
    let [low, high] = [0, this.#shares.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#shares[middle] as number) > share) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** `count` numbers. */
  list(count: number): Uint32Array {
    return Uint32Array.from({ length: count }, () => this.next());
  }
}

/** Keys number `from` to `from + count`: `k`, eight hexadecimal digits without order, `-`, ten digits. */
export function makeKeys(count: number, from = 0): string[] {
  return Array.from({ length: count }, (_, i) => {
    const number = from + i;
    const scattered = new Random(number).next().toString(16).padStart(8, '0');
    // By way of bytes: a string that V8 holds in one piece, not as a tree of parts.
    return Buffer.from(`k${scattered}-${String(number).padStart(10, '0')}`, 'latin1').toString('latin1');
  });
}

/** The number that a key ends with: its last ten digits. */
export function numberOf(key: string): number {
  let number = 0;
  for (let i = keyBytes - 10; i < keyBytes; i++) number = number * 10 + key.charCodeAt(i) - 48;
  return number;
}

/** The values, and what is right. Version 0 is what a store is filled with; writes move on to later ones. */
export class Values {
  readonly kind: 'strings' | 'bytes';
  readonly #strings: string[];
  readonly #buffers: Buffer[];

  /** `size`: of each value, in bytes; a multiple of 4. */
  constructor(kind: 'strings' | 'bytes', size: number = valueBytes) {
    this.kind = kind;
    const random = new Random(7);
    this.#buffers = Array.from({ length: poolSize }, () => {
      const bytes = Buffer.from({ length: (size * 3) / 4 } as ArrayLike<number>);
      for (let i = 0; i < bytes.length; i++) bytes[i] = random.next();
      return Buffer.from(bytes.toString('base64'), 'latin1');
    });
    this.#strings = this.#buffers.map((bytes) => bytes.toString('latin1'));
  }

  #index(number: number, version: number): number {
    return (Math.imul(number, 0x9e3779b1) + Math.imul(version, 0x85ebca6b)) & (poolSize - 1);
  }

  of(number: number, version = 0): Stored {
    const index = this.#index(number, version);
    return (this.kind === 'strings' ? this.#strings[index] : this.#buffers[index]) as Stored;
  }

  /** Throws where `value` is not what key `number` holds in this version. */
  check(number: number, value: Stored | Uint8Array | undefined, version = 0): void {
    const index = this.#index(number, version);
    if (this.kind === 'strings') {
      if (value === this.#strings[index]) return;
    } else if (value instanceof Uint8Array && isSame(this.#buffers[index] as Buffer, value)) {
      return;
    }
    throw new Error(`wrong answer for key ${number}: ${String(value).slice(0, 100)}`);
  }
}

/** All bytes; few are compared here, which is cheaper than a call of native code. */
function isSame(a: Buffer, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  if (a.length > 256) return a.equals(b);
  let difference = 0;
  for (let i = 0; i < a.length; i++) difference |= (a[i] as number) ^ (b[i] as number);
  return difference === 0;
}
