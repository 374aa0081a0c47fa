// What the suites of Store share.
import assert from 'node:assert/strict';
import { pbkdf2 } from 'node:crypto';
import { closeSync, openSync, readFileSync, readSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { after } from 'node:test';
import { directory } from './mapped-file-fixture.js';

export { Random } from './fixtures/random.js';
export { directory, endsWith, rejects, runScript, throws, wrong } from './mapped-file-fixture.js';

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

/** Changes one byte of the file where `text` stands first; answers where that is. */
export function damage(path: string, text: string): number {
  const position = readFileSync(path).indexOf(text);
  assert.ok(position > 0);
  const fd = openSync(path, 'r+');
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, position);
  writeSync(fd, Buffer.from([(byte[0] as number) ^ 1]), 0, 1, position);
  closeSync(fd);
  return position;
}

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

/** The seed of a random test: FAULTLESS_SEED, or a new one. Printed, so that a failure can be repeated. */
export function newSeed(what: string): number {
  const seed = Number(process.env.FAULTLESS_SEED ?? Date.now() % 2 ** 32);
  console.log(`${what}: FAULTLESS_SEED=${seed}`);
  return seed;
}
