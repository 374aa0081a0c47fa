// Batches: what they take and answer, their order among other calls, and that nobody ever sees half of one.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { type Batch, COLD, Store } from 'faultless';
import { startProcess } from './fixtures/start-process.js';
import { newPath, newSeed, newSharedName, occupyThreads, rejects, throws, wrong } from './store-fixture.js';

describe('a batch', () => {
  test('sets, deletes and checks', async () => {
    await using store = await Store.open<any>(newPath());
    await store.set('old', 1);
    const batch: Batch<any> = store.batch();
    assert.equal(batch.length, 0);
    assert.equal(
      batch
        .set('a', { b: [1, 2] })
        .delete('old')
        .check('new', undefined)
        .set('new', null),
      batch,
    );
    assert.equal(batch.length, 4);
    assert.equal(await store.get('a'), undefined); // nothing happens before the commit
    assert.equal(await batch.commit(), true);
    assert.deepEqual(await store.getMany(['a', 'old', 'new']), [{ b: [1, 2] }, undefined, null]);
    assert.equal(store.size, 2);
  });

  test('of which a check does not hold changes nothing', async () => {
    await using store = await Store.open<any>(newPath());
    await store.set('a', 1);
    for (const batch of [
      store.batch().set('b', 2).check('a', 2),
      store.batch().set('b', 2).check('a', undefined),
      store.batch().set('b', 2).check('a', '1'), // equality is of the encoded bytes
      store.batch().set('b', 2).check('a', 1).check('b', 2), // of what was there before
      store.batch().delete('a').check('a', 1).check('c', 0),
    ]) {
      assert.equal(await batch.commit(), false);
    }
    assert.deepEqual(await store.getMany(['a', 'b']), [1, undefined]);
    assert.equal(await store.batch().check('a', 1).check('b', undefined).commit(), true);
  });

  test('that writes a key several times: the last one counts', async () => {
    await using store = await Store.open<any>(newPath());
    assert.equal(await store.batch().set('a', 1).delete('a').set('a', 3).set('b', 1).delete('b').commit(), true);
    assert.deepEqual(await store.getMany(['a', 'b']), [3, undefined]);
    // The same bytes, whether they came as text or not.
    assert.equal(await store.batch().set('ä', 1).set(Buffer.from('ä'), 2).commit(), true);
    assert.equal(await store.get('ä'), 2);
  });

  test('captures keys and values when it is told', async () => {
    await using store = await Store.open(newPath(), { encoding: 'buffer' });
    const key = Buffer.from('key');
    const value = Buffer.from('value');
    const batch = store.batch().set(key, value).check('other', undefined);
    key.fill('x');
    value.fill('x');
    assert.equal(await batch.commit(), true);
    assert.deepEqual(await store.get('key'), Buffer.from('value'));
  });

  test('takes values of all sizes, and many of them', async () => {
    await using store = await Store.open(newPath(), { encoding: 'buffer' });
    const batch = store.batch();
    const sizes = [0, 1, 65_535, 65_536, 200_000, 3_000_000];
    for (const size of sizes) batch.set(`${size}`, Buffer.alloc(size, size & 0xff));
    for (let i = 0; i < 20_000; i++) batch.set(`many${i}`, `${i}`);
    assert.equal(await batch.commit(), true);
    for (const size of sizes) assert.deepEqual(await store.get(`${size}`), Buffer.alloc(size, size & 0xff));
    assert.equal(store.size, sizes.length + 20_000);
    assert.equal(
      await store
        .batch()
        .check('3000000', Buffer.alloc(3_000_000, 3_000_000 & 0xff))
        .commit(),
      true,
    );
    assert.equal(await store.batch().check('3000000', Buffer.alloc(3_000_000, 1)).commit(), false);
    const { damaged } = await store.verify();
    assert.deepEqual(damaged, []);
  });

  test('of nothing is committed', async () => {
    await using store = await Store.open(newPath());
    assert.equal(await store.batch().commit(), true);
    assert.equal(await store.batch().delete('nothing').commit(), true);
    assert.equal(store.size, 0);
  });

  test('lets values expire', async () => {
    await using store = await Store.open<any>(newPath(), { ttl: 60_000 });
    await store
      .batch()
      .set('own', 1, { ttl: 5_000 })
      .set('default', 2)
      .set('never', 3, { ttl: Number.POSITIVE_INFINITY })
      .set('soon', 4, { ttl: 1 })
      .commit();
    const left = await Promise.all(['own', 'default', 'never'].map((key) => store.ttl(key)));
    assert.ok((left[0] as number) <= 5_000 && (left[1] as number) > 5_000 && (left[1] as number) <= 60_000, `${left}`);
    assert.equal(left[2], Number.POSITIVE_INFINITY);
    await delay(20);
    assert.equal(await store.batch().check('soon', undefined).set('own', 5).commit(), true);
    assert.ok(((await store.ttl('own')) as number) > 5_000);
  });

  test('of durability system is flushed', async () => {
    await using store = await Store.open<any>(newPath(), { durability: 'system' });
    assert.equal(await store.batch().set('a', 1).commit(), true);
    assert.equal(await store.batch().set('b', 1).commit({ durability: 'process' }), true);
    assert.equal(await store.batch().set('c', 1).check('a', 2).commit({ durability: 'system' }), false);
    assert.deepEqual(await store.getMany(['a', 'b', 'c']), [1, 1, undefined]);
  });
});

describe('what cannot be', () => {
  test('throws where it is said, with nothing added', async () => {
    await using store = await Store.open<any>(newPath());
    const batch = store.batch();
    throws(() => batch.set('', 1), 'ERR_KEY_EMPTY');
    throws(() => batch.set(wrong(1), 1), 'ERR_INVALID_ARG_TYPE', TypeError);
    throws(() => batch.delete('x'.repeat(65_536)), 'ERR_KEY_TOO_LONG');
    throws(() => batch.check('\ud800', 1), 'ERR_INVALID_ARG_VALUE');
    throws(() => batch.set('a', wrong(undefined)), 'ERR_INVALID_ARG_TYPE', TypeError);
    throws(() => batch.set('a', new Map()), 'ERR_INVALID_ARG_TYPE', TypeError);
    throws(() => batch.set('a', 1, { ttl: 0 }), 'ERR_OUT_OF_RANGE', RangeError);
    throws(() => batch.set('a', 1, wrong(5)), 'ERR_INVALID_ARG_TYPE', TypeError);
    assert.equal(batch.length, 0);
    await rejects(batch.commit(wrong({ durability: 'maybe' })), 'ERR_INVALID_ARG_VALUE');
    assert.equal(await batch.set('a', 1).commit(), true); // it was not its fault
  });

  test('beyond 65,536 entries', async () => {
    await using store = await Store.open<any>(newPath());
    const batch = store.batch();
    for (let i = 0; i < 65_536; i++) batch.delete('a');
    throws(() => batch.set('b', 1), 'ERR_OUT_OF_RANGE', RangeError);
    assert.equal(await batch.commit(), true);
  });

  test('a batch that has been committed', async () => {
    await using store = await Store.open<any>(newPath());
    const batch = store.batch().set('a', 1);
    const committed = batch.commit();
    await rejects(batch.commit(), 'ERR_CLOSED');
    for (const call of [() => batch.set('a', 2), () => batch.delete('a'), () => batch.check('a', 1)]) {
      throws(call, 'ERR_CLOSED');
    }
    assert.equal(await committed, true);
    await rejects(batch.commit(), 'ERR_CLOSED');
    assert.equal(await store.get('a'), 1);
  });

  test('a store that is closed, or for reading only', async () => {
    const path = newPath();
    const store = await Store.open<any>(path);
    const batch = store.batch().set('a', 1);
    await store.close();
    throws(() => store.batch(), 'ERR_CLOSED');
    await rejects(batch.commit(), 'ERR_CLOSED');
    await using reader = await Store.open<any>(path, { readOnly: true });
    await rejects(reader.batch().set('a', 1).commit(), 'ERR_READ_ONLY');
    assert.equal(await reader.get('a'), undefined);
  });

  test('more than the store has room for', async () => {
    await using store = await Store.open(newPath(), { encoding: 'buffer', maxBytes: 8 << 20 });
    await store.set('a', Buffer.from('kept'));
    const batch = store.batch();
    for (let i = 0; i < 200; i++) batch.set(`key${i}`, Buffer.alloc(60_000));
    await rejects(batch.set('a', Buffer.from('lost')).commit(), 'ERR_STORE_FULL');
    assert.deepEqual(await store.get('a'), Buffer.from('kept'));
    assert.equal(store.size, 1);
    assert.equal(await store.batch().set('b', Buffer.alloc(100_000)).delete('a').commit(), true);
  });
});

describe('order', () => {
  test('is that of the calls, on each key', async () => {
    await using store = await Store.open<any>(newPath());
    const busy = occupyThreads();
    const results = Promise.all([
      store.set('a', 1),
      store.batch().check('a', 1).set('a', 2).set('b', 2).commit(),
      store.get('a'),
      store.set('b', 3),
      store.batch().check('b', 3).check('a', 2).set('c', 4).commit(),
      store.increment('c'),
      store.getMany(['a', 'b', 'c']),
      store.clear(),
      store.batch().check('a', undefined).set('a', 6).commit(),
      store.delete('a'),
    ]);
    assert.equal(store.tryGet('b'), COLD); // not known before all of it is over
    assert.deepEqual(await results, [undefined, true, 2, undefined, true, 5, [2, 3, 5], undefined, true, true]);
    await busy;
  });

  test('Sync methods come after it', async () => {
    await using store = await Store.open<any>(newPath());
    const busy = occupyThreads();
    const committed = store.batch().set('a', 1).set('b', 1).commit();
    const later = store.set('b', 2);
    assert.equal(store.getSync('a'), 1);
    assert.equal(store.getSync('b'), 2);
    store.setSync('a', 3);
    assert.equal(await committed, true);
    await later;
    assert.equal(await store.get('a'), 3);
    await busy;
  });

  test('a batch that is aborted happens wholly or not at all', async () => {
    await using store = await Store.open<any>(newPath());
    const reason = new Error('no more');
    const aborted = store.batch().set('a', 1);
    await assert.rejects(aborted.commit({ signal: AbortSignal.abort(reason) }), reason);
    await rejects(aborted.commit(), 'ERR_CLOSED');
    assert.equal(await store.get('a'), undefined);
    for (let i = 0; i < 50; i++) {
      const controller = new AbortController();
      const keys = Array.from({ length: 40 }, (_, k) => `key${k}`);
      const batch = store.batch();
      for (const key of keys) batch.set(key, i);
      const committed = batch.commit({ signal: controller.signal });
      if (i % 2 === 1) await delay(i % 4);
      controller.abort(reason);
      const outcome = await committed.catch((error) => error);
      assert.ok(outcome === true || outcome === reason, `${outcome}`);
      const found = new Set(await store.getMany(keys));
      assert.equal(found.size, 1, `${[...found]}`);
      if (outcome === true) assert.ok(found.has(i));
    }
  });
});

describe('several processes', () => {
  const accounts = 60;
  const opening = 1000;

  async function check(store: Store<any>, what: string): Promise<void> {
    const values = await store.getMany(Array.from({ length: accounts }, (_, i) => `account${i}`));
    const sum = values.reduce((total, value) => total + value.balance, 0);
    assert.equal(sum, accounts * opening, what);
  }

  test('never see, or leave, half a batch, though they are killed at any moment', { timeout: 180_000 }, async (t) => {
    const seed = newSeed('transfers');
    for (const name of [newPath(), newSharedName()]) {
      const store = await Store.open<any>(name);
      const first = store.batch();
      for (let i = 0; i < accounts; i++) first.set(`account${i}`, { balance: opening, padding: '' });
      assert.equal(await first.commit(), true);
      const reader = await Store.open<any>(name, { readOnly: true });
      let views = 0;
      let over = false;
      const read = async (from: Store<any>, what: string): Promise<void> => {
        while (!over) {
          await check(from, what);
          views++;
        }
      };
      const reading = Promise.all([read(store, 'the parent'), read(reader, 'for reading only')]);
      reading.catch(() => {});
      for (let round = 0; round < 6; round++) {
        const children = [1, 2, 3].map((i) =>
          startProcess(t, 'transfers', [name, `${accounts}`, `${seed + round * 10 + i}`]),
        );
        await Promise.all(children.map((child) => child.message('ready')));
        await Promise.race(children.map((child) => child.message('committed')));
        await delay((seed + round * 37) % 90);
        for (const child of children) {
          await child.kill();
          await check(store, `round ${round}`);
        }
      }
      over = true;
      await reading;
      assert.ok(views > 20, `${views}`);
      await reader.close();
      const { damaged } = await store.verify();
      assert.deepEqual(damaged, []);
      await store.close();
      await using again = await Store.open<any>(name);
      await check(again, 'opened again');
    }
  });
});
