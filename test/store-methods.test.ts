// Every method, option and error of Store that concerns one process and one operation at a time.
import assert from 'node:assert/strict';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { relative } from 'node:path';
import { describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { COLD, type Key, Store, type StoreOptions } from 'faultless';
import { newPath, newSharedName, rejects, throws, wrong } from './store-fixture.js';

/** Every call that takes a key. */
const withKey: Record<string, (store: Store, key: Key) => unknown> = {
  get: (store, key) => store.get(key),
  has: (store, key) => store.has(key),
  set: (store, key) => store.set(key, 1),
  delete: (store, key) => store.delete(key),
  getMany: (store, key) => store.getMany(['fine', key]),
  setMany: (store, key) =>
    store.setMany([
      ['fine', 1],
      [key, 1],
    ]),
  deleteMany: (store, key) => store.deleteMany(['fine', key]),
  getSync: (store, key) => store.getSync(key),
  hasSync: (store, key) => store.hasSync(key),
  setSync: (store, key) => store.setSync(key, 1),
  deleteSync: (store, key) => store.deleteSync(key),
  tryGet: (store, key) => store.tryGet(key),
  tryHas: (store, key) => store.tryHas(key),
};

/** Every call. */
const calls: Record<string, (store: Store) => unknown> = {
  ...Object.fromEntries(Object.entries(withKey).map(([name, call]) => [name, (store: Store) => call(store, 'key')])),
  clear: (store) => store.clear(),
  flush: (store) => store.flush(),
  residency: (store) => store.residency(),
  verify: (store) => store.verify(),
  clearSync: (store) => store.clearSync(),
  flushSync: (store) => store.flushSync(),
  keysSync: (store) => store.keysSync(),
  entriesSync: (store) => store.entriesSync(),
  'Symbol.iterator': (store) => [...store],
  entries: (store) => store.entries(),
  keys: (store) => store.keys(),
  values: (store) => store.values(),
  'Symbol.asyncIterator': (store) => store[Symbol.asyncIterator](),
  stats: (store) => store.stats(),
};

const writes = ['set', 'delete', 'setMany', 'deleteMany', 'clear', 'setSync', 'deleteSync', 'clearSync'];
const promises = [
  'get',
  'has',
  'set',
  'delete',
  'getMany',
  'setMany',
  'deleteMany',
  'clear',
  'flush',
  'residency',
  'verify',
];

/** The call fails with this code: by a rejection where it is a promise method, else by throwing. */
async function fails(name: string, call: () => unknown, code: Parameters<typeof throws>[1], kind?: typeof Error) {
  if (promises.includes(name)) {
    const promise = call();
    assert.ok(promise instanceof Promise, `${name} must reject, not throw`);
    await rejects(promise, code, kind);
  } else {
    throws(call, code, kind);
  }
}

describe('one key', () => {
  test('set, get, has, delete', async () => {
    await using store = await Store.open(newPath());
    assert.equal(await store.get('key'), undefined);
    assert.equal(await store.has('key'), false);
    assert.equal(await store.delete('key'), false);
    assert.equal(await store.set('key', 'value'), undefined);
    assert.equal(await store.get('key'), 'value');
    assert.equal(await store.has('key'), true);
    assert.equal(store.size, 1);
    await store.set('key', 'other');
    assert.equal(await store.get('key'), 'other');
    assert.equal(store.size, 1);
    assert.equal(await store.delete('key'), true);
    assert.equal(await store.delete('key'), false);
    assert.equal(await store.get('key'), undefined);
    assert.equal(store.size, 0);
  });

  test('the same by sync methods', () => {
    const store = Store.openSync(newPath());
    assert.equal(store.getSync('key'), undefined);
    assert.equal(store.hasSync('key'), false);
    assert.equal(store.deleteSync('key'), false);
    store.setSync('key', 'value');
    assert.equal(store.getSync('key'), 'value');
    assert.equal(store.hasSync('key'), true);
    assert.deepEqual([...store.keysSync()], ['key']);
    assert.deepEqual([...store.entriesSync()], [['key', 'value']]);
    assert.deepEqual([...store], [['key', 'value']]);
    store.flushSync();
    assert.equal(store.deleteSync('key'), true);
    store.setSync('a', 1);
    store.clearSync();
    assert.equal(store.size, 0);
    store.closeSync();
    assert.equal(store.closed, true);
    store.closeSync();
  });

  test('tryGet and tryHas answer what is there, or COLD, never anything else', async () => {
    await using store = await Store.open(newPath());
    await store.set('key', 'value');
    const { fastPath } = store.stats();
    for (let i = 0; i < 100; i++) {
      const value = store.tryGet('key');
      const has = store.tryHas('key');
      const absent = store.tryGet('absent');
      const hasAbsent = store.tryHas('absent');
      if (fastPath) {
        assert.deepEqual([value, has, absent, hasAbsent], ['value', true, undefined, false]);
      } else {
        assert.deepEqual([value, has, absent, hasAbsent], [COLD, COLD, COLD, COLD]);
      }
    }
  });

  test('a key is its bytes: NUL, any byte, a string is its UTF-8', async () => {
    await using store = await Store.open(newPath());
    const keys: Key[] = [
      'a',
      'a\0',
      'a\0b',
      '\0',
      'é',
      '🦊',
      Buffer.from([0xff]),
      Buffer.from([0xff, 0]),
      Buffer.from([0xc3]),
    ];
    for (const [i, key] of keys.entries()) await store.set(key, i);
    assert.equal(store.size, keys.length);
    for (const [i, key] of keys.entries()) {
      const bytes = typeof key === 'string' ? Buffer.from(key) : new Uint8Array(key);
      assert.equal(await store.get(key), i);
      assert.equal(await store.get(bytes), i);
      assert.equal(store.getSync(bytes), i);
      assert.deepEqual(await store.getMany([bytes, key]), [i, i]);
    }
    assert.equal(await store.delete(Buffer.from('é')), true);
    assert.equal(await store.has('é'), false);
  });

  test('keys of every length up to the limit, and one beyond', async () => {
    await using store = await Store.open(newPath());
    const fine = [1, 31, 32, 33, 255, 256, 21_845, 21_846, 65_534, 65_535].map((length) => 'k'.repeat(length));
    const wide = ['é'.repeat(32_767), '€'.repeat(21_845), '🦊'.repeat(16_383)];
    for (const key of [...fine, ...wide]) {
      await store.set(key, key.length);
      assert.equal(await store.get(Buffer.from(key)), key.length);
      assert.equal(store.getSync(key), key.length);
      assert.deepEqual(await store.getMany([key]), [key.length]);
    }
    const long = [
      'k'.repeat(65_536),
      'é'.repeat(32_768),
      '€'.repeat(21_846),
      '🦊'.repeat(16_384),
      Buffer.alloc(65_536),
    ];
    for (const [name, call] of Object.entries(withKey)) {
      for (const key of long) await fails(name, () => call(store, key), 'ERR_KEY_TOO_LONG');
      await fails(name, () => call(store, ''), 'ERR_KEY_EMPTY');
      await fails(name, () => call(store, new Uint8Array(0)), 'ERR_KEY_EMPTY');
    }
    // What was refused has left nothing behind.
    assert.equal(await store.get(fine[0] as string), 1);
    await store.flush();
  });

  test('a value beyond 4 GiB - 1 bytes is refused', async () => {
    await using store = await Store.open(newPath(), { encoding: 'buffer' });
    // Its pages are never touched.
    const value = new Uint8Array(2 ** 32);
    await rejects(store.set('key', value), 'ERR_VALUE_TOO_LARGE');
    throws(() => store.setSync('key', value), 'ERR_VALUE_TOO_LARGE');
    await rejects(store.setMany([['key', value]]), 'ERR_VALUE_TOO_LARGE');
    assert.equal(await store.has('key'), false);
  });

  test('what is no key is refused', async () => {
    await using store = await Store.open(newPath());
    for (const [name, call] of Object.entries(withKey)) {
      for (const key of [undefined, null, 1, 1n, true, {}, [], Symbol('s'), new Uint16Array(1), new ArrayBuffer(1)]) {
        await fails(name, () => call(store, wrong(key)), 'ERR_INVALID_ARG_TYPE', TypeError);
      }
      for (const key of ['\ud800', 'a\udfff', '\udc00\ud800']) {
        await fails(name, () => call(store, key), 'ERR_INVALID_ARG_VALUE', TypeError);
      }
    }
  });
});

describe('many keys', () => {
  test('getMany answers in the order asked for, repeated keys too', async () => {
    await using store = await Store.open(newPath());
    await store.setMany([
      ['a', 1],
      ['b', 2],
    ]);
    assert.deepEqual(await store.getMany(['b', 'none', 'a', 'b']), [2, undefined, 1, 2]);
    assert.deepEqual(await store.getMany([]), []);
    assert.deepEqual(await store.getMany(new Set(['a'])), [1]);
  });

  test('setMany takes arrays, Maps, generators, async generators, other stores', async () => {
    await using store = await Store.open(newPath());
    await store.setMany([]);
    await store.setMany(new Map([['a', 1]]));
    await store.setMany(
      (function* () {
        yield ['b', 2] as const;
      })(),
    );
    await store.setMany(
      (async function* () {
        for (let i = 0; i < 20_000; i++) yield [`n${i}`, i] as const;
      })(),
    );
    assert.equal(store.size, 20_002);
    await using copy = await Store.open(newPath());
    await copy.setMany(store);
    assert.equal(copy.size, 20_002);
    assert.equal(await copy.get('n19999'), 19_999);
  });

  test('setMany of an async iterable runs ahead by a bounded amount', async () => {
    await using store = await Store.open(newPath(), { encoding: 'buffer' });
    const value = Buffer.alloc(1 << 20);
    let given = 0;
    let most = 0;
    await store.setMany(
      (async function* () {
        for (; given < 60; given++) {
          most = Math.max(most, given - store.size);
          yield [`key${given}`, value] as const;
        }
      })(),
    );
    assert.ok(most <= 10, `${most} MiB ahead`);
    assert.equal(store.size, 60);
  });

  test('setMany fails with the first failure, and earlier entries stand', async () => {
    await using store = await Store.open<any>(newPath());
    await rejects(
      store.setMany([
        ['a', 1],
        ['', 2],
        ['c', 3],
      ]),
      'ERR_KEY_EMPTY',
    );
    assert.deepEqual(await store.getMany(['a', 'c']), [1, undefined]);
    const thrown = new Error('from the source');
    let closed = false;
    async function* source() {
      try {
        yield ['d', 1] as const;
        throw thrown;
      } finally {
        closed = true;
      }
    }
    await assert.rejects(store.setMany(source()), thrown);
    assert.ok(closed);
    assert.equal(await store.get('d'), 1);
    for (const entries of [undefined, null, 1, 'ab', {}]) {
      await rejects(store.setMany(wrong(entries)), 'ERR_INVALID_ARG_TYPE', TypeError);
    }
    for (const entries of [['ab'], [1], [null]]) {
      await rejects(store.setMany(wrong(entries)), 'ERR_INVALID_ARG_TYPE', TypeError);
    }
    for (const keys of [undefined, null, 1, 'ab', {}]) {
      await rejects(store.getMany(wrong(keys)), 'ERR_INVALID_ARG_TYPE', TypeError);
      await rejects(store.deleteMany(wrong(keys)), 'ERR_INVALID_ARG_TYPE', TypeError);
    }
  });

  test('deleteMany answers how many were there', async () => {
    await using store = await Store.open(newPath());
    await store.setMany([
      ['a', 1],
      ['b', 2],
      ['c', 3],
    ]);
    assert.equal(await store.deleteMany(['a', 'none', 'c', 'a']), 2);
    assert.equal(await store.deleteMany([]), 0);
    assert.equal(store.size, 1);
  });

  test('clear', async () => {
    await using store = await Store.open(newPath());
    await store.setMany(Array.from({ length: 5000 }, (_, i) => [`k${i}`, i] as const));
    await store.clear();
    assert.equal(store.size, 0);
    assert.deepEqual([...store.keysSync()], []);
    await store.clear();
  });
});

describe('open', () => {
  test('locations: a path, a relative path, a URL, a URL as text, shared memory', async () => {
    const path = newPath();
    await using store = await Store.open(path);
    await store.set('key', 'value');
    assert.equal(store.location, path);
    for (const location of [relative(process.cwd(), path), pathToFileURL(path), pathToFileURL(path).href]) {
      await using again = await Store.open(location);
      assert.equal(again.location, path);
      assert.equal(await again.get('key'), 'value');
    }
    const name = newSharedName();
    await using shared = await Store.open(name);
    assert.equal(shared.location, name);
    await shared.set('key', 'in RAM');
    await using again = await Store.open(name, { create: false });
    assert.equal(await again.get('key'), 'in RAM');
    await Store.destroy(name);
    await rejects(Store.open(name, { create: false }), 'ERR_NOT_FOUND');
    for (const location of ['', 'a\0b', 'shm:', 'shm:a/b', `shm:${'x'.repeat(201)}`, 'https://example.com/']) {
      if (location.startsWith('https'))
        await rejects(Store.open(new URL(location)), 'ERR_INVALID_ARG_VALUE', TypeError);
      else await rejects(Store.open(location), 'ERR_INVALID_ARG_VALUE', TypeError);
    }
    for (const location of [undefined, null, 1, {}]) {
      await rejects(Store.open(wrong(location)), 'ERR_INVALID_ARG_TYPE', TypeError);
      throws(() => Store.openSync(wrong(location)), 'ERR_INVALID_ARG_TYPE', TypeError);
      await rejects(Store.destroy(wrong(location)), 'ERR_INVALID_ARG_TYPE', TypeError);
    }
  });

  test('create, exclusive, permissions', async () => {
    const path = newPath();
    await rejects(Store.open(path, { create: false }), 'ERR_NOT_FOUND');
    throws(() => Store.openSync(path, { create: false }), 'ERR_NOT_FOUND');
    assert.ok(!existsSync(path));
    await (await Store.open(path, { exclusive: true, permissions: 0o640 })).close();
    assert.equal(statSync(path).mode & 0o7777, 0o640);
    await rejects(Store.open(path, { exclusive: true }), 'ERR_EXISTS');
    await rejects(Store.open(newPath(), { create: false }), 'ERR_NOT_FOUND');
    await rejects(Store.open(`${newPath()}/below`), 'ERR_NOT_FOUND');
    const byDefault = newPath();
    Store.openSync(byDefault).closeSync();
    assert.equal(statSync(byDefault).mode & 0o7777, 0o600);
  });

  test('readOnly: reads work, writes are ERR_READ_ONLY', async () => {
    const path = newPath();
    await rejects(Store.open(path, { readOnly: true }), 'ERR_NOT_FOUND');
    await using writer = await Store.open(path);
    await writer.set('key', 'value');
    await using store = await Store.open(path, { readOnly: true });
    assert.equal(store.readOnly, true);
    assert.equal(writer.readOnly, false);
    assert.equal(await store.get('key'), 'value');
    assert.equal(store.getSync('key'), 'value');
    for (const name of writes) await fails(name, () => calls[name]?.(store), 'ERR_READ_ONLY');
    await writer.set('key', 'newer');
    assert.equal(await store.get('key'), 'newer');
    assert.deepEqual([...store.entriesSync()], [['key', 'newer']]);
  });

  test('maxBytes is kept, and a full store says so and can be emptied', async () => {
    const path = newPath();
    const store = await Store.open(path, { maxBytes: 8 * 2 ** 20, encoding: 'buffer' });
    assert.equal(store.stats().maxBytes, 8 * 2 ** 20);
    const value = Buffer.alloc(1000, 1);
    let stored = 0;
    for (;;) {
      try {
        await store.set(`key${stored}`, value);
        stored++;
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'ERR_STORE_FULL');
        break;
      }
      assert.ok(stored < 8 * 2 ** 20);
    }
    assert.ok(stored > 1000, `${stored} stored`);
    // Each shard has extents of its own: the one of this key is full.
    const refused = `key${stored}`;
    throws(() => store.setSync(refused, value), 'ERR_STORE_FULL');
    await rejects(store.setMany([[refused, value]]), 'ERR_STORE_FULL');
    assert.equal(await store.has(refused), false);
    for (let i = 0; i < stored; i++) assert.deepEqual(await store.get(`key${i}`), value);
    for (let i = 0; i < stored; i++) assert.equal(await store.delete(`key${i}`), true);
    await store.set('again', value);
    await store.close();
    await rejects(Store.open(path, { maxBytes: 16 * 2 ** 20, encoding: 'buffer' }), 'ERR_FORMAT');
    await (await Store.open(path, { maxBytes: 8 * 2 ** 20, encoding: 'buffer' })).close();
    for (const maxBytes of [0, 8 * 2 ** 20 - 1, 2 ** 46 + 1, -1, 0.5, Number.NaN, Infinity]) {
      await rejects(Store.open(newPath(), { maxBytes }), 'ERR_OUT_OF_RANGE', RangeError);
    }
  });

  test('options of the wrong type', async () => {
    const path = newPath();
    for (const options of [null, 1, 'utf8', true]) {
      await rejects(Store.open(path, wrong(options)), 'ERR_INVALID_ARG_TYPE', TypeError);
    }
    for (const name of ['readOnly', 'create', 'exclusive', 'pin', 'allowRemote']) {
      for (const value of [null, 1, 'true', {}]) {
        await rejects(Store.open(path, wrong({ [name]: value })), 'ERR_INVALID_ARG_TYPE', TypeError);
      }
    }
    for (const name of ['permissions', 'maxBytes', 'hotBytes', 'concurrency']) {
      for (const value of [null, '1', 1n, {}]) {
        await rejects(Store.open(path, wrong({ [name]: value })), 'ERR_INVALID_ARG_TYPE', TypeError);
      }
      for (const value of [-1, 0.5, Number.NaN]) {
        await rejects(Store.open(path, wrong({ [name]: value })), 'ERR_OUT_OF_RANGE', RangeError);
      }
    }
    await rejects(Store.open(path, { permissions: 0o10000 }), 'ERR_OUT_OF_RANGE', RangeError);
    await rejects(Store.open(path, { concurrency: 0 }), 'ERR_OUT_OF_RANGE', RangeError);
    await rejects(Store.open(path, { signal: wrong({}) }), 'ERR_INVALID_ARG_TYPE', TypeError);
    assert.ok(!existsSync(path));
  });

  test('options that would be broken promises are refused', async () => {
    const path = newPath();
    const later = {
      fixed: { key: 8, value: 8 },
      uids: true,
    };
    for (const [name, value] of Object.entries(later)) {
      await rejects(Store.open(path, wrong({ [name]: value })), 'ERR_UNSUPPORTED');
      throws(() => Store.openSync(path, wrong({ [name]: value })), 'ERR_UNSUPPORTED');
    }
    assert.ok(!existsSync(path));
    const accepted = {
      ttl: Infinity,
      onFull: 'error',
      uids: false,
      temporary: false,
      durability: 'process',
      hotBytes: 2 ** 20,
    };
    await using store = await Store.open(path, accepted as StoreOptions);
    for (const ttl of [0, -1, Number.NaN]) await rejects(store.set('key', 1, { ttl }), 'ERR_OUT_OF_RANGE', RangeError);
    await rejects(store.set('key', 1, wrong({ ttl: '1' })), 'ERR_INVALID_ARG_TYPE', TypeError);
    assert.equal(await store.has('key'), false);
    await store.set('key', 1, { ttl: Infinity, durability: 'process' });
  });

  test('pin: everything is hot', async (t) => {
    let store: Store;
    try {
      store = await Store.open(newPath(), { pin: true });
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'ERR_MEMLOCK');
      t.skip('this system refuses to lock memory');
      return;
    }
    await store.set('key', 'value');
    assert.equal(store.tryGet('key'), 'value');
    assert.ok(store.stats().lockedBytes > 0);
    await store.close();
  });

  test('what is not one of ours is ERR_FORMAT, and left as it is', async () => {
    for (const content of ['', 'not a store', 'x'.repeat(100_000), Buffer.alloc(70_000)]) {
      const path = newPath();
      writeFileSync(path, content);
      await rejects(Store.open(path), 'ERR_FORMAT');
      throws(() => Store.openSync(path), 'ERR_FORMAT');
      await rejects(Store.destroy(path), 'ERR_FORMAT');
      assert.deepEqual(readFileSync(path), Buffer.from(content));
    }
    await rejects(Store.destroy(newPath()), 'ERR_NOT_FOUND');
  });

  test('destroy removes the file; whoever has it open goes on', async () => {
    const path = newPath();
    await using store = await Store.open(path);
    await store.set('key', 'value');
    await Store.destroy(path);
    assert.ok(!existsSync(path));
    assert.equal(await store.get('key'), 'value');
    await store.set('key', 'newer');
    await using fresh = await Store.open(path);
    assert.equal(await fresh.get('key'), undefined);
    assert.equal(await store.get('key'), 'newer');
  });
});

describe('the whole', () => {
  test('stats, size, residency', async () => {
    await using store = await Store.open(newPath());
    await store.setMany(Array.from({ length: 1000 }, (_, i) => [`k${i}`, 'x'.repeat(100)] as const));
    const stats = store.stats();
    assert.equal(stats.keys, 1000);
    assert.equal(store.size, 1000);
    assert.ok(stats.liveBytes >= 100_000);
    assert.ok(stats.fileBytes >= stats.liveBytes && stats.fileBytes <= 4 * 2 ** 20, `${stats.fileBytes}`);
    assert.equal(stats.maxBytes, 2 ** 40);
    assert.ok(stats.shards >= 16 && stats.buckets > 0 && stats.loadFactor > 0);
    assert.ok(stats.queue.operations >= 1000 && stats.queue.requests < 100, 'calls of one tick travel together');
    assert.deepEqual([stats.queue.waiting, stats.queue.running], [0, 0]);
    assert.equal(typeof stats.fastPath, 'boolean');
    assert.deepEqual(stats.hot, { entries: 0, bytes: 0, hits: 0, misses: 0, evictions: 0, stale: 0 });
    const share = await store.residency();
    assert.ok(share > 0 && share <= 1, `${share}`);
  });

  test('after close everything is ERR_CLOSED, but closing again', async () => {
    for (const close of [(store: Store) => store.close(), (store: Store) => Promise.resolve(store.closeSync())]) {
      const store = await Store.open(newPath());
      await store.set('key', 1);
      assert.equal(store.closed, false);
      const closing = close(store);
      assert.equal(store.closed, true);
      for (const [name, call] of Object.entries(calls)) await fails(name, () => call(store), 'ERR_CLOSED');
      assert.equal(store.size, 0);
      await closing;
      for (const [name, call] of Object.entries(calls)) await fails(name, () => call(store), 'ERR_CLOSED');
      await store.close();
      store.closeSync();
      store[Symbol.dispose]();
      await store[Symbol.asyncDispose]();
    }
  });

  test('using and await using close', async () => {
    const path = newPath();
    let outer: Store;
    {
      await using store = await Store.open(path);
      await store.set('key', 'kept');
      outer = store;
    }
    assert.equal(outer.closed, true);
    {
      using store = Store.openSync(path);
      assert.equal(store.getSync('key'), 'kept');
      outer = store;
    }
    assert.equal(outer.closed, true);
  });

  test('what was stored is there after reopening', async () => {
    const path = newPath();
    for (let round = 0; round < 5; round++) {
      await using store = await Store.open(path);
      assert.equal(store.size, round * 100);
      for (let i = 0; i < round * 100; i++) assert.equal(store.getSync(`k${i}`), i);
      for (let i = 0; i < 100; i++) void store.set(`k${round * 100 + i}`, round * 100 + i);
      if (round % 2 === 0) await store.flush();
    }
  });

  test('the constructor is not for everybody', () => {
    assert.equal(typeof Store.open, 'function');
    assert.ok(!('setWithUid' in Store.prototype), 'uids belong to a later release');
  });
});
