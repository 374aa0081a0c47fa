// compareAndSet, increment and update: what they answer, with every encoding, in order with everything else of a Store,
// aborted, and by many processes at a time.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { COLD, type Codec, Store } from 'faultless';
import { startProcess } from './fixtures/start-process.js';
import { newPath, newSharedName, occupyThreads, rejects, throws, wrong } from './store-fixture.js';

const roman: Codec<number | string> = {
  name: 'roman',
  encode: (value) => (typeof value === 'number' ? `#${'I'.repeat(value)}` : value),
  decode: (bytes) => (bytes[0] === 0x23 ? bytes.length - 1 : bytes.toString()),
};

describe('compareAndSet', () => {
  test('sets, creates and deletes where the key holds what is expected', async () => {
    await using store = await Store.open<any>(newPath());
    assert.equal(await store.compareAndSet('key', 1, 2), false);
    assert.equal(await store.compareAndSet('key', undefined, undefined), true);
    assert.equal(await store.compareAndSet('key', undefined, 1), true);
    assert.equal(await store.compareAndSet('key', undefined, 2), false);
    assert.equal(await store.compareAndSet('key', 2, 3), false);
    assert.equal(await store.compareAndSet('key', '1', 3), false);
    assert.equal(await store.compareAndSet('key', 1, { a: [1, 2], b: null }), true);
    assert.equal(await store.compareAndSet('key', { b: null, a: [1, 2] }, 3), false, 'the order of properties counts');
    assert.equal(await store.compareAndSet('key', { a: [1, 2], b: null }, new Date(5)), true);
    assert.equal(await store.compareAndSet('key', new Date(5), Number.NaN), true);
    assert.equal(await store.compareAndSet('key', Number.NaN, -0), true);
    assert.equal(await store.compareAndSet('key', 0, 1), false);
    assert.equal(await store.compareAndSet('key', -0, 'end'), true);
    assert.equal(await store.compareAndSet('key', 'end', undefined), true);
    assert.equal(await store.has('key'), false);
  });

  test('values of any size, also of both at once', async () => {
    await using store = await Store.open(newPath(), { encoding: 'buffer' });
    const sizes = [0, 1, 16_383, 16_384, 65_536, 700_000];
    let held: Buffer | undefined;
    for (const from of sizes) {
      for (const to of sizes) {
        const before = Buffer.alloc(from, 'a');
        await store.set('key', before);
        const after = Buffer.alloc(to, 'b');
        const other = from === 0 ? Buffer.from('x') : Buffer.from(before).fill('x', from - 1);
        assert.equal(await store.compareAndSet('key', other, after), false);
        assert.equal(await store.compareAndSet('key', before, after), true, `${from} ${to}`);
        held = await store.get('key');
        assert.ok(held?.equals(after));
      }
    }
    assert.ok(held);
  });

  test('what is handed in is captured at the call', async () => {
    await using store = await Store.open(newPath(), { encoding: 'buffer' });
    await store.set('key', 'old');
    const [expected, value] = [Buffer.from('old'), Buffer.from('new')];
    const done = store.compareAndSet('key', expected, value);
    expected.fill(0);
    value.fill(0);
    assert.equal(await done, true);
    assert.equal(`${await store.get('key')}`, 'new');
  });

  test('bad input, read-only and closed stores', async () => {
    const path = newPath();
    const store = await Store.open<any>(path);
    await rejects(store.compareAndSet('', undefined, 1), 'ERR_KEY_EMPTY');
    await rejects(store.compareAndSet('k'.repeat(65_536), undefined, 1), 'ERR_KEY_TOO_LONG');
    await rejects(store.compareAndSet(wrong(5), undefined, 1), 'ERR_INVALID_ARG_TYPE', TypeError);
    await rejects(store.compareAndSet('\ud800', undefined, 1), 'ERR_INVALID_ARG_VALUE');
    await rejects(store.compareAndSet('key', new Map(), 1), 'ERR_INVALID_ARG_TYPE', TypeError);
    await rejects(
      store.compareAndSet('key', 1, () => 1),
      'ERR_INVALID_ARG_TYPE',
      TypeError,
    );
    await rejects(store.compareAndSet('key', 1, 1, wrong(5)), 'ERR_INVALID_ARG_TYPE', TypeError);
    await rejects(store.compareAndSet('key', 1, 1, wrong({ durability: 'x' })), 'ERR_INVALID_ARG_VALUE');
    await rejects(store.increment('key', wrong('1')), 'ERR_INVALID_ARG_TYPE', TypeError);
    await rejects(store.increment('key', wrong(1n)), 'ERR_INVALID_ARG_TYPE', TypeError);
    for (const by of [Number.NaN, Infinity]) await rejects(store.increment('key', by), 'ERR_OUT_OF_RANGE', RangeError);
    throws(() => store.incrementSync('key', Number.NaN), 'ERR_OUT_OF_RANGE', RangeError);
    throws(() => store.incrementSync(''), 'ERR_KEY_EMPTY');
    throws(() => store.incrementSync('k'.repeat(65_536)), 'ERR_KEY_TOO_LONG');
    await rejects(store.update('key', wrong(undefined)), 'ERR_INVALID_ARG_TYPE', TypeError);
    await rejects(
      store.update('', () => 1),
      'ERR_KEY_EMPTY',
    );
    assert.equal(store.size, 0);
    await store.close();
    for (const code of ['ERR_READ_ONLY', 'ERR_CLOSED'] as const) {
      const refusing = await Store.open<any>(path, { readOnly: true });
      if (code === 'ERR_CLOSED') await refusing.close();
      await rejects(refusing.compareAndSet('key', undefined, 1), code);
      await rejects(refusing.increment('key'), code);
      await rejects(
        refusing.update('key', () => 1),
        code,
      );
      await rejects(refusing.touch('key', 1), code);
      throws(() => refusing.incrementSync('key'), code);
      await refusing.close();
    }
  });
});

describe('increment', () => {
  test('of every encoding: from 0, sums that every process reads as values', async () => {
    const cases: [any, unknown, unknown][] = [
      ['auto', 3.5, 'text'],
      ['utf8', '3.5', 'text'],
      ['buffer', Buffer.from('3.5'), Buffer.from('text')],
      ['json', 3.5, '3'],
      ['msgpack', 3.5, '3'],
    ];
    for (const [encoding, value, other] of cases) {
      await using store = (await Store.open(newPath(), { encoding })) as Store<any>;
      assert.equal(await store.increment('key'), 1);
      assert.equal(await store.increment('key', 4), 5);
      assert.equal(store.incrementSync('key', -1.5), 3.5);
      assert.deepEqual(await store.get('key'), value);
      await store.set('other', other);
      await rejects(store.increment('other'), 'ERR_NOT_A_NUMBER');
      throws(() => store.incrementSync('other'), 'ERR_NOT_A_NUMBER');
      assert.deepEqual(await store.get('other'), other);
      await store.increment('most', 2 ** 53);
      await rejects(store.increment('most', 2), 'ERR_OUT_OF_RANGE', RangeError);
      throws(() => store.incrementSync('most', 2), 'ERR_OUT_OF_RANGE', RangeError);
      assert.equal(await store.increment('most', -(2 ** 54)), -(2 ** 53), encoding);
      await rejects(store.increment('most', -2), 'ERR_OUT_OF_RANGE', RangeError);
    }
    await using store = await Store.open(newPath(), { encoding: roman });
    assert.equal(await store.increment('key', 4), 4);
    assert.equal(store.incrementSync('key'), 5);
    await store.set('key', 'V');
    await rejects(store.increment('key'), 'ERR_NOT_A_NUMBER');
  });

  test('texts that are numbers, and texts that are none', async () => {
    await using store = await Store.open(newPath(), { encoding: 'utf8' });
    for (const [text, sum] of [
      ['0', 1],
      ['-1', 0],
      ['1e3', 1001],
      ['1E-7', 1.0000001],
    ] as const) {
      await store.set('key', text);
      assert.equal(await store.increment('key'), sum);
      assert.equal(await store.get('key'), String(sum));
    }
    for (const text of ['', ' 1', '1 ', '01', '+1', '0x1', 'NaN', 'Infinity', '1_0', '.5', '1.', '9'.repeat(500)]) {
      await store.set('key', text);
      await rejects(store.increment('key'), 'ERR_NOT_A_NUMBER');
    }
    await store.set('key', '9'.repeat(300));
    await rejects(store.increment('key'), 'ERR_OUT_OF_RANGE');
  });

  test("values of 'auto' that are no numbers", async () => {
    await using store = await Store.open<any>(newPath());
    for (const value of [5n, '5', true, null, new Date(5), [5], Buffer.from([4, 0, 0, 0, 0, 0, 0, 0, 0]), Number.NaN]) {
      await store.set('key', value);
      await rejects(store.increment('key'), 'ERR_NOT_A_NUMBER');
      assert.deepEqual(await store.get('key'), value);
    }
    await store.set('key', -Infinity);
    await rejects(store.increment('key'), 'ERR_OUT_OF_RANGE');
  });
});

describe('update', () => {
  test('changes, creates and deletes; answers the new value', async () => {
    await using store = await Store.open<any>(newPath());
    assert.deepEqual(await store.update('key', (value) => [value ?? 'none']), ['none']);
    assert.deepEqual(await store.update('key', (value) => [...value, 2]), ['none', 2]);
    assert.equal(await store.update('key', () => undefined), undefined);
    assert.equal(await store.has('key'), false);
    assert.equal(await store.update('key', () => undefined), undefined);
    const large = Buffer.alloc(200_000, 1);
    const answered = await store.update('key', () => large);
    assert.ok(large.equals(answered));
    answered.fill(2);
    assert.ok(large.equals((await store.get('key')) as Buffer));
    assert.equal(await store.update('key', (value) => value.length), 200_000);
  });

  test('what `change` throws is what it rejects with, and nothing has changed', async () => {
    await using store = await Store.open<any>(newPath());
    await store.set('key', 1);
    const thrown = new Error('no');
    await assert.rejects(
      store.update('key', () => {
        throw thrown;
      }),
      (error) => error === thrown,
    );
    await rejects(
      store.update('key', () => wrong(Symbol('x'))),
      'ERR_INVALID_ARG_TYPE',
    );
    await rejects(
      store.update('key', () => wrong(Promise.resolve(1))),
      'ERR_INVALID_ARG_TYPE',
    );
    assert.equal(await store.get('key'), 1);
    assert.equal(await store.update('key', (value) => value + 1), 2);
  });

  test('`change` that uses the store: its own key is ERR_BUSY, others are free', async () => {
    await using store = await Store.open<any>(newPath());
    await store.set('key', 1);
    let later: Promise<unknown> | undefined;
    const answer = await store.update('key', (value) => {
      throws(() => store.getSync('key'), 'ERR_BUSY');
      throws(() => store.setSync('key', 5), 'ERR_BUSY');
      assert.equal(store.tryGet('key'), COLD);
      store.setSync('other', 6);
      later ??= store.set('key', 7);
      return value + 1;
    });
    assert.equal(answer, 2);
    await later;
    assert.deepEqual(await store.getMany(['key', 'other']), [7, 6]);
  });

  test('is called again where another Store has written meanwhile', async () => {
    const name = newSharedName();
    await using store = await Store.open<any>(name);
    await using other = await Store.open<any>(name);
    let calls = 0;
    const answer = await store.update('key', (value) => {
      if (calls++ < 3) other.setSync('key', calls);
      return [value ?? null];
    });
    assert.deepEqual(answer, [3]);
    assert.equal(calls, 4);
  });
});

describe('order and ends', () => {
  test('operations on one key take effect in call order, awaited or not', async () => {
    for (const busy of [false, true]) {
      await using store = await Store.open<any>(newPath());
      const threads = busy ? occupyThreads() : undefined;
      const seen = await Promise.all([
        store.increment('key'),
        store.get('key'),
        store.compareAndSet('key', 1, 10),
        store.increment('key', 5),
        store.update('key', (value) => value * 2),
        store.get('key'),
        store.update('key', (value) => value + 1),
        store.increment('key'),
        store.compareAndSet('key', 32, undefined),
        store.has('key'),
        store.touch('key', 1000),
        store.update('key', (value) => value ?? 'new'),
        store.touch('key', 1000),
        store.getMany(['key', 'absent']),
        store.clear(),
        store.update('key', (value) => value),
        store.ttl('key'),
        store.compareAndSet('key', undefined, 1),
        store.getEntry('key'),
      ]);
      assert.deepEqual(seen, [
        1,
        1,
        true,
        15,
        30,
        30,
        31,
        32,
        true,
        false,
        false,
        'new',
        true,
        ['new', undefined],
        undefined,
        undefined,
        undefined,
        true,
        { value: 1, ttl: Infinity, bytes: 9 },
      ]);
      await threads;
    }
  });

  test('a Sync method comes after what was issued before it, whatever that is', async () => {
    for (const busy of [false, true]) {
      for (const encoding of ['auto', 'json'] as const) {
        await using store = await Store.open<any>(newPath(), { encoding });
        const threads = busy ? occupyThreads() : undefined;
        const issued: Promise<unknown>[] = [];
        let expected = 0;
        for (let i = 0; i < 40; i++) {
          issued.push(
            store.increment('key'),
            store.update('key', (value) => value * 2),
          );
          expected = (expected + 1) * 2;
          if (i % 3 === 0) {
            issued.push(store.compareAndSet('key', expected, expected % 1000));
            expected %= 1000;
          }
          if (i % 4 === 0) assert.equal(store.getSync('key'), expected);
          if (i % 5 === 0) assert.equal(store.incrementSync('key'), ++expected);
          if (i % 7 === 0) await new Promise((resolve) => setImmediate(resolve));
          expected %= 1_000_000;
          issued.push(store.update('key', (value) => value % 1_000_000));
        }
        assert.equal(store.getSync('key'), expected);
        await Promise.all(issued);
        await threads;
      }
    }
  });

  test('tryGet is COLD or right while one is under way', async () => {
    await using store = await Store.open<any>(newSharedName());
    await store.set('key', 1);
    const done = Promise.all([store.increment('key'), store.update('key', (value) => value + 1)]);
    assert.equal(store.tryGet('key'), COLD);
    assert.equal(store.tryHas('key'), COLD);
    await done;
    assert.equal(store.tryGet('key'), 3);
  });

  test('an abort rejects at once; later operations are unharmed', async () => {
    await using store = await Store.open<any>(newPath());
    const reason = new Error('enough');
    const is = (error: unknown): boolean => error === reason;
    for (const when of ['before', 'at once', 'later'] as const) {
      await store.set('key', 1);
      const busy = occupyThreads();
      const controller = new AbortController();
      const { signal } = controller;
      if (when === 'before') controller.abort(reason);
      const calls = [
        store.compareAndSet('key', 1, 2, { signal }),
        store.increment('key', 1, { signal }),
        store.update('key', (value) => value + 1, { signal }),
        store.touch('key', 1000, { signal }),
        store.ttl('key', { signal }),
        store.getEntry('key', { signal }),
      ];
      const rejected = Promise.all(calls.map((call) => assert.rejects(call, is)));
      if (when === 'later') setTimeout(() => controller.abort(reason), 5);
      else controller.abort(reason);
      const after = store.get('key');
      await rejected;
      assert.equal(typeof (await after), 'number');
      await busy;
      assert.equal(await store.update('key', () => 5), 5);
    }
    throws(() => store.incrementSync('key', 1, { signal: wrong({}) }), 'ERR_INVALID_ARG_TYPE');
    assert.throws(() => store.incrementSync('key', 1, { signal: AbortSignal.abort(reason) }), is);
    assert.throws(() => store.setSync('key', 1, { signal: AbortSignal.abort(reason) }), is);
  });

  test('what is aborted before it began leaves what travels with it as it is', async () => {
    await using store = await Store.open<any>(newPath());
    await store.set('key', 'old');
    const controller = new AbortController();
    const { signal } = controller;
    const large = Buffer.alloc(20_000, 1);
    const others: Promise<unknown>[] = [];
    const aborted: Promise<unknown>[] = [];
    for (const [i, expected] of ['old', undefined, large, 5].entries()) {
      others.push(store.set(`before ${i}`, i), store.compareAndSet(`swapped ${i}`, undefined, `value ${i}`));
      aborted.push(store.compareAndSet(`key ${i}`, expected, 'a longer value', { signal, ttl: 1000 }));
      aborted.push(
        store.increment(`number ${i}`, 1, { signal }),
        store.update(`update ${i}`, () => 1, { signal }),
      );
      others.push(store.increment(`count ${i}`, i), store.compareAndSet('key', 'old', 'new'));
    }
    controller.abort(new Error('enough'));
    for (const call of aborted) await assert.rejects(call, /enough/);
    await Promise.all(others);
    assert.deepEqual(await Promise.all([others[3], others[7]]), [true, false]);
    for (let i = 0; i < 4; i++) {
      assert.deepEqual(
        await store.getMany([`before ${i}`, `swapped ${i}`, `count ${i}`, `key ${i}`, `number ${i}`, `update ${i}`]),
        [i, `value ${i}`, i, undefined, undefined, undefined],
      );
    }
    assert.equal(await store.get('key'), 'new');
  });

  test("durability 'system' of each", async () => {
    const path = newPath();
    for (const durability of [undefined, 'system'] as const) {
      await using store = await Store.open<any>(path, durability === undefined ? {} : { durability });
      const options = durability === undefined ? ({ durability: 'system' } as const) : {};
      await store.clear();
      assert.equal(await store.increment('key', 3, options), 3);
      assert.equal(await store.compareAndSet('key', 3, 4, options), true);
      assert.equal(await store.compareAndSet('key', 3, 4, options), false);
      assert.equal(await store.update('key', (value) => value + 1, options), 5);
      assert.equal(store.incrementSync('key', 1, options), 6);
      await store.set('key', 7, { ...options, ttl: 60_000 });
      store.setSync('key', 8, { ...options, ttl: 60_000 });
      assert.equal(await store.touch('key', 1000), true);
      const many = await Promise.all(Array.from({ length: 50 }, (_, i) => store.increment('many', i, options)));
      assert.equal(many.at(-1), 1225);
    }
  });

  test('close() lets all of them finish', async () => {
    const path = newPath();
    const store = await Store.open<any>(path);
    const busy = occupyThreads();
    const done = Promise.all([
      store.increment('a'),
      store.update('b', () => 1),
      store.update('b', (value) => value + 1),
      store.compareAndSet('c', undefined, 1),
    ]);
    await store.close();
    assert.deepEqual(await done, [1, 1, 2, true]);
    await busy;
    await using again = await Store.open<any>(path);
    assert.deepEqual(await again.getMany(['a', 'b', 'c']), [1, 2, 1]);
  });

  test('closeSync() finishes them itself', async () => {
    const path = newPath();
    const store = await Store.open<any>(path);
    const done = Promise.all([store.update('b', () => 1), store.update('b', (value) => value + 1)]);
    store.closeSync();
    await using again = await Store.open<any>(path);
    assert.equal(again.getSync('b'), 2);
    assert.deepEqual(await done, [1, 2]);
  });
});

describe('eight processes', () => {
  const processes = 8;

  /** Starts all of them at once; answers what each has to say. */
  async function race(t: Parameters<typeof startProcess>[0], name: string, ...args: string[]): Promise<any[]> {
    const children = Array.from({ length: processes }, () => startProcess(t, 'atomic-worker', [name, ...args]));
    await Promise.all(children.map((child) => child.message('ready')));
    for (const child of children) child.send('go');
    return Promise.all(children.map(async (child) => JSON.parse(String(await child.message('done')))));
  }

  test('lose no count, whichever way they count', { timeout: 120_000 }, async (t) => {
    for (const name of [newSharedName(), newPath()]) {
      const rounds = 150;
      await race(t, name, 'count', String(rounds));
      await using store = await Store.open<any>(name);
      const counts = await store.getMany(['increment', 'sync', 'update', 'swap']);
      assert.deepEqual(
        counts,
        [1, 1, 1, 1].map((each) => each * processes * rounds),
      );
      const { damaged } = await store.verify();
      assert.deepEqual(damaged, []);
    }
  });

  test('a rate limiter lets exactly so many pass in each window', { timeout: 120_000 }, async (t) => {
    // One window for all of it: of 8 × 400 calls 1,000 may pass.
    const answers = await race(t, newSharedName(), 'limit', '400', '60000');
    const counts = answers.flat() as number[];
    assert.equal(counts.filter((count) => count <= 1000).length, 1000);
    assert.deepEqual(
      counts.sort((a, b) => a - b),
      Array.from({ length: processes * 400 }, (_, i) => i + 1),
    );
    // Many windows: each begins at 1 and leaves out no number.
    const began = performance.now();
    const short = (await race(t, newSharedName(), 'limit', '2000', '50')).flat() as number[];
    const windows: number[] = [];
    for (const count of short) windows[count] = (windows[count] ?? 0) + 1;
    for (let count = 2; count < windows.length; count++) {
      assert.ok((windows[count] as number) <= (windows[count - 1] as number), `${count}`);
    }
    const most = (performance.now() - began) / 50 + 1;
    assert.ok((windows[1] as number) <= most, `${windows[1]} windows of 50 ms`);
    assert.equal(short.length, processes * 2000);
  });
});
