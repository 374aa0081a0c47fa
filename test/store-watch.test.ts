// watch(): what other processes and this one change, as it happens.
import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { type Change, Store } from 'faultless';
import { startProcess } from './fixtures/start-process.js';
import { endsWith, newPath, newSharedName, occupyThreads, rejects, throws, wrong } from './store-fixture.js';

/** The next `count` changes. */
async function take<V>(changes: AsyncIterator<Change<V>>, count: number): Promise<Change<V>[]> {
  const taken: Change<V>[] = [];
  while (taken.length < count) {
    const { done, value } = await changes.next();
    if (done) break;
    taken.push(value);
  }
  return taken;
}

const set = <V>(key: string, value: V): Change<V> => ({ type: 'set', key, value });
const end = { done: true, value: undefined };

for (const [where, location] of [
  ['on disk', newPath],
  ['in shared memory', newSharedName],
] as const) {
  describe(`watching a store ${where}`, () => {
    test('own changes are told, of a key in their order, in each encoding', async () => {
      const cases: [string, unknown[]][] = [
        ['auto', [1, 'ä', { deep: [null] }, Buffer.from([0, 255]), 'x'.repeat(10_000)]],
        ['utf8', ['', 'ä', 'x'.repeat(10_000)]],
        ['json', [[1, 2], { a: 1 }]],
      ];
      for (const [encoding, values] of cases) {
        await using store = await Store.open(location(), { encoding: encoding as 'auto' });
        await store.set('key', values[0]);
        const changes = store.watch();
        for (const value of values) await store.set('key', value);
        store.deleteSync('key');
        const told = await take(changes, values.length + 1);
        const expected = [
          ...values.map((value) => set('key', value)),
          { type: 'delete', key: 'key', reason: 'deleted' },
        ];
        assert.deepEqual(told, expected);
      }
    });

    test('a waiting next() is woken by each kind of write, and by no read', async () => {
      await using store = await Store.open<number>(location());
      const changes = store.watch();
      const writes: [() => Promise<unknown>, Change<number>][] = [
        [() => store.set('a', 1), set('a', 1)],
        [() => store.compareAndSet('a', 1, 2), set('a', 2)],
        [() => store.increment('a'), set('a', 3)],
        [() => store.update('a', (value) => (value ?? 0) + 1), set('a', 4)],
        [() => store.delete('a'), { type: 'delete', key: 'a', reason: 'deleted' }],
        [async () => store.setSync('a', 5), set('a', 5)],
        [() => store.clear(), { type: 'clear' }],
        [async () => store.incrementSync('a'), set('a', 1)],
        [async () => store.clearSync(), { type: 'clear' }],
      ];
      for (const [write, expected] of writes) {
        const next = changes.next();
        await store.get('a');
        await store.touch('a', 100_000);
        await store.delete('absent');
        await write();
        assert.deepEqual(await next, { done: false, value: expected });
      }
    });

    test('only keys with the prefix', async () => {
      await using store = await Store.open(location());
      const users = store.watch({ prefix: 'user:ä' });
      const bytes = store.watch({ prefix: Buffer.from('user:ä') });
      await store.setMany(['user:ä1', 'user:a', 'use', 'user:ä', 'x'].map((key) => [key, 1] as const));
      await store.delete('x');
      await store.set('user:ä1', 2);
      await store.delete('user:ä');
      for (const changes of [users, bytes]) {
        const told = (await take(changes, 4)).map((change) => ('key' in change ? change.key : change.type));
        assert.deepEqual(told.sort(), ['user:ä', 'user:ä', 'user:ä1', 'user:ä1']);
      }
    });

    test('what expires is told once, by itself', async () => {
      await using store = await Store.open(location());
      const changes = store.watch();
      const begin = Date.now();
      await store.set('session', 1, { ttl: 40 });
      assert.deepEqual(await take(changes, 2), [
        set('session', 1),
        { type: 'delete', key: 'session', reason: 'expired' },
      ]);
      assert.ok(Date.now() - begin >= 30);
      await store.set('session', 2);
      assert.deepEqual(await take(changes, 1), [set('session', 2)]);
    });

    test('writers in other processes: every change, in order, to the last one', async (t) => {
      const file = location();
      await using store = await Store.open<number>(file);
      const writers = [0, 1, 2].map((number) => startProcess(t, 'watched-writer', [file, `${number}`]));
      const changes = store.watch();
      let count = 0;
      const last = new Map<string, number>();
      let known = new Map<string, number>();
      const following = (async () => {
        let missed = false;
        for await (const change of changes) {
          if (change.type === 'gap') {
            missed = true;
            known = new Map();
            for await (const [key, value] of store) known.set(key, value);
            continue;
          }
          assert.ok(change.type === 'set');
          if (change.key === 'end') return;
          const before = last.get(change.key) ?? 0;
          if (missed) assert.ok(change.value > before, `${change.key}: ${change.value} after ${before}`);
          else assert.equal(change.value, before + 1, change.key);
          last.set(change.key, change.value);
          known.set(change.key, change.value);
          count++;
        }
      })();
      await Promise.all(writers.map((writer) => writer.ready()));
      await sleep(500);
      // One of them dies in the middle of it.
      await writers[2]?.kill();
      await sleep(300);
      for (const writer of writers.slice(0, 2)) writer.send('stop');
      const written = (await Promise.all(writers.slice(0, 2).map((writer) => writer.message('written')))) as number[];
      await sleep(1200); // what the dead one decided and did not tell is found out once a second
      await store.set('end', 0);
      await following;
      assert.ok(count > 0);
      for await (const [key, value] of store.entries({ prefix: 'writer-' })) {
        assert.equal(known.get(key), value, key);
      }
      written.forEach((sequence, number) => {
        assert.equal(store.getSync(`writer-${number}-0`), sequence);
      });
    });

    test('who is slow is told a gap, and costs nothing', async () => {
      await using store = await Store.open(location(), { encoding: 'utf8' });
      const changes = store.watch();
      await store.set('first', '');
      assert.deepEqual(await take(changes, 1), [set('first', '')]);
      const value = 'x'.repeat(1000);
      for (let round = 0; round < 30; round++) {
        await store.setMany(Array.from({ length: 1000 }, (_, i) => [`key${i % 50}`, value] as const));
      }
      assert.ok(store.stats().fileBytes < 16 * 2 ** 20, `${store.stats().fileBytes}`);
      assert.deepEqual(await take(changes, 1), [{ type: 'gap' }]);
      await store.set('after', '1');
      assert.deepEqual(await take(changes, 1), [set('after', '1')]);
    });

    test('a killed watcher leaves nothing behind', async (t) => {
      const file = location();
      await using store = await Store.open(file);
      const watcher = startProcess(t, 'watcher', [file]);
      await watcher.ready();
      await store.set('key', 1);
      await watcher.message('seen');
      await watcher.kill();
      for (let i = 0; i < 100; i++) await store.set('key', i);
      const changes = store.watch();
      await store.set('key', 'after');
      assert.deepEqual(await take(changes, 1), [set('key', 'after')]);
    });
  });
}

describe('how watching ends', () => {
  test('with return() and a break: what waits resolves, and so does all that comes later', async () => {
    await using store = await Store.open(newSharedName());
    const changes = store.watch();
    const waiting = [changes.next(), changes.next()];
    await sleep(20);
    assert.deepEqual(await changes.return?.(), end);
    assert.deepEqual(await Promise.all(waiting), [end, end]);
    assert.deepEqual(await changes.next(), end);
    const others = store.watch();
    await store.set('key', 1);
    for await (const change of others) {
      assert.deepEqual(change, set('key', 1));
      break;
    }
    assert.deepEqual(await others.next(), end);
  });

  test('when the store is closed, also while a step is read', async () => {
    for (const wait of [0, 1, 30]) {
      for (const sync of [false, true]) {
        const store = await Store.open(newSharedName());
        const idle = store.watch();
        const changes = store.watch();
        const ended: unknown[] = [];
        const following = (async () => {
          for await (const change of changes) ended.push(change);
        })();
        if (wait > 0) await sleep(wait);
        if (sync) store.closeSync();
        else await store.close();
        await following;
        assert.deepEqual(ended, []);
        assert.deepEqual(await idle.next(), end);
        throws(() => store.watch(), 'ERR_CLOSED');
      }
    }
  });

  test('with the signal: next() rejects with its reason, then it is over', async () => {
    await using store = await Store.open(newSharedName());
    for (const wait of [0, 20]) {
      const controller = new AbortController();
      const changes = store.watch({ signal: controller.signal });
      const waiting = changes.next();
      const rejected = assert.rejects(waiting, (error) => error === 'enough');
      await sleep(wait);
      controller.abort('enough');
      await rejected;
      assert.deepEqual(await changes.next(), end);
    }
    const aborted = store.watch({ signal: AbortSignal.abort('before') });
    await assert.rejects(aborted.next(), (error) => error === 'before');
  });

  test('the process ends with a watcher that is not asked, and stays with one that is', async () => {
    const script = `import { Store } from 'faultless';
      const store = await Store.open(process.argv[1]);
      const idle = store.watch();
      const changes = store.watch();
      if (process.argv[2] === 'ask') {
        setTimeout(() => store.set('key', 1), 300).unref();
        console.log(JSON.stringify((await changes.next()).value));
      }
      console.log('ends');`;
    assert.equal(await endsWith(0, script, [newPath(), '']), 'ends\n');
    // The timer keeps nobody alive; the waiting next() does.
    assert.equal(await endsWith(0, script, [newPath(), 'ask']), '{"type":"set","key":"key","value":1}\nends\n');
  });
});

test('while it waits all of libuv’s threads are free', async () => {
  const script = `import { Store } from 'faultless';
    import { stat } from 'node:fs/promises';
    const store = await Store.open(process.argv[1]);
    const all = Array.from({ length: 200 }, () => store.watch());
    const waiting = all.map((changes) => changes.next());
    await new Promise((resolve) => setTimeout(resolve, 200));
    await stat('.');
    await store.set('key', 1);
    const told = await Promise.all(waiting);
    console.log(told.every(({ value }) => value.key === 'key'));`;
  assert.equal(await endsWith(0, script, [newPath()], [], 'export UV_THREADPOOL_SIZE=1'), 'true\n');
  await stat('.');
});

test('a set that waits for a thread is told, whoever is watching by then', async () => {
  await using store = await Store.open(newPath());
  const occupied = occupyThreads();
  const written = store.set('key', 1);
  const changes = store.watch();
  assert.deepEqual(await take(changes, 1), [set('key', 1)]);
  await Promise.all([written, occupied]);
});

test('a readOnly store is told as well', async () => {
  const file = newPath();
  await using store = await Store.open(file);
  await using reader = await Store.open(file, { readOnly: true });
  const changes = reader.watch();
  const next = changes.next();
  await store.set('key', 1);
  assert.deepEqual(await next, { done: false, value: set('key', 1) });
  await store.clear();
  assert.deepEqual(await take(changes, 1), [{ type: 'clear' }]);
});

test('each thread of a process has its own', async () => {
  const location = newSharedName();
  await using store = await Store.open(location);
  const script = `import { parentPort, workerData } from 'node:worker_threads';
    const { Store } = await import(workerData.library);
    const store = await Store.open(workerData.location);
    const changes = store.watch();
    const next = changes.next();
    parentPort.postMessage('ready');
    parentPort.postMessage((await next).value);
    void changes.next(); // ends with the thread
    parentPort.postMessage('waits');`;
  const url = new URL(`data:text/javascript,${encodeURIComponent(script)}`);
  const library = import.meta.resolve('faultless');
  const worker = new Worker(url, { workerData: { library, location } });
  const messages: unknown[] = [];
  const all = new Promise<void>((resolve, reject) => {
    worker.on('error', reject);
    worker.on('message', (message) => {
      messages.push(message);
      if (message === 'ready') void store.set('key', 1);
      if (message === 'waits') resolve();
    });
  });
  await all;
  assert.deepEqual(messages, ['ready', set('key', 1), 'waits']);
  await worker.terminate();
  await store.set('key', 2);
});

test('bad arguments', async () => {
  await using store = await Store.open(newSharedName());
  for (const value of [1, null, {}, true, []]) {
    throws(() => store.watch({ prefix: wrong(value) }), 'ERR_INVALID_ARG_TYPE', TypeError);
  }
  throws(() => store.watch({ prefix: '\ud800' }), 'ERR_INVALID_ARG_VALUE');
  throws(() => store.watch({ signal: wrong({}) }), 'ERR_INVALID_ARG_TYPE', TypeError);
  throws(() => store.watch(wrong(1)), 'ERR_INVALID_ARG_TYPE', TypeError);
});

test('a value that its encoding cannot read rejects that next() and no other', async () => {
  const location = newSharedName();
  const codec = {
    name: 'picky',
    encode: (value: string) => value,
    decode(bytes: Buffer): string {
      if (bytes.toString() === 'bad') throw new Error('bad');
      return bytes.toString();
    },
  };
  await using store = await Store.open(location, { encoding: codec });
  const changes = store.watch();
  for (const value of ['a', 'bad', 'b']) await store.set('key', value);
  assert.deepEqual(await take(changes, 1), [set('key', 'a')]);
  await rejects(changes.next(), 'ERR_CORRUPT');
  assert.deepEqual(await take(changes, 1), [set('key', 'b')]);
});
