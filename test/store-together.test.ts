// Features that meet: batches, watching, eviction, expiry, temporary stores.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Change, Store } from 'faultless';
import { newPath, newSharedName } from './store-fixture.js';

const MiB = 2 ** 20;
const places = [
  ['disk', newPath],
  ['RAM', newSharedName],
] as const;

/** Takes in what a store tells, until it is stopped. */
function follow<V>(store: Store<V>): { changes: Change<V>[]; stop(): Promise<void> } {
  const changes: Change<V>[] = [];
  const abort = new AbortController();
  const watching = (async () => {
    for await (const change of store.watch({ signal: abort.signal })) changes.push(change);
  })().catch((error: Error) => {
    if (error.name !== 'AbortError') throw error;
  });
  return {
    changes,
    async stop() {
      abort.abort();
      await watching;
    },
  };
}

async function until(condition: () => boolean, what: string): Promise<void> {
  for (let i = 0; !condition(); i++) {
    assert.ok(i < 3000, what);
    await sleep(10);
  }
}

describe('features together', () => {
  for (const [place, newLocation] of places) {
    test(`a batch is told to who watches, whole or not at all: ${place}`, async () => {
      const name = newLocation();
      await using writer = await Store.open<number>(name);
      await using store = await Store.open<number>(name);
      await writer.set('there', 1);
      const { changes, stop } = follow(store);
      const batch = writer.batch().set('a', 1).set('b', 2).set('a', 3).delete('there').delete('absent');
      assert.equal(await batch.commit(), true);
      assert.equal(await writer.batch().check('a', 4).set('a', 5).commit(), false);
      await writer.set('end', 0);
      await until(() => changes.some((change) => 'key' in change && change.key === 'end'), 'the end is told');
      await stop();
      const told = changes.filter((change) => !('key' in change && change.key === 'end'));
      const texts = told.map((change) => JSON.stringify(change)).sort();
      assert.deepEqual(texts, [
        '{"type":"delete","key":"there","reason":"deleted"}',
        '{"type":"set","key":"a","value":3}',
        '{"type":"set","key":"b","value":2}',
      ]);
    });

    test(`a batch over what has expired: that is told as well: ${place}`, async () => {
      await using store = await Store.open<number>(newLocation());
      await store.setMany(
        [
          ['set', 1],
          ['deleted', 1],
        ],
        { ttl: 100 },
      );
      // Nothing else is written, so that nothing sweeps them.
      const iterator = store.watch();
      const first = iterator.next();
      while (await store.has('deleted')) await sleep(5);
      assert.equal(await store.batch().set('set', 2).delete('deleted').commit(), true);
      const changes = [(await first).value, (await iterator.next()).value, (await iterator.next()).value];
      await iterator.return?.();
      const texts = changes.map((change) => JSON.stringify(change)).sort();
      assert.deepEqual(texts, [
        '{"type":"delete","key":"deleted","reason":"expired"}',
        '{"type":"delete","key":"set","reason":"expired"}',
        '{"type":"set","key":"set","value":2}',
      ]);
    });

    test(`what is evicted is told: ${place}`, async () => {
      await using store = await Store.open<string>(newLocation(), { maxBytes: 8 * MiB, onFull: 'evict' });
      const { changes, stop } = follow(store);
      const value = 'x'.repeat(1000);
      let next = 0;
      for (let round = 0; round < 60; round++) {
        await store.setMany(Array.from({ length: 300 }, () => [`key ${next++}`, value] as const));
        await sleep(1);
      }
      // After a gap it goes on from then: the end may have been in it.
      for (let i = 0; !changes.some((change) => 'key' in change && change.key === 'end'); i++) {
        assert.ok(i < 3000, 'the end is told');
        await store.set('end', '');
        await sleep(10);
      }
      await stop();
      assert.ok(store.stats().evictions > 1000);
      const told = new Set<string>();
      let evicted = 0;
      for (const change of changes) {
        if (change.type === 'set') told.add(change.key);
        if (change.type !== 'delete') continue;
        assert.equal(change.reason, 'evicted');
        assert.ok(told.delete(change.key) || changes.some(({ type }) => type === 'gap'), change.key);
        evicted++;
      }
      assert.ok(evicted > 100, `${evicted}`);
      if (changes.some(({ type }) => type === 'gap')) return;
      const keys: string[] = [];
      for await (const key of store.keys()) keys.push(key);
      assert.deepEqual(keys.sort(), [...told].sort());
    });

    test(`a delete of what is absent is not told, though a store that evicts notes it: ${place}`, async () => {
      await using store = await Store.open<string>(newLocation(), { maxBytes: 8 * MiB, onFull: 'evict' });
      for (let i = 0; i < 12_000; i += 300) {
        await store.setMany(Array.from({ length: 300 }, (_, j) => [`key ${i + j}`, 'x'.repeat(1000)] as const));
      }
      assert.ok(store.stats().evictions > 0);
      const { changes, stop } = follow(store);
      const batch = store.batch();
      for (let i = 0; i < 100; i++) {
        assert.equal(await store.delete(`never there ${i}`), false);
        batch.delete(`nor this ${i}`);
      }
      await batch.commit();
      await store.set('end', '');
      await until(() => changes.some((change) => 'key' in change && change.key === 'end'), 'the end is told');
      await stop();
      assert.deepEqual(
        changes.filter((change) => 'key' in change && /never|nor/.test(change.key)),
        [],
      );
    });

    test(`batches in a store that evicts: none fails, and each is whole or gone: ${place}`, async () => {
      await using store = await Store.open<number>(newLocation(), { maxBytes: 8 * MiB, onFull: 'evict' });
      const filler = 1;
      for (let round = 0; round < 100; round++) {
        const batch = store.batch();
        for (let i = 0; i < 500; i++) batch.set(`${round} ${i} ${'x'.repeat(200)}`, filler);
        batch.set('first', round).set('second', round);
        if (round > 50) for (let i = 0; i < 100; i++) batch.delete(`${round - 50} ${i} ${'x'.repeat(200)}`);
        assert.equal(await batch.commit(), true);
        const [first, second] = await store.getMany(['first', 'second']);
        assert.ok(first === undefined || first === round);
        assert.ok(second === undefined || second === round);
      }
      assert.ok(store.stats().evictions > 1000);
      await store.flush();
      assert.deepEqual((await store.verify()).damaged, []);
      for (let i = 0; i < 100; i++) assert.equal(await store.get(`49 ${i} ${'x'.repeat(200)}`), undefined);
    });

    test(`batches in a temporary store do not let it grow: ${place}`, async () => {
      const options = { temporary: true, encoding: 'buffer' } as const;
      await using store = await Store.open(newLocation(), options);
      for (let round = 0; round < 100; round++) {
        const batch = store.batch();
        for (let i = 0; i < 400; i++) batch.set(`${i}`, Buffer.alloc(1000, round));
        batch.set('large', Buffer.alloc(300_000, round));
        assert.equal(await batch.commit(), true);
      }
      const { fileBytes, freeBytes, liveBytes } = store.stats();
      assert.ok(fileBytes - freeBytes < 6 * liveBytes, JSON.stringify(store.stats()));
      await store.compact();
      assert.deepEqual((await store.verify()).damaged, []);
      assert.deepEqual(await store.get('large'), Buffer.alloc(300_000, 99));
    });
  }
});
