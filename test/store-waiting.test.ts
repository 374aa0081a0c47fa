// Operations that have to wait: for a lock whose holder does not move, and for what is not in memory.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { COLD, MappedFile, Store } from 'faultless';
import { newPath } from './store-fixture.js';

const keys = Array.from({ length: 1000 }, (_, i) => `key${i}`);

/** A process that writes all the time, large values, so that it is nearly always in the middle of one. */
async function startWriter(path: string) {
  const script = `
    import { Store } from 'faultless';
    const store = Store.openSync(process.argv[1], { encoding: 'buffer' });
    const value = Buffer.alloc(30_000);
    process.on('disconnect', () => process.exit());
    process.send('begun');
    setImmediate(function write() {
      for (let i = 0; i < 200; i++) store.setSync('writer' + i % 50, value);
      setImmediate(write);
    });`;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script, '--', path], {
    cwd: import.meta.dirname,
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  await new Promise((resolve, reject) => {
    child.once('message', resolve);
    child.once('exit', reject);
  });
  return child;
}

describe('a lock whose holder does not move', () => {
  test('operations behind it wait without a thread, the others go on; order holds; ERR_BUSY after 5 s', {
    timeout: 120_000,
  }, async () => {
    const path = newPath();
    await using store = await Store.open(path, { encoding: 'buffer', concurrency: 2 });
    await store.setMany(keys.map((key) => [key, 'old'] as const));
    const writer = await startWriter(path);
    try {
      let blocked = new Set<string>();
      let pending: Promise<PromiseSettledResult<unknown>[]> = Promise.resolve([]);
      let free: string | undefined;
      for (let attempt = 0; attempt < 100 && free === undefined; attempt++) {
        await pending;
        await sleep(attempt % 7);
        writer.kill('SIGSTOP');
        await sleep(10);
        blocked = new Set(keys);
        const sets = keys.map((key) => store.set(key, 'new').then(() => blocked.delete(key)));
        pending = Promise.allSettled(sets);
        await sleep(500);
        if (blocked.size > 0 && blocked.size < keys.length / 2) {
          // It may also hold the lock under which all shards get space: nobody who needs some would go on.
          const candidate = keys.find((key) => !blocked.has(key)) as string;
          const needsSpace = store.set(candidate, Buffer.alloc(200_000));
          pending = Promise.allSettled([...sets, needsSpace]);
          if (await Promise.race([needsSpace.then(() => true), sleep(500, false)])) free = candidate;
        }
        if (free === undefined) writer.kill('SIGCONT');
      }
      assert.ok(free !== undefined, 'the writer was never stopped while it held the lock of a shard and no other');
      const [held] = blocked as unknown as [string];

      // Far more waits than there are threads, and everything else goes on.
      const order: string[] = [];
      const later = Promise.allSettled([
        store.get(held).then((value) => order.push(`get ${value}`)),
        store.set(held, 'newer').then(() => order.push('set')),
        store.get(held).then((value) => order.push(`get ${value}`)),
      ]);
      for (let i = 0; i < 100; i++) {
        await store.set(free, `${i}`);
        assert.equal(String(await store.get(free)), `${i}`);
        await stat(path);
      }
      const { queue } = store.stats();
      assert.ok(queue.running <= 2, `${queue.running} requests hold a thread`);
      assert.ok(blocked.has(held));
      assert.equal(String(store.tryGet(held)), 'newer', 'the pending value is at hand');
      assert.deepEqual(order, []);

      // After 5 s the waiting ones are given up, each by itself.
      const outcomes = [...(await pending), ...(await later)];
      const codes = new Set(
        outcomes.filter(({ status }) => status === 'rejected').map((o) => (o as PromiseRejectedResult).reason.code),
      );
      assert.deepEqual([...codes], ['ERR_BUSY']);
      assert.throws(() => store.setSync(held, 'sync'), { code: 'ERR_BUSY' });

      // The same again, and the holder goes on in time.
      blocked = new Set();
      const again = keys.map((key) => store.set(key, 'again'));
      const seen = [store.get(held), store.delete(held), store.get(held)];
      await sleep(200);
      writer.kill('SIGCONT');
      await Promise.all(again);
      const [first, second, third] = await Promise.all(seen);
      assert.deepEqual([String(first), second, third], ['again', true, undefined]);
    } finally {
      writer.kill('SIGKILL');
    }
    // The dead one's lock is taken over.
    for (const key of keys) await store.set(key, 'end');
    for (const key of keys) assert.equal(String(await store.get(key)), 'end');
  });
});

describe('what is not in memory', () => {
  test('cold reads answer rightly, beside hot ones and writes, in order', async (t) => {
    const path = newPath();
    const value = (i: number) => `${i}`.padEnd(2000, 'x');
    {
      await using store = await Store.open(path, { encoding: 'utf8' });
      await store.setMany(keys.map((key, i) => [key, value(i)] as const));
      await store.flush();
    }
    const chill = async () => {
      await using file = await MappedFile.open(path);
      await file.advise('dontneed');
    };
    let cold = 0;
    for (let round = 0; round < 5; round++) {
      await chill();
      await using store = await Store.open(path, { encoding: 'utf8' });
      for (const key of keys) if (store.tryGet(key) === COLD) cold++;
      const pending: Promise<void>[] = [];
      for (const [i, key] of keys.entries()) {
        pending.push(store.get(key).then((found) => assert.equal(found, value(i), key)));
        if (i % 10 === 0) {
          pending.push(store.set(key, `${key} changed`));
          pending.push(store.get(key).then((found) => assert.equal(found, `${key} changed`)));
          pending.push(store.set(key, value(i)));
        }
        if (i % 50 === 0) {
          const some = keys.slice(i, i + 20);
          pending.push(
            store.getMany(some).then((all) =>
              assert.deepEqual(
                all,
                some.map((_, j) => value(i + j)),
              ),
            ),
          );
        }
      }
      await Promise.all(pending);
      await store.flush();
    }
    t.diagnostic(`${cold} of ${5 * keys.length} keys were cold`);
  });
});
