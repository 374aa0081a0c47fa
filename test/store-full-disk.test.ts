// A filesystem without room: ERR_NO_SPACE for what needs more, whichever allocation it is, with nothing changed; deletes
// work, and everything does once there is room again. How much is free varies in small steps, so that each kind of
// allocation is the one that fails in some of them.
import assert from 'node:assert/strict';
import { readdirSync, rmSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { FaultlessError, Store } from 'faultless';
import { run } from './rig/commands.js';
import { SmallDisk } from './rig/small-disk.js';
import { newSeed, Random } from './store-fixture.js';

const KiB = 1024;
const MiB = 1024 * KiB;

type BufferStore = Store<Buffer, Uint8Array | string>;
type Model = Map<string, Buffer>;

const opened = new Set<BufferStore>();

/** Closed after the test, before its disk goes. */
async function open(path: string): Promise<BufferStore> {
  const store = await Store.open(path, { encoding: 'buffer' });
  opened.add(store);
  return store;
}

/** A disk whose room is what the test leaves. */
class FullDisk {
  readonly directory: string;
  readonly #ballast: string;
  readonly #rest: string;
  /** What ext4 keeps for its own needs, and counts as free. */
  #kept = 0;

  private constructor(directory: string) {
    this.directory = directory;
    this.#ballast = join(directory, 'ballast');
    this.#rest = join(directory, 'rest');
  }

  static async forTest(t: TestContext, sizeMiB: number): Promise<FullDisk | undefined> {
    t.after(async () => {
      for (const store of opened) await store.close().catch(() => {});
      opened.clear();
    });
    const small = await SmallDisk.forTest(t, { sizeMiB, journal: false });
    if (small === undefined) return undefined;
    const disk = new FullDisk(small.directory);
    await disk.takeRest();
    disk.#kept = disk.#free();
    await disk.giveBack();
    return disk;
  }

  #free(): number {
    const { bfree, bsize } = statfsSync(this.directory);
    return bfree * bsize;
  }

  /** Takes all room but about that much. */
  async leave(bytes: number): Promise<void> {
    await this.giveBack();
    await run('fallocate', ['--length', `${this.#free() - this.#kept - bytes - 4 * KiB}`, this.#ballast]);
    const free = this.#free() - this.#kept;
    assert.ok(Math.abs(free - bytes) <= 16 * KiB, `${free} bytes are free, not ${bytes}`);
  }

  /** Takes what is left, to the last block. */
  async takeRest(): Promise<void> {
    await run('sh', ['-c', 'cat /dev/zero > "$1" 2>/dev/null || true', 'sh', this.#rest]);
  }

  async giveBack(): Promise<void> {
    rmSync(this.#ballast, { force: true });
    rmSync(this.#rest, { force: true });
    // A removed file's blocks come back a little later.
    await run('sync', ['--file-system', this.directory]);
  }
}

/** True where there was no room; any other failure is one of the test. */
async function hadNoRoom(work: Promise<unknown>, what: string): Promise<boolean> {
  try {
    await work;
    return false;
  } catch (error) {
    assert.ok(error instanceof FaultlessError && error.code === 'ERR_NO_SPACE', `${what}: ${error}`);
    return true;
  }
}

/** The store holds what the model does, nothing else, and is sound. */
async function assertHolds(store: BufferStore, model: Model, when: string): Promise<void> {
  assert.equal(store.size, model.size, `size ${when}`);
  let seen = 0;
  for await (const [key, value] of store) {
    assert.ok(model.get(key)?.equals(value), `${key} ${when}`);
    seen++;
  }
  assert.equal(seen, model.size, `entries ${when}`);
  const report = await store.verify();
  assert.deepEqual(report.damaged, [], when);
}

function valueSize(random: Random): number {
  const kind = random.below(100);
  if (kind < 60) return random.below(200);
  if (kind < 85) return 1000 + random.below(3000);
  if (kind < 95) return 20_000 + random.below(40_000);
  return 64 * KiB + random.below(400 * KiB);
}

const bytesOf = (random: Random, size: number): Buffer => Buffer.alloc(size, `${random.below(2 ** 32)} `);

describe('a disk without room', () => {
  test('whatever is free: ERR_NO_SPACE and nothing changed; deletes work; so does all once there is room', async (t) => {
    const disk = await FullDisk.forTest(t, 48);
    if (disk === undefined) return;
    const random = new Random(newSeed('full disk'));
    const path = join(disk.directory, 'store');
    const failed = { open: 0, set: 0, large: 0, flush: 0 };
    for (let free = 0; free < 10 * MiB; free += free < MiB ? 200 * KiB : 600 * KiB + random.below(1400 * KiB)) {
      const what = `with ${free} bytes free`;
      await disk.leave(free);
      const before: string[] = readdirSync(disk.directory);
      let store: BufferStore;
      try {
        store = await open(path);
      } catch (error) {
        assert.ok(error instanceof FaultlessError && error.code === 'ERR_NO_SPACE', `${what}: ${error}`);
        assert.deepEqual(readdirSync(disk.directory), before, `${what} nothing is left behind`);
        failed.open++;
        continue;
      }
      const model: Model = new Map();
      for (let failures = 0, i = 0; failures < 20 && i < 1000; i++) {
        const key = `key-${random.below(1500)}`;
        const kind = random.below(100);
        if (kind < 3) {
          if (await hadNoRoom(store.flush(), `flush ${what}`)) failed.flush++;
        } else if (kind < 10) {
          assert.equal(await store.delete(key), model.delete(key), `delete ${what}`);
        } else {
          const value = bytesOf(random, valueSize(random));
          if (await hadNoRoom(store.set(key, value), `set of ${value.length} bytes ${what}`)) {
            failed[value.length >= 64 * KiB ? 'large' : 'set']++;
            failures++;
            const old = model.get(key);
            const now = await store.get(key);
            assert.ok(old === undefined ? now === undefined : now?.equals(old), `${key} is as it was`);
          } else {
            model.set(key, value);
          }
        }
      }
      await assertHolds(store, model, `full, ${what}`);
      // Half of it goes while there is no room: what is left is as it was, and what was given back can be used.
      const keys = [...model.keys()];
      for (const key of keys.filter(() => random.below(2) === 0)) {
        assert.equal(await store.delete(key), true, `delete ${what}`);
        model.delete(key);
      }
      await assertHolds(store, model, `after deletes, ${what}`);
      if (random.below(2) === 0) {
        await store.close();
        store = await open(path);
        await assertHolds(store, model, `closed and opened while full, ${what}`);
      }
      await disk.giveBack();
      for (let i = 0; i < 100; i++) {
        const key = `key-${random.below(1500)}`;
        const value = bytesOf(random, valueSize(random));
        await store.set(key, value);
        model.set(key, value);
      }
      await store.flush();
      await store.close();
      store = await open(path);
      await assertHolds(store, model, `opened with room, ${what}`);
      await store.close();
      await Store.destroy(path);
    }
    console.log(`failed for want of room: ${JSON.stringify(failed)}`);
    for (const [kind, times] of Object.entries(failed)) if (kind !== 'flush') assert.ok(times > 0, `${kind} failed`);
  });

  test('everything can be deleted while it is full, in any order; then there is room', async (t) => {
    const disk = await FullDisk.forTest(t, 32);
    if (disk === undefined) return;
    const random = new Random(newSeed('full disk, deletes'));
    for (const [name, size] of [
      ['tiny', () => 8],
      ['medium', () => 10_000 + random.below(50_000)],
      ['large', () => 64 * KiB + random.below(MiB)],
      ['mixed', () => valueSize(random)],
    ] as const) {
      const path = join(disk.directory, name);
      await disk.leave(4 * MiB + random.below(2 * MiB));
      const store = await open(path);
      const model: Model = new Map();
      for (let failures = 0, next = 0; failures < 50; ) {
        const batch = Array.from({ length: 100 }, () => [`key-${next++}`, bytesOf(random, size())] as const);
        const noRoom = await Promise.all(batch.map(([key, value]) => hadNoRoom(store.set(key, value), `set, ${name}`)));
        for (const [index, [key, value]] of batch.entries()) if (!noRoom[index]) model.set(key, value);
        failures += noRoom.filter(Boolean).length;
      }
      // What other files leave goes, too.
      await disk.takeRest();
      await assertHolds(store, model, `full, ${name}`);
      const overwritten = [...model.keys()].slice(0, 200);
      for (const key of overwritten) {
        const value = bytesOf(random, size());
        if (!(await hadNoRoom(store.set(key, value), `overwrite, ${name}`))) model.set(key, value);
      }
      await assertHolds(store, model, `overwritten, ${name}`);

      const keys = [...model.keys()].sort(() => random.next() - 0.5);
      for (const [index, key] of keys.entries()) {
        const deleted = await store.delete(key).catch((error: unknown) => error);
        assert.equal(deleted, true, `delete ${index} of ${keys.length}, ${name}`);
      }
      await assertHolds(store, new Map(), `emptied, ${name}`);
      await store.flush();
      const again = keys.slice(0, Math.floor(keys.length / 4));
      for (const key of again) await store.set(key, model.get(key) as Buffer);
      await store.clear();
      await store.close();
      await Store.destroy(path);
    }
  });
});
