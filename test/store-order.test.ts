// The rules that hold for the operations of one Store object: order, capture, fresh bytes, aborting, closing. What is
// to be in the middle of its way is held there by keeping libuv's threads busy.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { COLD, Store } from 'faultless';
import { newPath, newSeed, occupyThreads, Random, rejects } from './store-fixture.js';

async function collect<T>(source: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of source) all.push(item);
  return all;
}

const nextTurn = () => new Promise((resolve) => setImmediate(resolve));

describe('order', () => {
  test('operations on one key take effect in call order, awaited or not', async () => {
    await using store = await Store.open<any>(newPath());
    const seen = await Promise.all([
      store.get('key'),
      store.set('key', 1),
      store.get('key'),
      store.has('key'),
      store.set('key', 2),
      store.getMany(['key', 'other']),
      store.delete('key'),
      store.get('key'),
      store.delete('key'),
      store.set('key', 3),
      store.get('key'),
    ]);
    assert.deepEqual(seen, [
      undefined,
      undefined,
      1,
      true,
      undefined,
      [2, undefined],
      true,
      undefined,
      false,
      undefined,
      3,
    ]);
  });

  test('also over many ticks, with the threads busy', async () => {
    await using store = await Store.open<any>(newPath());
    const busy = occupyThreads();
    const checks: Promise<void>[] = [];
    for (let i = 0; i < 300; i++) {
      void store.set('key', i);
      checks.push(store.get('key').then((value) => assert.equal(value, i)));
      if (i % 10 === 0) await nextTurn();
    }
    await Promise.all(checks);
    await busy;
  });

  test('a flood of sets of one key: the last one stands', async () => {
    await using store = await Store.open<any>(newPath());
    for (let i = 0; i < 50_000; i++) void store.set('key', i);
    assert.equal(await store.get('key'), 49_999);
  });

  test('a key is the same key as a string and as bytes', async () => {
    await using store = await Store.open<any>(newPath());
    const busy = occupyThreads();
    void store.set('ключ', 1);
    await nextTurn();
    const first = store.get(Buffer.from('ключ'));
    void store.set(new Uint8Array(Buffer.from('ключ')), 2);
    await nextTurn();
    const second = store.get('ключ');
    void store.set(Buffer.from([0xff]), 3);
    const third = store.get(new Uint8Array([0xff]));
    assert.deepEqual(await Promise.all([first, second, third]), [1, 2, 3]);
    await busy;
  });

  test('clear comes after what was issued before it, and before what was issued after it', async () => {
    await using store = await Store.open<any>(newPath());
    for (let round = 0; round < 20; round++) {
      const before = Array.from({ length: 700 }, (_, i) => store.set(`before${i}`, i));
      const seenBefore = store.get('before699');
      const cleared = store.clear();
      const seenAfter = store.get('before0');
      const after = Array.from({ length: 10 }, (_, i) => store.set(`after${i}`, i));
      if (round % 2 === 0) await nextTurn();
      const many = store.getMany(['before1', 'after1']);
      assert.equal(await seenBefore, 699);
      assert.equal(await seenAfter, undefined);
      assert.deepEqual(await many, [undefined, 1]);
      await Promise.all([...before, cleared, ...after]);
      assert.equal(store.size, 10);
    }
  });

  test('two clears', async () => {
    await using store = await Store.open<any>(newPath());
    void store.set('a', 1);
    void store.clear();
    void store.set('b', 1);
    void store.clear();
    void store.set('c', 1);
    assert.deepEqual(await store.getMany(['a', 'b', 'c']), [undefined, undefined, 1]);
    assert.equal(store.size, 1);
  });

  test('getMany comes after earlier writes of its keys, and before later ones', async () => {
    await using store = await Store.open<any>(newPath());
    const checks: Promise<void>[] = [];
    for (let i = 0; i < 200; i++) {
      void store.set('a', i);
      void store.set('b', i);
      checks.push(
        store.getMany(['a', 'b', 'c']).then((values) => assert.deepEqual(values, [i, i, i === 0 ? undefined : i - 1])),
      );
      void store.set('c', i);
      if (i % 7 === 0) await nextTurn();
    }
    await Promise.all(checks);
  });

  test('random operations on few keys answer what a Map would', async () => {
    const random = new Random(newSeed('order'));
    await using store = await Store.open<any>(newPath());
    const model = new Map<string, number>();
    const pending: Promise<void>[] = [];
    const expecting = (promise: Promise<unknown>, expected: unknown) => {
      pending.push(promise.then((value) => assert.deepEqual(value, expected)));
    };
    for (let i = 0; i < 20_000; i++) {
      const key = `k${random.below(6)}`;
      const other = `k${random.below(6)}`;
      switch (random.below(12)) {
        case 0:
        case 1:
        case 2:
          expecting(store.set(key, i), undefined);
          model.set(key, i);
          break;
        case 3:
          expecting(store.delete(key), model.delete(key));
          break;
        case 4:
          expecting(store.has(key), model.has(key));
          break;
        case 5:
          expecting(store.getMany([key, other]), [model.get(key), model.get(other)]);
          break;
        case 6:
          assert.equal(store.getSync(key), model.get(key));
          break;
        case 7:
          if (random.below(10) === 0) {
            expecting(store.clear(), undefined);
            model.clear();
          }
          break;
        case 8:
          switch (random.below(20)) {
            case 0:
              store.setSync(key, i);
              model.set(key, i);
              break;
            case 1:
              assert.equal(store.deleteSync(key), model.delete(key));
          }
          break;
        case 9: {
          const now = store.tryGet(key);
          if (now !== COLD) assert.equal(now, model.get(key));
          const has = store.tryHas(key);
          if (has !== COLD) assert.equal(has, model.has(key));
          break;
        }
        default:
          expecting(store.get(key), model.get(key));
      }
      if (random.below(50) === 0) await nextTurn();
      if (random.below(500) === 0) await Promise.all(pending.splice(0));
      if (random.below(2000) === 0) assert.deepEqual(new Map(store.entriesSync()), model);
    }
    await Promise.all(pending);
    const left = new Map<string, number>();
    for await (const [key, value] of store) left.set(key, value);
    assert.deepEqual(left, model);
  });
});

describe('sync methods', () => {
  test('let pending operations of the key take effect first, though no thread is free', async () => {
    await using store = await Store.open<any>(newPath());
    let free = false;
    const busy = occupyThreads().then(() => {
      free = true;
    });
    const order: string[] = [];
    const first = store.set('key', 1).then(() => order.push('set'));
    const read = store.get('key').then((value) => order.push(`get ${value}`));
    // Not handed over yet.
    assert.equal(store.getSync('key'), 1);
    void store.set('key', 2);
    await nextTurn();
    // Handed over, and waiting for a thread.
    assert.equal(store.getSync('key'), 2);
    void store.set('key', 3);
    assert.equal(store.deleteSync('key'), true);
    void store.set('key', 4);
    store.setSync('key', 5);
    assert.equal(store.hasSync('key'), true);
    const last = store.get('key');
    void store.set('other', 1);
    store.clearSync();
    assert.equal(store.getSync('other'), undefined);
    void store.set('a', 1);
    void store.clear();
    void store.set('b', 1);
    assert.equal(store.getSync('b'), 1);
    assert.deepEqual([...store.keysSync()], ['b']);
    store.flushSync();
    assert.equal(free, false, 'the threads were busy all the time');
    assert.equal(await last, 5);
    await Promise.all([first, read]);
    assert.deepEqual(order, ['set', 'get 1']);
    await busy;
  });

  test('a read issued before a sync write does not see it', async () => {
    await using store = await Store.open<any>(newPath());
    await store.set('key', 'old');
    const busy = occupyThreads();
    const pending = [store.get('key'), store.getMany(['key'])];
    await nextTurn();
    store.setSync('key', 'new');
    pending.push(store.get('key'));
    assert.deepEqual(await Promise.all(pending), ['old', ['old'], 'new']);
    await busy;
  });

  test('closeSync finishes what is pending', async () => {
    const path = newPath();
    const store = await Store.open<any>(path);
    const busy = occupyThreads();
    const pending = Array.from({ length: 2000 }, (_, i) => store.set(`k${i}`, i));
    const read = store.get('k5');
    store.closeSync();
    await Promise.all(pending);
    assert.equal(await read, 5);
    await busy;
    await using again = await Store.open(path);
    assert.equal(again.size, 2000);
  });
});

describe('tryGet and tryHas', () => {
  test('answer a pending value that is at hand, COLD where it is not known', async () => {
    await using store = await Store.open<any>(newPath());
    await store.set('key', 'old');
    const busy = occupyThreads();
    const values = ['new', { a: Buffer.from('b') }, 'x'.repeat(100_000)];
    const pending: Promise<unknown>[] = [];
    for (const value of values) {
      pending.push(store.set('key', value));
      assert.deepEqual(store.tryGet('key'), value);
      assert.equal(store.tryHas('key'), true);
      await nextTurn();
      assert.deepEqual(store.tryGet('key'), value);
    }
    const bytes = store.set('bytes', Buffer.from('mine'));
    const copy = store.tryGet('bytes');
    copy.fill(0);
    pending.push(bytes, store.delete('key'));
    assert.equal(store.tryGet('key'), undefined);
    assert.equal(store.tryHas('key'), false);
    pending.push(store.get('absent'));
    pending.push(store.clear());
    assert.equal(store.tryGet('key'), COLD);
    assert.equal(store.tryHas('absent'), COLD);
    pending.push(store.set('key', 'after'));
    assert.equal(store.tryGet('key'), 'after');
    await Promise.all(pending);
    assert.equal(await store.get('key'), 'after');
    await busy;
  });

  test('a pending value handed out is not the pending value itself', async () => {
    await using store = await Store.open<any>(newPath());
    const busy = occupyThreads();
    for (const size of [10, 100_000]) {
      void store.set('bytes', Buffer.alloc(size, 1));
      store.tryGet('bytes').fill(2);
      assert.deepEqual(await store.get('bytes'), Buffer.alloc(size, 1));
    }
    await busy;
  });
});

describe('bytes', () => {
  test('handed in are captured at the call', async () => {
    await using store = await Store.open(newPath(), { encoding: 'buffer' });
    for (const size of [1, 5000, 100_000]) {
      const value = Buffer.alloc(size, 1);
      const key = Buffer.from('key');
      const pending = [store.set(key, value), store.setMany([[key.subarray(0, 2), value]])];
      value.fill(2);
      const reads = [store.get(key), store.getMany([key])];
      const absent = store.delete(Buffer.concat([key, key]));
      key.fill(0x7a);
      await Promise.all(pending);
      assert.equal(await absent, false);
      assert.deepEqual(await store.get('key'), Buffer.alloc(size, 1));
      assert.deepEqual(await store.get('ke'), Buffer.alloc(size, 1));
      assert.deepEqual(await Promise.all(reads), [Buffer.alloc(size, 1), [Buffer.alloc(size, 1)]]);
      value.fill(3);
      store.setSync('sync', value);
      value.fill(4);
      assert.deepEqual(store.getSync('sync'), Buffer.alloc(size, 3));
    }
    const shared = new Uint8Array(new SharedArrayBuffer(10)).fill(5);
    const set = store.set('shared', shared);
    shared.fill(6);
    await set;
    assert.deepEqual(await store.get('shared'), Buffer.alloc(10, 5));
  });

  test('handed out are fresh: changing them changes nothing else, and keeping a small one keeps little', async () => {
    await using store = await Store.open(newPath(), { encoding: 'buffer' });
    const sizes = [1, 100, 20_000, 70_000];
    for (const size of sizes) await store.set(`key${size}.`, Buffer.alloc(size, 1));
    const read = async (key: string) => [
      ...(await Promise.all([store.get(key), store.get(key)])),
      ...(await store.getMany([key, key])),
      store.getSync(key),
      ...(await collect(store.values({ prefix: key }))),
    ];
    for (const size of sizes) {
      const all = (await read(`key${size}.`)) as Buffer[];
      for (const [i, bytes] of all.entries()) {
        assert.deepEqual(bytes, Buffer.alloc(size, 1), `${i}`);
        bytes.fill(2);
        assert.ok(bytes.buffer.byteLength <= Math.max(64 * 1024, size), `${bytes.buffer.byteLength} bytes are kept`);
      }
      assert.deepEqual(await store.get(`key${size}.`), Buffer.alloc(size, 1));
    }
  });
});

describe('abort', () => {
  test('rejects at once with the reason; what was not begun does not happen', async () => {
    await using store = await Store.open<any>(newPath());
    await store.set('key', 'old');
    const busy = occupyThreads();
    const reason = new Error('enough');
    const calls: ((signal: AbortSignal) => Promise<unknown>)[] = [
      (signal) => store.set('key', 'new', { signal }),
      (signal) => store.get('key', { signal }),
      (signal) => store.has('key', { signal }),
      (signal) => store.delete('key', { signal }),
      (signal) => store.getMany(['key'], { signal }),
      (signal) => store.setMany([['key', 'new']], { signal }),
      (signal) => store.deleteMany(['key'], { signal }),
      (signal) => store.clear({ signal }),
    ];
    let free = false;
    void busy.then(() => {
      free = true;
    });
    for (const handedOver of [false, true]) {
      for (const call of calls) {
        const controller = new AbortController();
        const promise = call(controller.signal);
        if (handedOver) await nextTurn();
        controller.abort(reason);
        await assert.rejects(promise, reason);
        await assert.rejects(call(controller.signal), reason);
      }
    }
    assert.equal(free, false, 'no thread was needed to tell');
    assert.equal(await store.get('key'), 'old');
    await busy;
  });

  test('an aborted operation holds up no other one', async () => {
    await using store = await Store.open<any>(newPath());
    const busy = occupyThreads();
    const controller = new AbortController();
    const { signal } = controller;
    const aborted = [store.set('key', 1, { signal }), store.clear({ signal }), store.getMany(['key'], { signal })];
    const kept = store.set('key', 2);
    const read = store.get('key');
    controller.abort();
    for (const promise of aborted) await assert.rejects(promise, { name: 'AbortError' });
    assert.equal(store.tryGet('key'), 2);
    assert.equal(await read, 2);
    await kept;
    await busy;
  });

  test('a signal that outlives its operations is let go', async () => {
    await using store = await Store.open<any>(newPath());
    const { signal } = new AbortController();
    let listeners = 0;
    const { addEventListener, removeEventListener } = signal;
    signal.addEventListener = (...args: any[]) => {
      listeners++;
      return addEventListener.apply(signal, args as never);
    };
    signal.removeEventListener = (...args: any[]) => {
      listeners--;
      return removeEventListener.apply(signal, args as never);
    };
    await Promise.all(Array.from({ length: 2000 }, (_, i) => store.set(`k${i}`, i, { signal })));
    await Promise.all(Array.from({ length: 2000 }, (_, i) => store.get(`k${i}`, { signal })));
    assert.equal(listeners, 0);
  });

  test('open: a signal that aborts', async () => {
    const path = newPath();
    await assert.rejects(Store.open(path, { signal: AbortSignal.abort() }), { name: 'AbortError' });
    const controller = new AbortController();
    const opening = Store.open(path, { signal: controller.signal });
    controller.abort();
    await assert.rejects(opening, { name: 'AbortError' });
    await using store = await Store.open(path);
    assert.equal(store.size, 0);
  });

  test('setMany of an async iterable stops it', async () => {
    await using store = await Store.open<any>(newPath());
    const controller = new AbortController();
    let ended = false;
    async function* source() {
      try {
        for (let i = 0; ; i++) {
          if (i === 5000) controller.abort();
          yield [`k${i}`, i] as const;
        }
      } finally {
        ended = true;
      }
    }
    await assert.rejects(store.setMany(source(), { signal: controller.signal }), { name: 'AbortError' });
    while (!ended) await nextTurn();
  });
});

describe('close', () => {
  test('calls issued before it finish, later ones do not begin', async () => {
    const path = newPath();
    const store = await Store.open<any>(path);
    const busy = occupyThreads();
    const pending: Promise<unknown>[] = Array.from({ length: 3000 }, (_, i) => store.set(`k${i % 2500}`, i));
    pending.push(
      store.get('k0'),
      store.getMany(['k0', 'k499']),
      store.deleteMany(['k1', 'k2']),
      store.flush(),
      store.residency().then((share) => share > 0),
      store.setMany(
        (async function* () {
          yield ['late', 1] as const;
          await nextTurn();
          yield ['later', 2] as const;
        })(),
      ),
    );
    const closing = store.close();
    await rejects(store.set('never', 1), 'ERR_CLOSED');
    const results = await Promise.all(pending);
    assert.deepEqual(results.slice(-6), [2500, [2500, 2999], 2, undefined, true, undefined]);
    await closing;
    await busy;
    await using again = await Store.open<any>(path);
    assert.equal(again.size, 2500);
    assert.deepEqual(await again.getMany(['late', 'later', 'never']), [1, 2, undefined]);
  });

  test('two Store objects of one file share it, and close on their own', async () => {
    const path = newPath();
    const first = await Store.open<any>(path);
    const second = Store.openSync<any>(path);
    await first.set('key', 1);
    assert.equal(await second.get('key'), 1);
    second.setSync('key', 2);
    assert.equal(first.getSync('key'), 2);
    await first.close();
    assert.equal(await second.get('key'), 2);
    await second.set('key', 3);
    await second.close();
    await using third = await Store.open<any>(path);
    assert.equal(await third.get('key'), 3);
  });
});
