// Durability 'system' and { everyMs }: what a write waits for, how many flushes of the device that takes, and what
// happens where they fail.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Store, type StoreOptions } from 'faultless';
import { holdsWithin } from './rig/commands.js';
import { SlowDisk } from './rig/slow-disk.js';
import { newPath, newSharedName, rejects, runScript, throws, wrong } from './store-fixture.js';

/** Without a journal every flush of the device is one that a store has asked for. */
function plainDisk(t: TestContext, writeDelayMs = 0): Promise<SlowDisk | undefined> {
  return SlowDisk.forTest(t, { sizeMiB: 64, journal: false, writeDelayMs });
}

/** A store on the disk, and another one of the same file, so that closing the first one is no last close. */
async function openTwo(disk: SlowDisk, options: StoreOptions): Promise<{ store: Store; other: Store }> {
  const path = join(disk.directory, 'store');
  return { store: await Store.open(path, options), other: await Store.open(path) };
}

/** How many flushes of the device that took. */
async function flushesOf(disk: SlowDisk, work: () => unknown): Promise<number> {
  const before = disk.statistics().flushes;
  await work();
  return disk.statistics().flushes - before;
}

describe("durability 'system'", () => {
  const writes: Record<string, (store: Store, options?: { durability: 'process' | 'system' }) => unknown> = {
    set: (store, options) => store.set('a', 1, options),
    setMany: (store, options) => store.setMany([['b', 2]], options),
    setSync: (store, options) => store.setSync('c', 3, options),
  };
  const others: Record<string, (store: Store) => unknown> = {
    delete: (store) => store.delete('a'),
    deleteMany: (store) => store.deleteMany(['b', 'c']),
    deleteSync: (store) => store.deleteSync('d'),
    clear: (store) => store.clear(),
    clearSync: (store) => store.clearSync(),
  };

  test('each kind of write flushes, where it or its store asks for that', async (t) => {
    const disk = await plainDisk(t);
    if (disk === undefined) return;
    const { store, other } = await openTwo(disk, { durability: 'system' });
    for (const [name, write] of Object.entries(writes)) {
      assert.equal(await flushesOf(disk, () => write(store)), 1, `${name} of a 'system' store`);
      assert.equal(await flushesOf(disk, () => write(store, { durability: 'process' })), 0, `${name} as 'process'`);
      assert.equal(await flushesOf(disk, () => write(other, { durability: 'system' })), 1, `${name} as 'system'`);
      assert.equal(await flushesOf(disk, () => write(other)), 0, `${name} of a 'process' store`);
    }
    for (const [name, write] of Object.entries(others)) {
      assert.equal(await flushesOf(disk, () => write(store)), 1, `${name} of a 'system' store`);
      assert.equal(await flushesOf(disk, () => write(other)), 0, `${name} of a 'process' store`);
    }
    assert.equal(await flushesOf(disk, () => store.get('a')), 0, 'a get');
    await Promise.all([store.close(), other.close()]);
  });

  test('writes that wait at the same time share flushes, others have one each', async (t) => {
    const disk = await plainDisk(t, 2);
    if (disk === undefined) return;
    const { store, other } = await openTwo(disk, { durability: 'system' });
    const alone = await flushesOf(disk, async () => {
      for (let i = 0; i < 20; i++) await store.set(`alone ${i}`, i);
    });
    assert.equal(alone, 20);
    const concurrent = await flushesOf(disk, () => {
      return Promise.all(Array.from({ length: 1000 }, (_, i) => store.set(`together ${i}`, i)));
    });
    assert.ok(concurrent >= 1 && concurrent <= 10, `${concurrent} flushes for 1,000 concurrent sets`);
    const many = await flushesOf(disk, () => store.setMany(Array.from({ length: 1000 }, (_, i) => [`many ${i}`, i])));
    assert.ok(many >= 1 && many <= 10, `${many} flushes for setMany of 1,000`);
    // In ticks of their own: those that come during a flush wait for one together.
    const spread = await flushesOf(disk, async () => {
      const sets: Promise<void>[] = [];
      for (let i = 0; i < 200; i++) {
        sets.push(store.set(`spread ${i}`, i));
        await new Promise(setImmediate);
      }
      await Promise.all(sets);
    });
    assert.ok(spread >= 1 && spread <= 100, `${spread} flushes for 200 sets in ticks of their own`);
    assert.equal(store.size, 2220);
    await Promise.all([store.close(), other.close()]);
  });

  test('where the device does not take it, the write rejects with ERR_IO; what was flushed before is kept', async (t) => {
    const disk = await plainDisk(t);
    if (disk === undefined) return;
    const path = join(disk.directory, 'store');
    const store = await Store.open(path);
    await store.set('kept', 1, { durability: 'system' });
    await disk.dropCaches();

    disk.failWrites(true);
    await store.set('process', 1);
    store.setSync('process, sync', 1);
    const sets = Array.from({ length: 100 }, (_, i) => store.set(`system ${i}`, i, { durability: 'system' }));
    for (const set of sets) await rejects(set, 'ERR_IO');
    assert.equal(await store.get('system 99'), 99, 'it is written all the same');
    disk.failWrites(false);
    await rejects(store.set('later', 1, { durability: 'system' }), 'ERR_IO');
    await rejects(store.setMany([['later', 1]], { durability: 'system' }), 'ERR_IO');
    throws(() => store.setSync('later', 1, { durability: 'system' }), 'ERR_IO');
    await store.set('later', 1);
    await store.close().catch(() => {});

    await using again = await Store.open(path, { durability: 'system' });
    assert.equal(await again.get('kept'), 1);
    await again.set('works again', 1);
  });

  test('a get behind it does not wait for its flush; writes of its key take effect in call order', async (t) => {
    const disk = await plainDisk(t, 100);
    if (disk === undefined) return;
    const { store, other } = await openTwo(disk, {});
    const ends: string[] = [];
    const ended = (name: string) => () => void ends.push(name);
    const set = store.set('key', 'system', { durability: 'system' }).then(ended('system set'));
    assert.equal(await store.get('key'), 'system');
    ends.push('get');
    // These may wait for the device, which is writing the very pages that they write.
    const second = store.set('key', 'process').then(ended('process set'));
    const read = store.get('key');
    const deletion = store.delete('key').then(ended('delete'));
    assert.equal(await read, 'process');
    await Promise.all([set, second, deletion]);
    assert.equal(await store.get('key'), undefined);
    assert.equal(ends[0], 'get');
    assert.ok(ends.indexOf('process set') < ends.indexOf('delete'), ends.join());
    // One call after the other, without waiting: the last one counts, whichever flush they wait for.
    const durabilities = ['system', 'process', 'process', 'system', 'process'] as const;
    await Promise.all(durabilities.map((durability, i) => store.set('key', i, { durability })));
    assert.equal(await store.get('key'), 4);
    await Promise.all([store.close(), other.close()]);
  });

  test('an abort ends the wait for the flush; the write stands', async (t) => {
    const disk = await plainDisk(t, 100);
    if (disk === undefined) return;
    const { store, other } = await openTwo(disk, { durability: 'system' });
    const controller = new AbortController();
    const set = store.set('key', 1, { signal: controller.signal });
    assert.equal(await store.get('key'), 1);
    const flushed = disk.statistics().flushes;
    const reason = new Error('no longer wanted');
    controller.abort(reason);
    await assert.rejects(set, (error) => error === reason);
    assert.equal(disk.statistics().flushes, flushed, 'it has waited for no flush');
    await store.close();
    assert.equal(await other.get('key'), 1);
    await other.close();
  });

  test('close and closeSync flush what still waits for it', async (t) => {
    const disk = await plainDisk(t);
    if (disk === undefined) return;
    const other = await Store.open(join(disk.directory, 'store'));
    for (const close of ['close', 'closeSync'] as const) {
      const store = await Store.open(join(disk.directory, 'store'), { durability: 'system' });
      const sets = Array.from({ length: 600 }, (_, i) => store.set(`${close} ${i}`, i));
      const flush = store.flush();
      assert.ok((await flushesOf(disk, () => store[close]())) >= 1, close);
      await Promise.all([...sets, flush]);
    }
    assert.equal(other.size, 1200);
    await other.close();
  });

  test('closeSync: where that flush fails, those who wait for it reject, and it throws', async (t) => {
    const disk = await plainDisk(t);
    if (disk === undefined) return;
    const { store, other } = await openTwo(disk, { durability: 'system' });
    disk.failWrites(true);
    const set = store.set('key', 1);
    const rejected = rejects(set, 'ERR_IO');
    throws(() => store.closeSync(), 'ERR_IO');
    assert.equal(store.closed, true);
    store.closeSync();
    await rejected;
    await other.close().catch(() => {});
    disk.failWrites(false);
  });

  test('in shared memory it is like process', async () => {
    const store = await Store.open(newSharedName(), { durability: 'system' });
    await store.set('key', 1);
    store.setSync('key', 2, { durability: 'system' });
    assert.equal(await store.delete('key'), true);
    await store.clear();
    await store.close();
  });
});

describe('durability { everyMs }', () => {
  test('a flush follows a write, and no flush follows none', async (t) => {
    const disk = await plainDisk(t);
    if (disk === undefined) return;
    const { store, other } = await openTwo(disk, { durability: { everyMs: 100 } });
    assert.equal(await flushesOf(disk, () => sleep(500)), 0, 'nothing was written');
    for (const write of [() => store.set('key', 1), () => store.setSync('key', 2), () => store.delete('key')]) {
      const before: number = disk.statistics().flushes;
      await write();
      assert.equal(disk.statistics().flushes, before, 'the write waits for none');
      assert.ok(await holdsWithin(10_000, () => disk.statistics().flushes > before), 'a flush follows');
      assert.equal(await flushesOf(disk, () => sleep(500)), 0, 'one is enough');
    }
    const steady = await flushesOf(disk, async () => {
      for (const end = performance.now() + 1000; performance.now() < end; ) await store.set('key', 1);
    });
    assert.ok(steady >= 2 && steady <= 10, `${steady} flushes in a second of writing`);
    await Promise.all([store.close(), other.close()]);
  });

  test('close flushes what was written, and nothing where nothing was', async (t) => {
    const disk = await plainDisk(t);
    if (disk === undefined) return;
    const path = join(disk.directory, 'store');
    const other = await Store.open(path);
    for (const close of ['close', 'closeSync'] as const) {
      for (const write of [true, false]) {
        const store = await Store.open(path, { durability: { everyMs: 1_000_000 } });
        if (write) await store.set('key', 1);
        const flushes = await flushesOf(disk, () => store[close]());
        assert.equal(flushes, write ? 1 : 0, `${close} after ${write ? 'a write' : 'nothing'}`);
      }
    }
    await other.close();
  });

  test('where such a flush fails, later writes, flush and close fail with ERR_IO', async (t) => {
    const disk = await plainDisk(t);
    if (disk === undefined) return;
    const path = join(disk.directory, 'store');
    const store = await Store.open(path, { durability: { everyMs: 20 } });
    disk.failWrites(true);
    await store.set('key', 1);
    let failure: unknown;
    for (let i = 0; failure === undefined && i < 500; i++) {
      await sleep(20);
      await store.set('key', 2).catch((error: unknown) => {
        failure = error;
      });
    }
    assert.equal((failure as { code?: string } | undefined)?.code, 'ERR_IO');
    disk.failWrites(false);
    await rejects(store.set('key', 3), 'ERR_IO');
    await rejects(store.setMany([['key', 3]]), 'ERR_IO');
    await rejects(store.delete('key'), 'ERR_IO');
    await rejects(store.clear(), 'ERR_IO');
    throws(() => store.setSync('key', 3), 'ERR_IO');
    throws(() => store.deleteSync('key'), 'ERR_IO');
    throws(() => store.clearSync(), 'ERR_IO');
    await rejects(store.flush(), 'ERR_IO');
    assert.notEqual(await store.get('key'), 3);
    await rejects(store.close(), 'ERR_IO');
    assert.equal(store.closed, true);
    await using again = await Store.open(path, { durability: { everyMs: 20 } });
    await again.set('key', 4);
    await again.flush();
  });

  test('its wait keeps no process alive', async () => {
    const begin = performance.now();
    await runScript(`
      import { Store } from 'faultless';
      const store = await Store.open(${JSON.stringify(newPath())}, { durability: { everyMs: 60_000 } });
      await store.set('key', 1);
    `);
    assert.ok(performance.now() - begin < 30_000);
  });
});

test('the option durability is checked', async () => {
  const path = newPath();
  for (const durability of ['never', '']) {
    await rejects(Store.open(path, wrong({ durability })), 'ERR_INVALID_ARG_VALUE', TypeError);
  }
  for (const durability of [null, 5, true, {}, { everyMs: '5' }]) {
    await rejects(Store.open(path, wrong({ durability })), 'ERR_INVALID_ARG_TYPE', TypeError);
    throws(() => Store.openSync(path, wrong({ durability })), 'ERR_INVALID_ARG_TYPE', TypeError);
  }
  for (const everyMs of [0, -1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31]) {
    await rejects(Store.open(path, { durability: { everyMs } }), 'ERR_OUT_OF_RANGE', RangeError);
  }
  assert.ok(!existsSync(path));
  const store = await Store.open(path, { durability: { everyMs: 2 ** 31 - 1 } });
  await rejects(store.set('key', 1, wrong({ durability: 'never' })), 'ERR_INVALID_ARG_VALUE', TypeError);
  await rejects(store.setMany([['key', 1]], wrong({ durability: { everyMs: 5 } })), 'ERR_INVALID_ARG_TYPE', TypeError);
  throws(() => store.setSync('key', 1, wrong({ durability: null })), 'ERR_INVALID_ARG_TYPE', TypeError);
  assert.equal(store.size, 0);
  await store.close();
  for (const durability of ['system', { everyMs: 5 }] as const) {
    await using reader = await Store.open(path, { readOnly: true, durability });
    await rejects(reader.set('key', 1), 'ERR_READ_ONLY');
  }
});
