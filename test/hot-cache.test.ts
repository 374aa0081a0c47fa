// The copies of hot values that a process keeps (option hotBytes): coherent, bounded, nobody's to change.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { Worker } from 'node:worker_threads';
import { COLD, type Codec, Store } from 'faultless';
import { Board } from './fixtures/board.js';
import { hotKey, hotKeyCount, sequenceOf } from './fixtures/hot-keys.js';
import { startProcess } from './fixtures/start-process.js';
import { readVersion, slotMovedBy, writeVersion } from './fixtures/version-slots.js';
import { newPath, newSharedName, rejects, wrong } from './store-fixture.js';

/** Reads a key until this process has a copy; then tells whether it was that which answered. */
function heat(store: Store, key: string): boolean {
  for (let i = 0; i < 3; i++) store.getSync(key);
  const { hits } = store.stats().hot;
  store.tryGet(key);
  return store.stats().hot.hits === hits + 1;
}

describe('hot values', () => {
  test('are answered from the copy by tryGet, getSync and get, also that a key is absent', async () => {
    await using store = await Store.open(newSharedName(), { encoding: 'utf8' });
    await store.set('key', 'value');
    assert.ok(heat(store, 'key'));
    assert.ok(heat(store, 'absent'));
    const { hits } = store.stats().hot;
    assert.equal(store.tryGet('key'), 'value');
    assert.equal(store.getSync('key'), 'value');
    assert.equal(await store.get('key'), 'value');
    assert.equal(await store.get(Buffer.from('key')), 'value');
    assert.equal(store.tryGet('absent'), undefined);
    assert.equal(await store.get('absent'), undefined);
    assert.equal(store.stats().hot.hits, hits + 6);
    const { entries, bytes, evictions } = store.stats().hot;
    assert.deepEqual({ entries, evictions }, { entries: 2, evictions: 0 });
    assert.ok(bytes > 0 && bytes < 1000, `${bytes}`);
  });

  test('by a request of many gets as well', async () => {
    await using store = await Store.open(newSharedName(), { encoding: 'utf8' });
    const keys = Array.from({ length: 100 }, (_, i) => `key${i}`);
    await store.setMany(keys.map((key) => [key, `of ${key}`] as const));
    for (let round = 0; round < 4; round++) {
      const values = await Promise.all(keys.map((key) => store.get(key, {})));
      assert.deepEqual(
        values,
        keys.map((key) => `of ${key}`),
      );
    }
    assert.ok(store.stats().hot.entries > 90);
    for (const key of keys) assert.equal(store.tryGet(key), `of ${key}`);
    assert.ok(store.stats().hot.hits > 90);
  });

  test('a string that is no key does not get at a key of bytes', async () => {
    await using store = await Store.open(newSharedName(), { encoding: 'utf8' });
    const key = Buffer.from([0xff]);
    await store.set(key, 'value');
    for (let i = 0; i < 3; i++) store.getSync(key);
    const { hits } = store.stats().hot;
    assert.equal(store.tryGet(key), 'value');
    assert.equal(store.stats().hot.hits, hits + 1);
    assert.throws(() => store.tryGet('\ud800\xff'), { code: 'ERR_INVALID_ARG_VALUE' });
    await assert.rejects(store.get('\ud800\xff'), { code: 'ERR_INVALID_ARG_VALUE' });
    await store.set('\u{10000}', 'other');
    assert.equal(store.getSync('\u{10000}'), 'other');
  });

  test('every write is seen at once: own ones, another handle’s, a delete, a clear', async () => {
    const location = newPath();
    await using store = await Store.open(location, { encoding: 'utf8' });
    await using other = await Store.open(location, { encoding: 'utf8' });
    const writes: [what: string, write: () => unknown, after: string | undefined][] = [
      ['set', () => store.set('key', '1'), '1'],
      ['setSync', () => store.setSync('key', '2'), '2'],
      ['set of another handle', () => other.set('key', '3'), '3'],
      ['delete of another handle', () => other.delete('key'), undefined],
      ['setSync of another handle', () => other.setSync('key', '4'), '4'],
      ['clear', () => store.clear(), undefined],
      ['set again', () => store.set('key', '5'), '5'],
      ['clear of another handle', () => other.clear(), undefined],
    ];
    for (const [what, write, after] of writes) {
      assert.ok(heat(store, 'key'), what);
      await write();
      const { stale } = store.stats().hot;
      assert.equal(store.tryGet('key'), after, what);
      assert.equal(store.stats().hot.stale, stale + 1, what);
      assert.equal(await store.get('key'), after, what);
    }
  });

  test('a get sees the sets issued before it, though a copy of the value before is there', async () => {
    await using store = await Store.open(newPath(), { encoding: 'utf8' });
    await store.set('key', 'old');
    assert.ok(heat(store, 'key'));
    const set = store.set('key', 'new');
    assert.equal(store.tryGet('key'), 'new');
    assert.equal(await store.get('key'), 'new');
    await set;
    assert.ok(heat(store, 'key'));
    const clear = store.clear();
    assert.equal(store.tryGet('key'), COLD);
    assert.equal(await store.get('key'), undefined);
    await clear;
  });

  test('a version that comes round is not taken for the one before', async () => {
    const location = newPath();
    await using store = await Store.open(location, { encoding: 'utf8' });
    await using other = await Store.open(location, { encoding: 'utf8' });
    const slot = await slotMovedBy(location, () => store.set('key', 'before'));
    writeVersion(location, slot, 2);
    assert.ok(heat(store, 'key'));
    writeVersion(location, slot, 0xffff_fffe);
    await other.set('key', 'after');
    assert.equal(readVersion(location, slot), 2);
    assert.equal(store.tryGet('key'), 'after');
    assert.ok(heat(store, 'key'));
  });

  test('what is handed out is the caller’s to change', async () => {
    await using buffers = await Store.open(newSharedName(), { encoding: 'buffer' });
    await buffers.set('key', Buffer.from('value'));
    for (let i = 0; i < 6; i++) {
      const values = [buffers.tryGet('key'), await buffers.get('key')];
      for (const value of values) {
        assert.deepEqual(value, Buffer.from('value'));
        (value as Buffer).fill(0);
      }
    }
    assert.ok(buffers.stats().hot.hits > 6);
    await using values = await Store.open(newSharedName());
    const original = { list: [1, { deep: 'x' }], bytes: Buffer.from('abc'), when: new Date(5) };
    await values.set('key', original);
    for (let i = 0; i < 6; i++) {
      const value = await values.get('key');
      assert.ok(isDeepStrictEqual(value, original));
      value.list[1].deep = 'changed';
      value.bytes.fill(0);
      value.when.setTime(0);
      value.more = 1;
    }
    assert.ok(values.stats().hot.hits >= 3);
    for (const primitive of ['text', 5, -0, Number.NaN, 10n ** 30n, true, null]) {
      await values.set('primitive', primitive);
      assert.ok(heat(values, 'primitive'));
      assert.ok(Object.is(values.tryGet('primitive'), primitive));
    }
  });

  test('codecs of somebody’s own may change what they are given, and read the store', async () => {
    let inner: Store<string> | undefined;
    const codec: Codec<string> = {
      name: 'changing',
      encode: (value) => value,
      decode: (bytes) => {
        const text = bytes.toString();
        bytes.fill(0);
        inner?.getSync('other');
        return text.toUpperCase();
      },
    };
    await using other = await Store.open(newSharedName(), { encoding: 'utf8' });
    await other.set('other', 'something longer than that');
    inner = other;
    await using store = await Store.open(newSharedName(), { encoding: codec });
    await store.set('key', 'value');
    for (let i = 0; i < 6; i++) {
      assert.equal(store.getSync('key'), 'VALUE');
      assert.equal(await store.get('key', {}), 'VALUE');
    }
  });
});

describe('the memory of hot values', () => {
  test('is bounded, and a walk over many keys leaves it as it was', async () => {
    const hotBytes = 256 * 1024;
    await using store = await Store.open(newSharedName(), { encoding: 'utf8', hotBytes });
    const count = 5000;
    const name = (i: number): string => `key${i}`;
    await store.setMany(Array.from({ length: count }, (_, i) => [name(i), `${i}`.padEnd(200, '.')] as const));
    const favourites = Array.from({ length: 100 }, (_, i) => name(i));
    for (let round = 0; round < 4; round++) for (const key of favourites) store.getSync(key);
    for (let round = 0; round < 2; round++) {
      for (let i = 0; i < count; i++) {
        store.getSync(name(i));
        if (i % 20 === 0) store.getSync(favourites[(i / 20) % 100] as string);
      }
      assert.ok(store.stats().hot.bytes <= hotBytes, `${store.stats().hot.bytes} bytes`);
    }
    const { hits } = store.stats().hot;
    for (const key of favourites) store.getSync(key);
    const found = store.stats().hot.hits - hits;
    assert.ok(found >= 90, `${found} of 100 are still there`);
    // Everything again and again: there is never more than fits.
    for (let i = 0; i < 3 * count; i++) store.getSync(name(Math.floor(i / 300) * 100 + (i % 100)));
    const { bytes, entries, evictions } = store.stats().hot;
    assert.ok(bytes <= hotBytes && entries > 300 && evictions > 1000, JSON.stringify(store.stats().hot));
  });

  test('hotBytes: 0 is none, and what is too large has no place', async () => {
    const location = newSharedName();
    await using none = await Store.open(location, { encoding: 'utf8', hotBytes: 0 });
    await none.set('key', 'value');
    assert.ok(!heat(none, 'key'));
    assert.deepEqual(none.stats().hot, { entries: 0, bytes: 0, hits: 0, misses: 0, evictions: 0, stale: 0 });
    await using small = await Store.open(location, { encoding: 'utf8', hotBytes: 16 * 1024 });
    await small.set('large', 'x'.repeat(10_000));
    assert.ok(!heat(small, 'large'));
    assert.ok(heat(small, 'key'));
  });

  test('wrong hotBytes', async () => {
    const location = newSharedName();
    await rejects(Store.open(location, { hotBytes: wrong('1') }), 'ERR_INVALID_ARG_TYPE', TypeError);
    for (const hotBytes of [-1, 0.5, Number.NaN, 2 ** 40 + 1]) {
      await rejects(Store.open(location, { hotBytes }), 'ERR_OUT_OF_RANGE', RangeError);
    }
  });

  test('is let go with close, also while others go on, in workers, and by garbage collection', async () => {
    const location = newPath();
    await using kept = await Store.open(location, { encoding: 'utf8' });
    await kept.set('key', 'value');
    for (let i = 0; i < 9; i++) {
      const store = await Store.open(location, { encoding: 'utf8', readOnly: i % 3 === 0 });
      assert.ok(heat(store, 'key'));
      if (i % 2 === 0) await store.close();
      else if (i % 4 === 1) store.closeSync();
      globalThis.gc?.();
      assert.equal(kept.tryGet('key'), 'value');
    }
    const script = `import { workerData } from 'node:worker_threads';
      const { Store } = await import(workerData.library);
      const store = await Store.open(workerData.location, { encoding: 'utf8' });
      for (let i = 0; i < 5; i++) if (store.getSync('key') !== 'value') throw new Error('wrong');
      if (store.stats().hot.hits < 2) throw new Error('not hot');`;
    const library = import.meta.resolve('faultless');
    const url = new URL(`data:text/javascript,${encodeURIComponent(script)}`);
    const ended = Array.from({ length: 4 }, () => {
      const worker = new Worker(url, { workerData: { library, location } });
      return new Promise<number>((resolve, reject) => worker.on('error', reject).on('exit', resolve));
    });
    assert.deepEqual(await Promise.all(ended), [0, 0, 0, 0]);
    globalThis.gc?.();
    assert.equal(kept.tryGet('key'), 'value');
  });
});

test('no process answers an older value than what had resolved anywhere when it was asked', async (t) => {
  for (const location of [newPath(), newSharedName()]) {
    const boardFile = newPath();
    using board = new Board(boardFile);
    const writers = 2;
    const children = Array.from({ length: writers }, (_, i) =>
      startProcess(t, 'hot-writer', [location, boardFile, `${i}`, `${writers}`]),
    );
    await using store = await Store.open(location, { encoding: 'utf8' });
    for (const child of children) await child.message('ready');
    for (const child of children) child.send('go');
    let checks = 0;
    const deadline = Date.now() + 4000;
    const check = (index: number, least: number, value: string | undefined | typeof COLD): void => {
      if (value === COLD) return;
      checks++;
      const sequence = value === undefined ? 0 : sequenceOf(value);
      assert.ok(sequence >= least, `${hotKey(index)}: ${sequence} was read, ${least} had resolved before`);
    };
    while (Date.now() < deadline) {
      for (let index = 0; index < hotKeyCount; index++) {
        // Read often: most of it comes from the copy, until somebody writes.
        for (let i = 0; i < 6; i++) {
          const least = board.get(index);
          check(index, least, store.tryGet(hotKey(index)));
        }
        const least = board.get(index);
        check(index, least, await store.get(hotKey(index)));
      }
    }
    for (const child of children) child.send('stop');
    const written = await Promise.all(children.map((child) => child.message('written')));
    const { hits, stale } = store.stats().hot;
    assert.ok(
      checks > 1000 && hits > 100 && stale > 100,
      `${checks} checks, ${hits} hits, ${stale} stale, ${written} rounds`,
    );
  }
});
