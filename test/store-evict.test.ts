// Stores that evict (onFull: 'evict'): a cache that processes share.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { COLD, Store, type StoreOptions } from 'faultless';
import { endsWith, newPath, newSeed, newSharedName, rejects, wrong } from './store-fixture.js';

const MiB = 2 ** 20;
const evicting: StoreOptions & { encoding: 'utf8' } = { maxBytes: 8 * MiB, onFull: 'evict', encoding: 'utf8' };
const value = (key: string, length = 1000): string => `${key}:`.padEnd(length, '.');

/** Writes several times what the store holds, and calls `between` now and then. */
async function overfill(store: Store, times: number, between?: (i: number) => unknown): Promise<void> {
  const total = (times * 8 * MiB) / 1000;
  for (let i = 0; i < total; i += 50) {
    const keys = Array.from({ length: 50 }, (_, j) => `filler${i + j}`);
    await store.setMany(keys.map((key) => [key, value(key)] as const));
    await between?.(i);
  }
}

describe('a store that evicts', () => {
  for (const [where, location] of [
    ['on a disk', newPath],
    ['in RAM', newSharedName],
  ] as const) {
    test(`${where} takes many times its size, and says how much it has evicted`, async () => {
      await using store = await Store.open(location(), evicting);
      assert.equal(store.stats().evictions, 0);
      await overfill(store, 6);
      const { evictions, keys, liveBytes } = store.stats();
      assert.ok(evictions > 20_000, `${evictions}`);
      assert.ok(keys > 2000 && liveBytes < 8 * MiB, `${keys} ${liveBytes}`);
      for await (const [key, found] of store) assert.equal(found, value(key));
      assert.equal(await store.get('filler0'), undefined);
      const report = await store.verify();
      assert.deepEqual(report.damaged, []);
      // It can be emptied, and go on.
      assert.equal(
        await store.delete(
          await store
            .keys()
            .next()
            .then(({ value: key }) => key as string),
        ),
        true,
      );
      await store.clear();
      assert.equal(store.size, 0);
      await store.set('key', 'value');
      assert.equal(await store.get('key'), 'value');
    });

    test(`${where} keeps what is read, however it is read`, async () => {
      await using store = await Store.open(location(), { ...evicting, hotBytes: 0 });
      const readers: Record<string, (key: string) => unknown> = {
        get: (key) => store.get(key),
        getMany: (key) => store.getMany([key]),
        getEntry: (key) => store.getEntry(key),
        getSync: (key) => store.getSync(key),
        tryGet: (key) => (store.tryGet(key) === COLD ? store.get(key) : undefined),
      };
      const keysOf = (name: string): string[] => Array.from({ length: 20 }, (_, i) => `${name}${i}`);
      for (const name of Object.keys(readers)) await store.setMany(keysOf(name).map((key) => [key, value(key)]));
      await store.setMany(keysOf('unread').map((key) => [key, value(key)]));
      await overfill(store, 3, async (i) => {
        if (i % 100 !== 0) return;
        for (const [name, read] of Object.entries(readers)) for (const key of keysOf(name)) await read(key);
      });
      for (const name of Object.keys(readers)) {
        let left = 0;
        for (const key of keysOf(name)) left += (await store.has(key)) ? 1 : 0;
        assert.ok(left >= 19, `${name}: ${left} of 20`);
      }
      for (const key of keysOf('unread')) assert.equal(await store.has(key), false);
    });
  }

  test('counts hits of hot copies, of a process that does nothing else, as use', async () => {
    const name = newSharedName();
    await using store = await Store.open(name, evicting);
    const keys = Array.from({ length: 100 }, (_, i) => `hot${i}`);
    // What is used is marked once the store has something in it.
    await overfill(store, 0.5);
    await store.setMany(keys.map((key) => [key, value(key)]));
    for (let i = 0; i < 3; i++) for (const key of keys) store.getSync(key);
    const { hits } = store.stats().hot;
    // Somebody else fills the store. What this process notes until then is carried over meanwhile.
    for (const key of keys) assert.equal(store.tryGet(key), value(key));
    await new Promise((resolve) => setTimeout(resolve, 300));
    const writer = endsWith(
      0,
      `import { Store } from 'faultless';
       import { setTimeout } from 'node:timers/promises';
       const store = await Store.open(process.argv[1], { maxBytes: ${8 * MiB}, onFull: 'evict', encoding: 'utf8' });
       for (let i = 0; i < 40000; i += 200) {
         await store.setMany(Array.from({ length: 200 }, (_, j) => ['filler' + (i + j), '.'.repeat(1000)]));
         await setTimeout(20);
       }
       await store.close();`,
      [name],
    );
    let over = false;
    const ended = writer.finally(() => {
      over = true;
    });
    while (!over) {
      for (const key of keys) store.tryGet(key);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await ended;
    assert.ok(store.stats().hot.hits > hits + 1000);
    assert.ok(store.stats().evictions > 20_000);
    let left = 0;
    for (const key of keys) left += (await store.has(key)) ? 1 : 0;
    assert.ok(left >= 95, `${left} of 100`);
  });

  test('is used by several processes that write and read at the full mark', async () => {
    const seed = newSeed('evicting processes');
    for (const location of [newPath(), newSharedName()]) {
      await using store = await Store.open(location, evicting);
      const script = `
        import { Store } from 'faultless';
        const [location, seed] = process.argv.slice(1);
        const store = await Store.open(location, { encoding: 'utf8', onFull: 'evict' });
        let state = Number(seed);
        const random = (below) => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) % below;
        for (let i = 0; i < 12000; i++) {
          const key = 'key' + random(4000);
          if (random(10) < 6) await store.set(key, key + ':' + '.'.repeat(random(30) === 0 ? 100000 : random(5000)));
          else if (random(10) === 0) await store.delete(key);
          else {
            const found = await store.get(key);
            if (found !== undefined && !found.startsWith(key + ':.') && found !== key + ':') throw new Error(key);
          }
        }
        await store.close();`;
      await Promise.all([1, 2, 3].map((number) => endsWith(0, script, [location, `${seed + number}`])));
      const { evictions, liveBytes } = store.stats();
      assert.ok(evictions > 1000 && liveBytes < 8 * MiB, `${evictions} ${liveBytes}`);
      assert.deepEqual((await store.verify()).damaged, []);
    }
  });

  test('lets entries that have expired go first', async () => {
    await using store = await Store.open(newSharedName(), evicting);
    const keys = Array.from({ length: 1000 }, (_, i) => `${i}`);
    await store.setMany(keys.map((key) => [`lives${key}`, value(key)]));
    await store.setMany(
      [...keys, ...keys].map((key, i) => [`dies${i}`, value(key)] as const),
      { ttl: 300 },
    );
    await new Promise((resolve) => setTimeout(resolve, 400));
    await store.setMany(keys.map((key) => [`new${key}`, value(key)] as const));
    for (const key of keys) assert.ok(await store.has(`lives${key}`), key);
    assert.equal(store.stats().evictions, 0);
  });

  test('refuses a value that can never fit, and evicts nothing for it', async () => {
    await using store = await Store.open(newSharedName(), evicting);
    await store.set('key', 'value');
    await rejects(store.set('large', '.'.repeat(6 * MiB)), 'ERR_STORE_FULL');
    assert.equal(await store.get('key'), 'value');
    assert.equal(store.stats().evictions, 0);
  });

  test('keeps the option in the file, and in a backup', async () => {
    const path = newPath();
    const store = await Store.open(path, evicting);
    await overfill(store, 2);
    await rejects(Store.open(path, { onFull: 'error' }), 'ERR_FORMAT');
    const copy = newPath();
    await store.backup(copy);
    await store.close();
    for (const file of [path, copy]) {
      await rejects(Store.open(file, { onFull: 'error' }), 'ERR_FORMAT');
      await using again = await Store.open(file, { encoding: 'utf8' });
      await overfill(again, 2);
      assert.deepEqual((await again.verify()).damaged, []);
    }
    const plain = newPath();
    await using other = await Store.open(plain);
    await rejects(Store.open(plain, { onFull: 'evict' }), 'ERR_FORMAT');
    assert.equal(other.stats().evictions, 0);
  });

  test('checks the option', async () => {
    const path = newPath();
    await rejects(Store.open(path, wrong({ onFull: 'explode' })), 'ERR_INVALID_ARG_VALUE');
    for (const onFull of [1, null, {}, true])
      await rejects(Store.open(path, wrong({ onFull })), 'ERR_INVALID_ARG_TYPE');
  });

  test('can be read by who may not write', async () => {
    const path = newPath();
    const store = await Store.open(path, evicting);
    await overfill(store, 2);
    await using reader = await Store.open(path, { readOnly: true, encoding: 'utf8' });
    const key = (await store.keys().next()).value as string;
    for (let i = 0; i < 300; i++) {
      reader.tryGet(key);
      assert.equal(await reader.get(key), value(key));
    }
    await store.close();
  });
});
