// What the suites of Store share.
import { pbkdf2 } from 'node:crypto';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { after } from 'node:test';
import { directory } from './mapped-file-fixture.js';

export { directory, endsWith, rejects, runScript, throws } from './mapped-file-fixture.js';

let stores = 0;

/** The path of a store that is not there yet. */
export function newPath(): string {
  return join(directory, `store-${process.pid}-${stores++}`);
}

/** A name in shared memory that is not taken; gone after the suite. */
export function newSharedName(): string {
  const name = `test.${process.pid}.${stores++}`;
  after(() => rmSync(`/dev/shm/faultless.${name}`, { force: true }));
  return `shm:${name}`;
}

/** Values that are wrong on purpose. */
export const wrong = (value: unknown): never => value as never;

/**
 * Keeps all of libuv's threads busy for about half a second: what is issued meanwhile waits in libuv's queue. Resolves
 * when they are free again.
 */
export async function occupyThreads(): Promise<void> {
  const threads = Number(process.env.UV_THREADPOOL_SIZE ?? 4);
  await Promise.all(
    Array.from({ length: threads }, () => {
      return new Promise((resolve) => pbkdf2('password', 'salt', 400_000, 64, 'sha512', resolve));
    }),
  );
}

/** A generator of pseudo-random numbers: the same ones for the same seed. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 0 ≤ it < 1. (mulberry32) */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  /** 0 ≤ it < limit, an integer. */
  below(limit: number): number {
    return Math.floor(this.next() * limit);
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)] as T;
  }

  bytes(size: number): Buffer {
    const bytes = Buffer.allocUnsafe(size);
    for (let i = 0; i < size; i++) bytes[i] = this.below(256);
    return bytes;
  }
}

/** The seed of a random test: FAULTLESS_SEED, or a new one. Printed, so that a failure can be repeated. */
export function newSeed(what: string): number {
  const seed = Number(process.env.FAULTLESS_SEED ?? Date.now() % 2 ** 32);
  console.log(`${what}: FAULTLESS_SEED=${seed}`);
  return seed;
}
