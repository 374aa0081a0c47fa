// Walking a store: what is delivered, when, and how much memory that takes.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Store } from 'faultless';
import { newPath, newSeed, occupyThreads, Random, rejects, throws, wrong } from './store-fixture.js';

async function collect<T>(source: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of source) all.push(item);
  return all;
}

const numbered = (count: number, prefix = 'key') =>
  Array.from({ length: count }, (_, i) => [`${prefix}${i}`, i] as [string, number]);
const byKey = (a: readonly [string, unknown], b: readonly [string, unknown]) => (a[0] < b[0] ? -1 : 1);

describe('what is delivered', () => {
  test('entries, keys, values: each once, whatever the steps', async () => {
    await using store = await Store.open<number>(newPath());
    assert.deepEqual(await collect(store), []);
    const expected = numbered(5000).sort(byKey);
    await store.setMany(expected);
    for (const highWaterMark of [1, 100, 10_000, undefined]) {
      const options = highWaterMark === undefined ? {} : { highWaterMark };
      assert.deepEqual((await collect(store.entries(options))).sort(byKey), expected);
      assert.deepEqual(
        (await collect(store.keys(options))).sort(),
        expected.map(([key]) => key),
      );
      assert.deepEqual(
        (await collect(store.values(options))).sort((a, b) => a - b),
        numbered(5000).map(([, i]) => i),
      );
    }
    assert.deepEqual((await collect(store)).sort(byKey), expected);
    assert.deepEqual([...store].sort(byKey), expected);
    assert.deepEqual([...store.entriesSync()].sort(byKey), expected);
    assert.deepEqual(
      [...store.keysSync()].sort(),
      expected.map(([key]) => key),
    );
  });

  test('entries of every size, larger than highWaterMark too', async () => {
    await using store = await Store.open(newPath(), { encoding: 'buffer' });
    const sizes = [0, 1, 1000, 16_383, 16_384, 65_536, 1 << 20, 3 << 20];
    for (const size of sizes) await store.set(`${'k'.repeat(1 + (size % 60_000))}`, Buffer.alloc(size, size % 251));
    for (const highWaterMark of [1, 1000, 1 << 20]) {
      const found = await collect(store.entries({ highWaterMark }));
      assert.deepEqual(
        found.map(([, value]) => value.length).sort((a, b) => a - b),
        sizes,
      );
      for (const [, value] of found) assert.deepEqual(value, Buffer.alloc(value.length, value.length % 251));
    }
  });

  test('prefix', async () => {
    await using store = await Store.open<number>(newPath());
    await store.setMany([...numbered(300, 'a'), ...numbered(200, 'b'), ...numbered(50, 'é')]);
    for (const [prefix, count] of [
      ['a', 300],
      ['a1', 111],
      ['b199', 1],
      ['c', 0],
      ['', 550],
      ['é', 50],
    ] as const) {
      const keys = await collect(store.keys({ prefix }));
      assert.equal(keys.length, count, prefix);
      assert.ok(keys.every((key) => key.startsWith(prefix)));
      assert.equal((await collect(store.keys({ prefix: Buffer.from(prefix) }))).length, count);
    }
    // Half of a character is a prefix of bytes.
    assert.equal((await collect(store.keys({ prefix: Buffer.from('é').subarray(0, 1) }))).length, 50);
    assert.equal((await collect(store.keys({ prefix: 'x'.repeat(70_000) }))).length, 0);
  });

  test('limit', async () => {
    await using store = await Store.open<number>(newPath());
    await store.setMany(numbered(1000));
    for (const limit of [0, 1, 2, 999, 1000, 1001, Infinity]) {
      for (const highWaterMark of [1, 1 << 20]) {
        const keys = await collect(store.keys({ limit, highWaterMark }));
        assert.equal(keys.length, Math.min(limit, 1000));
        assert.equal(new Set(keys).size, keys.length);
      }
    }
    assert.equal((await collect(store.entries({ prefix: 'key9', limit: 5 }))).length, 5);
  });

  test('keyEncoding', async () => {
    await using store = await Store.open<number>(newPath());
    const key = Buffer.from([0xff, 0, 0xfe]);
    await store.set(key, 1);
    assert.deepEqual(await collect(store.keys({ keyEncoding: 'buffer' })), [key]);
    assert.deepEqual(await collect(store.entries({ keyEncoding: 'buffer' })), [[key, 1]]);
    assert.deepEqual(await collect(store.keys({ keyEncoding: 'utf8' })), ['\ufffd\0\ufffd']);
  });

  test('texts of all kinds, beside values of other types', async () => {
    const texts = [
      '',
      'a',
      'ascii '.repeat(20),
      'é',
      'ü'.repeat(600),
      '漢字 and more',
      '😀',
      'x'.repeat(1024),
      'y'.repeat(1025),
    ];
    texts.push('z'.repeat(5000), `${'z'.repeat(5000)}é`, 'w'.repeat(70_000), '\0', '\u007f', '\u0080');
    const expected = Array.from({ length: 600 }, (_, i) => {
      const text = texts[i % texts.length] as string;
      return [`${i % 7 === 0 ? 'schlüssel' : 'key'}${i}${'k'.repeat(i % 11 === 0 ? 2000 : 0)}`, text] as [
        string,
        string,
      ];
    }).sort(byKey);
    for (const encoding of ['utf8', 'auto', 'json', 'msgpack']) {
      await using store = await Store.open<unknown>(newPath(), wrong({ encoding }));
      await store.setMany(expected);
      for (const highWaterMark of [1, 20_000, 1 << 20]) {
        assert.deepEqual((await collect(store.entries({ highWaterMark }))).sort(byKey), expected, encoding);
      }
      assert.deepEqual([...store].sort(byKey), expected);
    }
    await using mixed = await Store.open<unknown>(newPath());
    const others = [1, -1.5, true, null, 12n, '\ud800', Buffer.from('bytes'), { a: ['b', 'é'] }, new Date(5)];
    const all = expected.map(([key, text], i) => [key, i % 3 === 0 ? others[i % others.length] : text] as const);
    await mixed.setMany(all);
    for (const highWaterMark of [1, 20_000, 1 << 20]) {
      assert.deepEqual((await collect(mixed.entries({ highWaterMark }))).sort(byKey), all);
    }
  });

  test('options of the wrong kind', async () => {
    await using store = await Store.open(newPath());
    for (const call of [(o: never) => store.entries(o), (o: never) => store.keys(o), (o: never) => store.values(o)]) {
      for (const options of [null, 1, 'x']) throws(() => call(wrong(options)), 'ERR_INVALID_ARG_TYPE', TypeError);
      for (const prefix of [null, 1, {}]) throws(() => call(wrong({ prefix })), 'ERR_INVALID_ARG_TYPE', TypeError);
      throws(() => call(wrong({ prefix: '\ud800' })), 'ERR_INVALID_ARG_VALUE', TypeError);
      for (const name of ['limit', 'highWaterMark']) {
        for (const value of [null, '1', 1n]) throws(() => call(wrong({ [name]: value })), 'ERR_INVALID_ARG_TYPE');
        for (const value of [-1, 0.5, Number.NaN]) throws(() => call(wrong({ [name]: value })), 'ERR_OUT_OF_RANGE');
      }
      throws(() => call(wrong({ highWaterMark: 0 })), 'ERR_OUT_OF_RANGE', RangeError);
      throws(() => call(wrong({ signal: {} })), 'ERR_INVALID_ARG_TYPE', TypeError);
    }
    throws(() => store.keys(wrong({ keyEncoding: 'hex' })), 'ERR_INVALID_ARG_VALUE', TypeError);
    throws(() => store.entries(wrong({ keyEncoding: 1 })), 'ERR_INVALID_ARG_TYPE', TypeError);
  });

  test('values handed out are fresh', async () => {
    await using store = await Store.open(newPath(), { encoding: 'buffer' });
    await store.setMany(Array.from({ length: 100 }, (_, i) => [`k${i}`, Buffer.alloc(100, 1)] as const));
    for (let round = 0; round < 2; round++) {
      for await (const [key, value] of store.entries({ keyEncoding: 'buffer' })) {
        assert.deepEqual(value, Buffer.alloc(100, 1));
        assert.equal(key[0], 'k'.charCodeAt(0));
        assert.ok(value.buffer.byteLength <= 64 * 1024);
        value.fill(2);
        key.fill(2);
      }
    }
  });
});

describe('while others write', () => {
  test('un-awaited writes issued before it are seen, by await and by Sync', async () => {
    await using store = await Store.open<number>(newPath());
    const busy = occupyThreads();
    const iterator = store.keys();
    for (const [key, value] of numbered(3000)) void store.set(key, value);
    assert.equal([...store.keysSync()].length, 3000);
    for (const [key, value] of numbered(3000, 'more')) void store.set(key, value);
    assert.equal((await collect(iterator)).length, 6000);
    void store.clear();
    assert.deepEqual(await collect(store), []);
    await busy;
  });

  test('what is there throughout comes exactly once, what comes or goes at most once', async () => {
    const random = new Random(newSeed('iteration'));
    await using store = await Store.open<number>(newPath());
    const lasting = new Set(numbered(3000, 'lasting').map(([key]) => key));
    await store.setMany(numbered(3000, 'lasting'));
    await store.setMany(numbered(3000, 'going'));
    for (let round = 0; round < 5; round++) {
      let writing = true;
      const writer = (async () => {
        for (let i = 0; writing; i++) {
          const n = random.below(3000);
          void store.set(`lasting${n}`, n + i);
          void store.set(`coming${round}.${i}`, i);
          await (random.below(2) === 0 ? store.delete(`going${n}`) : store.set(`going${n}`, n));
        }
      })();
      const seen = new Map<string, number>();
      for await (const key of store.keys({ highWaterMark: 2000 })) {
        seen.set(key, (seen.get(key) ?? 0) + 1);
        if (random.below(20) === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      writing = false;
      await writer;
      for (const [key, times] of seen) assert.equal(times, 1, key);
      for (const key of lasting) assert.ok(seen.has(key), `${key} is missing`);
    }
  });

  test('it may delete and write what it walks over', async () => {
    await using store = await Store.open<number>(newPath());
    await store.setMany(numbered(2000));
    for await (const [key, value] of store.entries({ highWaterMark: 500 })) {
      if (value % 2 === 0) await store.delete(key);
      else store.setSync(key, value);
    }
    assert.equal(store.size, 1000);
    for (const [key, value] of store) {
      if (value % 3 === 0) store.deleteSync(key);
    }
    assert.equal(store.size, 1000 - numbered(2000).filter(([, i]) => i % 2 === 1 && i % 3 === 0).length);
  });

  test('several walks at a time', async () => {
    await using store = await Store.open<number>(newPath());
    await store.setMany(numbered(2000));
    const walks = Array.from({ length: 8 }, (_, i) => collect(store.keys({ highWaterMark: 100 * (i + 1) })));
    for (const keys of await Promise.all(walks)) assert.equal(new Set(keys).size, 2000);
  });
});

describe('the iterator', () => {
  test('next() called many times at once answers each entry once, in order, then the end', async () => {
    await using store = await Store.open<number>(newPath());
    await store.setMany(numbered(100));
    const iterator = store.keys({ highWaterMark: 50 });
    const results = await Promise.all(Array.from({ length: 110 }, () => iterator.next()));
    const keys = results.slice(0, 100).map(({ value }) => value);
    assert.equal(new Set(keys).size, 100);
    assert.ok(results.slice(0, 100).every(({ done }) => done === false));
    assert.ok(results.slice(100).every(({ done, value }) => done === true && value === undefined));
  });

  test('breaking out ends it', async () => {
    await using store = await Store.open<number>(newPath());
    await store.setMany(numbered(100));
    const iterator = store.keys({ highWaterMark: 50 });
    for await (const key of iterator) {
      assert.ok(key);
      break;
    }
    assert.deepEqual(await iterator.next(), { done: true, value: undefined });
    const waiting = store.keys();
    const first = waiting.next();
    await waiting.return?.();
    assert.deepEqual(await first, { done: true, value: undefined });
  });

  test('the next step is read while one is handed out, and dropped by who breaks out', async () => {
    await using store = await Store.open<number>(newPath());
    await store.setMany(numbered(1000));
    const before = store.stats().queue.requests;
    const iterator = store.keys({ highWaterMark: 100 });
    await iterator.next();
    while (store.stats().queue.requests - before < 2) await new Promise((resolve) => setImmediate(resolve));
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(store.stats().queue.requests - before, 2, 'one step ahead, no more');
    const busy = occupyThreads();
    const dropped = store.keys({ highWaterMark: 100 });
    const first = dropped.next();
    await new Promise((resolve) => setImmediate(resolve));
    await dropped.return?.();
    assert.deepEqual(await first, { done: true, value: undefined });
    assert.equal(store.stats().queue.waiting, 0);
    await busy;
  });

  test('closing the store in the middle: ERR_CLOSED, then the end', async () => {
    const store = await Store.open<number>(newPath());
    await store.setMany(numbered(1000));
    const early = store.keys({ highWaterMark: 100 });
    await early.next();
    const fresh = store.keys();
    const sync = store.keysSync();
    sync.next();
    const closing = store.close();
    await rejects(early.next(), 'ERR_CLOSED');
    assert.deepEqual(await early.next(), { done: true, value: undefined });
    await rejects(fresh.next(), 'ERR_CLOSED');
    throws(() => sync.next(), 'ERR_CLOSED');
    await closing;
  });

  test('a signal that aborts', async () => {
    await using store = await Store.open<number>(newPath());
    await store.setMany(numbered(1000));
    const reason = new Error('enough');
    const controller = new AbortController();
    const iterator = store.keys({ signal: controller.signal, highWaterMark: 1 << 20 });
    await iterator.next();
    controller.abort(reason);
    await assert.rejects(iterator.next(), reason);
    assert.deepEqual(await iterator.next(), { done: true, value: undefined });
    await assert.rejects(store.keys({ signal: AbortSignal.abort(reason) }).next(), reason);

    const busy = occupyThreads();
    const late = new AbortController();
    const waiting = store.keys({ signal: late.signal }).next();
    void store.set('key', 1);
    const behindWrites = store.keys({ signal: late.signal }).next();
    await new Promise((resolve) => setImmediate(resolve));
    late.abort(reason);
    await assert.rejects(waiting, reason);
    await assert.rejects(behindWrites, reason);
    await busy;
  });

  test('memory is bounded by highWaterMark, not by the store', async () => {
    await using store = await Store.open(newPath(), { encoding: 'buffer' });
    const value = Buffer.alloc(10_000, 1);
    for (let i = 0; i < 20_000; i += 1000) {
      await store.setMany(Array.from({ length: 1000 }, (_, j) => [`key${i + j}`, value] as const));
    }
    // What a collection finds is freed a little later.
    const held = async () => {
      globalThis.gc?.();
      await new Promise((resolve) => setTimeout(resolve, 5));
      return process.memoryUsage().arrayBuffers;
    };
    const before = await held();
    let most = 0;
    let count = 0;
    for await (const bytes of store.values({ highWaterMark: 1 << 20 })) {
      assert.equal(bytes.length, 10_000);
      if (++count % 1000 === 0) most = Math.max(most, (await held()) - before);
    }
    assert.equal(count, 20_000);
    assert.ok(most < 16 << 20, `${most} bytes while 200 MB were walked over`);
  });
});
