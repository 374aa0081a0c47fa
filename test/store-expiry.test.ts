// Values that expire, by the public API: what every read says of them, the rules of WriteOptions, several processes whose
// wall clocks differ.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { COLD, Store } from 'faultless';
import { directory, newPath, newSharedName, rejects, throws, wrong } from './store-fixture.js';

/** Milliseconds to live that a test waits for, and has time for something before; and how long it waits. */
const brief = 1000;
const over = (): Promise<void> => sleep(brief + 5);

async function keysOf(store: Store): Promise<string[]> {
  const keys: string[] = [];
  for await (const key of store.keys()) keys.push(key);
  return keys.sort();
}

describe('expiry', () => {
  test('an expired entry is absent to every read, and to writes', async () => {
    await using store = await Store.open(newSharedName());
    await store.set('goes', 'value', { ttl: brief });
    await store.setMany([['many', 1]], { ttl: brief });
    store.setSync('sync', 'value', { ttl: brief });
    await store.set('stays', 'value', { ttl: Infinity });
    await store.set('large', Buffer.alloc(300_000, 7), { ttl: brief });
    store.setSync('large sync', Buffer.alloc(300_000, 7), { ttl: brief });
    const all = ['goes', 'large', 'large sync', 'many', 'stays', 'sync'];
    assert.deepEqual(await keysOf(store), all);
    for (let i = 0; i < 4; i++) assert.equal(store.getSync('goes'), 'value'); // a hot copy
    assert.equal(store.tryGet('goes'), 'value');
    await over();
    for (const key of all.filter((name) => name !== 'stays')) {
      assert.equal(await store.get(key), undefined);
      assert.equal(store.getSync(key), undefined);
      assert.ok([undefined, COLD].includes(store.tryGet(key) as never), key);
      assert.equal(await store.has(key), false);
      assert.equal(store.hasSync(key), false);
      assert.notEqual(store.tryHas(key), true);
      assert.equal(await store.getEntry(key), undefined);
      assert.equal(await store.ttl(key), undefined);
      assert.equal(await store.touch(key, 1000), false);
    }
    assert.deepEqual(await store.getMany(all), [undefined, undefined, undefined, undefined, 'value', undefined]);
    assert.deepEqual(await keysOf(store), ['stays']);
    assert.deepEqual([...store.keysSync()], ['stays']);
    assert.ok(store.size > 0, 'not all of it is swept by so few writes');
    assert.equal(await store.delete('goes'), false);
    assert.equal(store.deleteSync('sync'), false);
    assert.equal(await store.compareAndSet('many', 1, 2), false);
    assert.equal(await store.compareAndSet('many', undefined, 2), true);
  });

  test('ttl, touch and getEntry tell what is left, in milliseconds', async () => {
    await using store = await Store.open(newSharedName());
    await store.set('key', 'value', { ttl: 60_000 });
    const left = (await store.ttl('key')) as number;
    assert.ok(left > 59_000 && left <= 60_000, `${left}`);
    assert.equal(await store.touch('key', 5000.5), true);
    const entry = await store.getEntry('key');
    assert.ok(entry !== undefined && entry.ttl > 4000 && entry.ttl <= 5001, `${entry?.ttl}`);
    assert.deepEqual({ value: entry.value, bytes: entry.bytes }, { value: 'value', bytes: 6 });
    assert.equal(await store.touch('key', Infinity), true);
    assert.equal(await store.ttl('key'), Infinity);
    assert.deepEqual(await store.getEntry('key'), { value: 'value', ttl: Infinity, bytes: 6 });
    assert.equal(await store.touch('absent', 10), false);
    assert.equal(await store.ttl('absent'), undefined);
    assert.equal(await store.touch('key', Number.MAX_VALUE), true);
    assert.ok(((await store.ttl('key')) as number) > 2 ** 52);
    assert.equal(await store.touch('key', Number.MIN_VALUE), true); // part of a millisecond counts as one
    await sleep(3);
    assert.equal(await store.get('key'), undefined);
  });

  test('set and compareAndSet clear an earlier end, increment and update keep it', async () => {
    await using store = await Store.open<any>(newSharedName());
    const ttlAfter = async (write: () => Promise<unknown>): Promise<number | undefined> => {
      await store.set('key', 1, { ttl: 60_000 });
      await write();
      return store.ttl('key');
    };
    assert.equal(await ttlAfter(() => store.set('key', 2)), Infinity);
    assert.equal(await ttlAfter(() => store.setMany([['key', 2]])), Infinity);
    assert.equal(await ttlAfter(async () => store.setSync('key', 2)), Infinity);
    assert.equal(await ttlAfter(() => store.compareAndSet('key', 1, 2)), Infinity);
    const kept = [
      () => store.increment('key'),
      async () => store.incrementSync('key'),
      () => store.update('key', (value) => value + 1),
      () => store.compareAndSet('key', 3, 4), // refused
    ];
    for (const write of kept) {
      const left = (await ttlAfter(write)) as number;
      assert.ok(left > 50_000 && left <= 60_000, `${write}: ${left}`);
    }
    const given = [
      () => store.set('key', 2, { ttl: 1000 }),
      () => store.compareAndSet('key', 1, 2, { ttl: 1000 }),
      () => store.increment('key', 1, { ttl: 1000 }),
      async () => store.incrementSync('key', 1, { ttl: 1000 }),
      () => store.update('key', () => 5, { ttl: 1000 }),
    ];
    for (const write of given) {
      const left = (await ttlAfter(write)) as number;
      assert.ok(left > 0 && left <= 1000, `${write}: ${left}`);
    }
    assert.equal(await ttlAfter(() => store.increment('key', 1, { ttl: Infinity })), Infinity);
    assert.equal(await ttlAfter(() => store.update('key', () => 7, { ttl: Infinity })), Infinity);
    await store.increment('new');
    assert.equal(await store.ttl('new'), Infinity);
  });

  test("the store's ttl is for writes that give none", async () => {
    const name = newSharedName();
    await using store = await Store.open<any>(name, { ttl: 60_000 });
    const limited = async (key: string): Promise<boolean> => ((await store.ttl(key)) as number) <= 60_000;
    await store.set('set', 1);
    store.setSync('setSync', 1);
    await store.setMany([['setMany', 1]]);
    await store.compareAndSet('swapped', undefined, 1);
    await store.increment('incremented');
    store.incrementSync('incrementedSync');
    await store.update('updated', () => 1);
    for await (const key of store.keys()) assert.ok(await limited(key), key);
    assert.equal(store.size, 7);
    await store.set('without', 1, { ttl: Infinity });
    assert.equal(await store.ttl('without'), Infinity);
    await store.increment('without');
    assert.equal(await store.ttl('without'), Infinity);
    await store.set('without', 2);
    assert.ok(await limited('without'));
    // It holds for this Store alone.
    await using other = await Store.open<any>(name);
    await other.set('other', 1);
    assert.equal(await other.ttl('other'), Infinity);
  });

  test('wrong times to live', async () => {
    const path = newPath();
    const numbers = [0, -1, Number.NaN, Number.NEGATIVE_INFINITY];
    const others = ['1', null, 1n, {}];
    for (const ttl of numbers) await rejects(Store.open(path, { ttl }), 'ERR_OUT_OF_RANGE', RangeError);
    for (const ttl of others) throws(() => Store.openSync(path, wrong({ ttl })), 'ERR_INVALID_ARG_TYPE', TypeError);
    assert.ok(!existsSync(path));
    await using store = await Store.open<any>(path);
    const calls = (ttl: never): Promise<unknown>[] => [
      store.set('key', 1, { ttl }),
      store.setMany([['key', 1]], { ttl }),
      store.compareAndSet('key', undefined, 1, { ttl }),
      store.increment('key', 1, { ttl }),
      store.update('key', () => 1, { ttl }),
      store.touch('key', ttl),
    ];
    for (const ttl of numbers) {
      for (const call of calls(wrong(ttl))) await rejects(call, 'ERR_OUT_OF_RANGE', RangeError);
      throws(() => store.setSync('key', 1, { ttl }), 'ERR_OUT_OF_RANGE', RangeError);
      throws(() => store.incrementSync('key', 1, { ttl }), 'ERR_OUT_OF_RANGE', RangeError);
    }
    for (const ttl of others) {
      for (const call of calls(wrong(ttl))) await rejects(call, 'ERR_INVALID_ARG_TYPE', TypeError);
      throws(() => store.setSync('key', 1, wrong({ ttl })), 'ERR_INVALID_ARG_TYPE', TypeError);
    }
    await rejects(store.touch('key', wrong(undefined)), 'ERR_INVALID_ARG_TYPE', TypeError);
    await rejects(store.touch('', 1), 'ERR_KEY_EMPTY');
    await rejects(store.ttl(wrong(1)), 'ERR_INVALID_ARG_TYPE', TypeError);
    await rejects(
      store.getEntry('key', { signal: AbortSignal.abort(new TypeError('x')) }).catch(() => store.ttl('')),
      'ERR_KEY_EMPTY',
    );
    assert.equal(store.size, 0);
  });

  test('a store that is only read: ttl and getEntry answer, touch is ERR_READ_ONLY', async () => {
    const path = newPath();
    await using store = await Store.open(path);
    await store.set('key', 'value', { ttl: 60_000 });
    await using reader = await Store.open(path, { readOnly: true });
    assert.ok(((await reader.ttl('key')) as number) <= 60_000);
    assert.equal((await reader.getEntry('key'))?.value, 'value');
    await rejects(reader.touch('key', 1), 'ERR_READ_ONLY');
    assert.equal(await store.touch('key', brief), true);
    for (let i = 0; i < 4; i++) assert.equal(reader.getSync('key'), 'value');
    await over();
    assert.equal(reader.getSync('key'), undefined);
    assert.equal(await reader.get('key'), undefined);
  });

  test('getMany is one view of what expires at one moment as well', async () => {
    await using store = await Store.open(newSharedName());
    const keys = Array.from({ length: 200 }, (_, i) => `key ${i}`);
    for (let round = 0; round < 5; round++) {
      // All of them end with the same millisecond: the latest of their ends counts from one write to the last.
      await store.setMany(
        keys.map((key) => [key, round]),
        { ttl: 20 },
      );
      const until = performance.now() + 30;
      let seen: number | undefined;
      while (performance.now() < until) {
        const there = (await store.getMany(keys)).filter((value) => value !== undefined).length;
        assert.ok(seen === undefined || there <= seen, 'nothing comes back');
        seen = there;
      }
      const [first] = await store.getMany(keys);
      assert.equal(first, undefined);
    }
  });

  test('a backup, compaction and verification of a store with expired values', async () => {
    const path = newPath();
    await using store = await Store.open<any>(path);
    const entries = Array.from({ length: 2000 }, (_, i): [string, unknown] => [`key ${i}`, 'x'.repeat(500)]);
    await store.setMany(entries, { ttl: brief });
    await store.set('large', Buffer.alloc(500_000, 1), { ttl: brief });
    do await store.set('touched', Buffer.alloc(500_000, 2), { ttl: brief });
    while (!(await store.touch('touched', 1e6))); // on a busy machine it may be late
    await store.set('stays', 1);
    await over();
    for (let i = 0; i < 60; i++) await store.set('stays', i); // some are swept, some are not
    assert.ok(store.size > 2 && store.size < 2003, `${store.size}`);
    const copies = [`${path}-1`, `${path}-2`];
    for (const [round, copy] of copies.entries()) {
      assert.deepEqual((await store.verify()).damaged, []);
      await store.backup(copy);
      await using restored = await Store.open<any>(copy);
      assert.deepEqual(await keysOf(restored), ['stays', 'touched']);
      assert.deepEqual((await restored.verify()).damaged, []);
      assert.equal((await restored.get('touched'))?.length, 500_000);
      if (round === 0) await store.compact();
    }
    assert.equal(store.size, 2);
  });

  test('a backup that leaves out large values that have expired has all that was written after them', async () => {
    const path = newPath();
    await using store = await Store.open<any>(path);
    // Some of both in every shard.
    const numbers = Array.from({ length: 100 }, (_, i) => i);
    await store.setMany(
      numbers.map((i) => [`large ${i}`, Buffer.alloc(70_000, i)]),
      { ttl: 100 },
    );
    await store.setMany(numbers.map((i) => [`small ${i}`, i]));
    await store.setMany(numbers.map((i) => [`large and stays ${i}`, Buffer.alloc(70_000, i)]));
    while (await store.has('large 99')) await sleep(10);
    const copy = `${path}-copy`;
    await store.backup(copy);
    await using restored = await Store.open<any>(copy);
    assert.deepEqual((await restored.verify()).damaged, []);
    assert.equal((await keysOf(restored)).length, 200);
    for (const i of numbers) {
      assert.equal(await restored.get(`small ${i}`), i);
      assert.deepEqual(await restored.get(`large and stays ${i}`), Buffer.alloc(70_000, i));
      assert.equal(await restored.get(`large ${i}`), undefined);
    }
  });

  test('space comes back without anyone reading: a store that is written a little stays small', async () => {
    await using store = await Store.open(newSharedName(), { encoding: 'buffer' });
    const value = Buffer.alloc(1000, 1);
    const many = Array.from({ length: 10_000 }, (_, i): [string, Buffer] => [`key ${i}`, value]);
    // Long enough for all to be there at once, however busy the machine is.
    const ttl = 3_000;
    await store.setMany(many, { ttl });
    const { liveBytes } = store.stats();
    assert.ok(liveBytes > 10_000_000);
    await sleep(ttl + 1);
    for (let i = 0; i < 2000; i++) await store.set('other', value);
    const stats = store.stats();
    assert.equal(stats.keys, 1);
    assert.ok(stats.liveBytes < 2000 && stats.garbageBytes < 3_000_000, JSON.stringify(stats));
  });
});

describe('the clock that values expire by', () => {
  const shim = join(directory, 'shifted-clock.so');
  before(() => {
    const source = join(directory, 'shifted-clock.c');
    const text = `
      #define _GNU_SOURCE
      #include <stdlib.h>
      #include <sys/syscall.h>
      #include <sys/time.h>
      #include <time.h>
      #include <unistd.h>
      int clock_gettime(clockid_t clock, struct timespec *time) {
        int result = (int)syscall(SYS_clock_gettime, clock, time);
        if (clock == CLOCK_REALTIME) time->tv_sec += atol(getenv("SHIFTED_SECONDS"));
        return result;
      }
      int gettimeofday(struct timeval *time, void *zone) {
        int result = (int)syscall(SYS_gettimeofday, time, zone);
        time->tv_sec += atol(getenv("SHIFTED_SECONDS"));
        return result;
      }`;
    execFileSync('tee', [source], { input: text });
    execFileSync((process.env.CC ?? 'cc').split(' ').at(-1) as string, ['-shared', '-fPIC', '-o', shim, source]);
  });

  /** Runs `body` in a process whose wall clock is so many seconds ahead; answers what it prints. */
  function elsewhere(seconds: number, name: string, body: string): string {
    const script = `
      const { Store } = await import('faultless');
      const store = await Store.open(process.argv[1]);
      ${body}
      await store.close();`;
    const env = { ...process.env, LD_PRELOAD: shim, SHIFTED_SECONDS: String(seconds) };
    const args = ['--input-type=module', '--eval', script, '--', name];
    return execFileSync(process.execPath, args, { env, cwd: import.meta.dirname, encoding: 'utf8' }).trim();
  }

  const sanitized = process.env.LD_PRELOAD === undefined ? false : 'another library is preloaded';

  test('a process whose wall clock is behind sees nothing that has expired', { skip: sanitized }, async () => {
    for (const name of [newSharedName(), newPath()]) {
      const store = await Store.open(name);
      await store.set('gone', 'value', { ttl: brief });
      await store.set('there', 'value', { ttl: 60_000 });
      await over();
      const look = `console.log(Date.now() < ${Date.now() - 3_000_000}, await store.get('gone'), store.getSync('gone'),
        await store.get('there'), await store.ttl('there') <= 60_000);`;
      assert.equal(elsewhere(-3600, name, look), 'true undefined undefined value true');
      // What it writes lives as long as it is told, by everybody's clock.
      elsewhere(-3600, name, `await store.set('young', 'value', { ttl: 60_000 });`);
      const left = (await store.ttl('young')) as number;
      assert.ok(left > 40_000 && left <= 60_000, `${left}`);
      await store.close();
      assert.equal(elsewhere(-3600, name, look), 'true undefined undefined value true');
    }
  });

  test('a wall clock that was ahead once counts for good', { skip: sanitized }, async () => {
    const name = newSharedName();
    await using store = await Store.open(name);
    await store.set('key', 'value', { ttl: 1_000_000 });
    for (let i = 0; i < 4; i++) assert.equal(store.getSync('key'), 'value');
    assert.equal(elsewhere(3600, name, `console.log(await store.get('key'));`), 'undefined');
    // Also the copy that this process has.
    assert.equal(store.getSync('key'), undefined);
    assert.equal(await store.get('key'), undefined);
    await store.set('key', 'young', { ttl: 60_000 });
    assert.equal(store.getSync('key'), 'young');
    assert.equal(elsewhere(0, name, `console.log(await store.get('key'));`), 'young');
  });
});
