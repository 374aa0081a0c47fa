// The device of a store fails, or stops: ERR_IO for the operations that need it, or they wait; the rest goes on, and so does
// the store when the device does.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { COLD, FaultlessError, Store } from 'faultless';
import { keyOf, keys, oldStamp, prepare, valueBytes } from './fixtures/prepared-store.js';
import { stamped, stampOf } from './fixtures/stamped-values.js';
import { startProcess } from './fixtures/start-process.js';
import { holdsWithin } from './rig/commands.js';
import { SlowDisk } from './rig/slow-disk.js';
import { newPath, rejects } from './store-fixture.js';

type BufferStore = Store<Buffer, Uint8Array | string>;

const open = (path: string): Promise<BufferStore> => Store.open(path, { encoding: 'buffer' });
const newStamp = { writer: 2, sequence: 2 };
const allKeys = Array.from({ length: keys }, (_, index) => keyOf(index));

/** What a key may hold: a write that failed happened wholly or not at all. */
type Model = Map<string, Set<number | undefined>>;

const sequenceOf = (key: string, value: Buffer | undefined): number | undefined =>
  value === undefined ? undefined : stampOf(key, value).sequence;

async function assertHolds(store: BufferStore, model: Model, when: string): Promise<void> {
  for (const [key, value] of await store
    .getMany([...model.keys()])
    .then((all) => [...model.keys()].map((key, i) => [key, all[i]] as const))) {
    assert.ok(model.get(key)?.has(sequenceOf(key, value)), `${key} is ${sequenceOf(key, value)} ${when}`);
  }
  let seen = 0;
  for await (const [key, value] of store) {
    assert.ok(model.get(key)?.has(sequenceOf(key, value)), `${key} ${when}`);
    seen++;
  }
  assert.equal(seen, store.size, `size ${when}`);
  assert.deepEqual((await store.verify()).damaged, [], `damage ${when}`);
}

/** Whether it was done; otherwise it has failed with ERR_IO, as the device has. */
async function succeeds(work: Promise<unknown>): Promise<boolean> {
  try {
    await work;
    return true;
  } catch (error) {
    assert.ok(error instanceof FaultlessError && error.code === 'ERR_IO', String(error));
    return false;
  }
}

/** For the option of open: tells whether a recovery was needed. */
function recoveryWatch(): { onProgress: () => void; wasRecovered: () => boolean } {
  let recovered = false;
  const onProgress = (): void => {
    recovered = true;
  };
  return { onProgress, wasRecovered: () => recovered };
}

describe('a device whose reads fail', () => {
  test('is ERR_IO for what is not in memory; the rest goes on, and all of it when reads work again', async (t) => {
    const disk = await SlowDisk.forTest(t, { sizeMiB: 64, journal: false });
    if (disk === undefined) return;
    const path = join(disk.directory, 'store');
    await prepare(path);
    const largeKey = 'large';
    {
      const store = await open(path);
      await store.set(largeKey, stamped(largeKey, oldStamp, 1_000_000));
      await store.close();
    }
    const model: Model = new Map([...allKeys, largeKey].map((key) => [key, new Set([oldStamp.sequence])]));
    await disk.dropCaches();
    const store = await open(path);
    t.after(() => store.close());
    const healthy = await open(newPath());
    t.after(() => healthy.close());
    const hot = allKeys.slice(0, 30);
    for (const key of hot) assert.deepEqual(stampOf(key, (await store.get(key)) as Buffer), oldStamp);

    disk.failReads(true);
    for (const key of hot) assert.deepEqual(stampOf(key, (await store.get(key)) as Buffer), oldStamp, `hot ${key}`);
    const failed = { get: 0, set: 0, delete: 0, add: 0 };
    const gets = allKeys
      .slice(30, 330)
      .map((key) => succeeds(store.get(key).then((value) => stampOf(key, value as Buffer))));
    const others = Array.from({ length: 200 }, (_, i) => healthy.set(`${i}`, `${i}`));
    for (const answered of await Promise.all(gets)) if (!answered) failed.get++;
    await Promise.all(others);
    assert.equal((await healthy.get('199'))?.toString(), '199');
    await rejects(store.get(largeKey), 'ERR_IO');
    await rejects(store.getMany(allKeys), 'ERR_IO');
    await rejects(
      (async () => {
        for await (const [key, value] of store) stampOf(key, value);
      })(),
      'ERR_IO',
    );
    // It gives up, or says of each place that it cannot be read; a store that cannot be read is not called sound.
    const report = await store.verify().catch((error: unknown) => error as FaultlessError);
    if (report instanceof Error) assert.equal(report.code, 'ERR_IO');
    else assert.ok(report.damaged.length > 0);
    t.diagnostic(
      `verify: ${report instanceof Error ? report.code : [...new Set(report.damaged.map((d) => d.reason))].join('; ')}`,
    );
    for (const [index, key] of allKeys.entries()) {
      const may = model.get(key) as Set<number | undefined>;
      try {
        const value = store.tryGet(key);
        if (value !== COLD) assert.deepEqual(stampOf(key, value as Buffer), oldStamp);
      } catch (error) {
        assert.ok(error instanceof FaultlessError && error.code === 'ERR_IO', String(error));
      }
      if (index % 30 === 1) {
        const done = await succeeds(store.set(key, stamped(key, newStamp, valueBytes)));
        if (done) may.clear();
        else failed.set++;
        may.add(newStamp.sequence);
      } else if (index % 30 === 2) {
        const done = await succeeds(store.delete(key));
        if (done) may.clear();
        else failed.delete++;
        may.add(undefined);
      }
    }
    for (let i = 0; i < 20; i++) {
      const key = `new-${i}`;
      const done = await succeeds(store.set(key, stamped(key, newStamp, valueBytes)));
      if (!done) failed.add++;
      model.set(key, new Set(done ? [newStamp.sequence] : [newStamp.sequence, undefined]));
    }
    t.diagnostic(`failed with ERR_IO: ${JSON.stringify(failed)}`);
    assert.ok(failed.get > 100 && failed.set > 0 && failed.delete > 0, JSON.stringify(failed));
    disk.failReads(false);

    await assertHolds(store, model, 'when reads work again');
    for (const [key, may] of model) {
      if (key === largeKey) continue;
      await store.set(key, stamped(key, { writer: 3, sequence: 3 }, valueBytes));
      may.clear();
      may.add(3);
    }
    await store.flush();
    await assertHolds(store, model, 'and was written');
    await store.close();
    await disk.dropCaches();
    const { onProgress, wasRecovered } = recoveryWatch();
    await using again = await Store.open(path, { encoding: 'buffer', onProgress });
    assert.equal(wasRecovered(), false, 'it was closed in order');
    await assertHolds(again, model, 'reopened');
  });

  test('makes open fail with ERR_IO, and nothing else: it opens when reads work again', async (t) => {
    const disk = await SlowDisk.forTest(t, { sizeMiB: 64, journal: false });
    if (disk === undefined) return;
    const path = join(disk.directory, 'store');
    await prepare(path);
    for (let round = 0; round < 3; round++) {
      await disk.dropCaches();
      await stat(path);
      disk.failReads(true);
      await rejects(open(path), 'ERR_IO');
      await rejects(Store.open(path, { readOnly: true }), 'ERR_IO');
      disk.failReads(false);
    }
    await using store = await open(path);
    await assertHolds(store, new Map(allKeys.map((key) => [key, new Set([oldStamp.sequence])])), 'opened');
  });
});

describe('a device whose writes fail', () => {
  for (const when of ['at a flush', 'at write-back, before any flush'] as const) {
    test(`${when}: this and later flushes of all processes reject; reopened, all that was flushed is there`, async (t) => {
      const disk = await SlowDisk.forTest(t, { sizeMiB: 64, journal: false });
      if (disk === undefined) return;
      const path = join(disk.directory, 'store');
      await prepare(path);
      const store = await open(path);
      t.after(() => store.close().catch(() => {}));
      // The file has room for what follows, so that the filesystem has nothing of its own to write meanwhile and to lose.
      // (Of more than 8 MiB some would be given back.)
      for (let i = 0; i < 45; i++) await store.set(`room-${i}`, Buffer.alloc(150_000));
      for (let i = 0; i < 45; i++) await store.delete(`room-${i}`);
      await store.flush();
      await disk.dropCaches();
      const child = startProcess(t, 'poisoned-store', [path]);
      await child.ready();

      disk.failWrites(true);
      const model: Model = new Map(allKeys.map((key) => [key, new Set([oldStamp.sequence])]));
      for (const key of allKeys.filter((_, index) => index % 2 === 0)) {
        await store.set(key, stamped(key, newStamp, valueBytes));
        model.get(key)?.add(newStamp.sequence);
      }
      for (let i = 0; i < 300; i++) {
        const key = `lost-${i}`;
        await store.set(key, stamped(key, newStamp, i % 50 === 0 ? 200_000 : valueBytes));
        model.set(key, new Set([newStamp.sequence, undefined]));
      }
      if (when === 'at a flush') await rejects(store.flush(), 'ERR_IO');
      else await disk.dropCaches();
      disk.failWrites(false);
      if (when !== 'at a flush') await rejects(store.flush(), 'ERR_IO');
      child.send('failed');
      await child.message('closed');
      const exit = await child.ended();
      assert.deepEqual([exit.code, exit.signal, exit.stderr], [0, null, '']);
      model.set('child', new Set());

      await rejects(store.flush(), 'ERR_IO');
      await rejects(store.set('later', stamped('later', newStamp, 100), { durability: 'system' }), 'ERR_IO');
      model.set('later', new Set([newStamp.sequence, undefined]));
      const beside = await open(path);
      await rejects(beside.flush(), 'ERR_IO');
      await beside.close();
      await rejects(store.close(), 'ERR_IO');
      assert.equal(store.closed, true);

      await disk.dropCaches();
      const { onProgress, wasRecovered } = recoveryWatch();
      await using again = await Store.open(path, { encoding: 'buffer', onProgress });
      assert.equal(wasRecovered(), true);
      await again.delete('child');
      model.set('child', new Set([undefined]));
      await assertHolds(again, model, 'reopened');
      await again.set('after', stamped('after', newStamp, valueBytes), { durability: 'system' });
      await again.flush();
    });
  }
});

/** Threads of this process, and what it has of the disk: descriptors, mappings. */
function ownedOf(disk: SlowDisk): { threads: number; descriptors: string[]; mappings: number } {
  const descriptors = readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`)];
    } catch {
      return []; // the one that has listed them
    }
  });
  return {
    threads: readdirSync('/proc/self/task').length,
    descriptors: descriptors.filter((name) => name.startsWith(disk.directory)),
    mappings: readFileSync('/proc/self/maps', 'utf8').split(disk.directory).length - 1,
  };
}

async function scanned(store: BufferStore, signal: AbortSignal): Promise<void> {
  for await (const [key, value] of store.entries({ signal })) stampOf(key, value);
}

describe('a device that stands still', () => {
  test('operations wait, signals end them at once, the process goes on; later ones are unharmed', async (t: TestContext) => {
    const disk = await SlowDisk.forTest(t, { sizeMiB: 64 });
    if (disk === undefined) return;
    const [path = '', unopened = ''] = ['store', 'unopened'].map((name) => join(disk.directory, name));
    await prepare(path);
    await prepare(unopened);
    await disk.dropCaches();
    const before = ownedOf(disk);
    const store = await open(path);
    const healthy = await open(newPath());
    t.after(() => healthy.close());

    await disk.pause();
    const key = (kind: number): string => keyOf(kind * 100);
    const set = (kind: number): readonly [string, Buffer] => [key(kind), stamped(key(kind), newStamp, valueBytes)];
    // Without a signal they wait.
    let settled = 0;
    const waiting: Record<string, Promise<unknown>> = {
      get: store.get(key(1)).then((value) => assert.deepEqual(stampOf(key(1), value as Buffer), oldStamp)),
      set: store.set(...set(2)),
      delete: store.delete(key(3)).then((existed) => assert.equal(existed, true)),
      open: open(unopened).then((opened) => opened.close()),
      flush: store.flush(),
    };
    for (const call of Object.values(waiting)) call.finally(() => settled++).catch(() => {});
    assert.ok(await holdsWithin(30_000, () => disk.statistics().inFlight > 0), 'the device was asked');

    const abortable: Record<string, (signal: AbortSignal) => Promise<unknown>> = {
      get: (signal) => store.get(key(4), { signal }),
      has: (signal) => store.has(key(5), { signal }),
      getMany: (signal) => store.getMany(allKeys, { signal }),
      set: (signal) => store.set(...set(6), { signal }),
      'set, system': (signal) => store.set(...set(7), { signal, durability: 'system' }),
      setMany: (signal) => store.setMany([set(8), set(9)], { signal }),
      delete: (signal) => store.delete(key(10), { signal }),
      deleteMany: (signal) => store.deleteMany([key(11)], { signal }),
      iteration: (signal) => scanned(store, signal),
      verify: (signal) => store.verify({ signal }),
      getEntry: (signal) => store.getEntry(key(12), { signal }),
      ttl: (signal) => store.ttl(key(13), { signal }),
      touch: (signal) => store.touch(key(13), Number.POSITIVE_INFINITY, { signal }),
      'compareAndSet, to no effect': (signal) => store.compareAndSet(key(14), undefined, 'other', { signal }),
      update: (signal) => store.update(set(12)[0], () => set(12)[1], { signal }),
      warm: (signal) => store.warm(allKeys, { signal }),
      flush: (signal) => store.flush({ signal }),
      compact: (signal) => store.compact({ signal }),
      backup: (signal) => store.backup(join(disk.directory, 'copy'), { signal }),
      open: (signal) => Store.open(unopened, { signal }),
      destroy: (signal) => Store.destroy(join(disk.directory, 'neither'), { signal }),
    };
    for (const [name, call] of Object.entries(abortable)) {
      await assert.rejects(call(AbortSignal.timeout(50)), { name: 'TimeoutError' }, name);
    }
    // All together.
    const reason = new Error('no longer wanted');
    const controller = new AbortController();
    const calls = Object.values(abortable).map((call) => call(controller.signal));
    controller.abort(reason);
    for (const outcome of await Promise.allSettled(calls)) {
      assert.equal(outcome.status === 'rejected' && outcome.reason, reason);
    }
    // Stores and files elsewhere.
    for (let i = 0; i < 200; i++) {
      await healthy.set(`${i}`, `${i}`);
      assert.equal((await healthy.get(`${i}`))?.toString(), `${i}`);
      await stat(tmpdir());
    }
    await healthy.flush();
    assert.equal(settled, 0, 'what has no signal waits');
    await disk.resume();

    await Promise.all(Object.values(waiting));
    const model: Model = new Map(allKeys.map((each) => [each, new Set([oldStamp.sequence])]));
    model.set(key(2), new Set([newStamp.sequence]));
    model.set(key(3), new Set([undefined]));
    for (const kind of [6, 7, 8, 9, 12]) model.get(key(kind))?.add(newStamp.sequence);
    for (const kind of [10, 11]) model.get(key(kind))?.add(undefined);
    await assertHolds(store, model, 'after the pause');
    for (const each of allKeys) await store.set(each, stamped(each, { writer: 3, sequence: 3 }, valueBytes));
    for (const may of model.values()) may.clear();
    for (const may of model.values()) may.add(3);
    await assertHolds(store, model, 'written after the pause');
    await store.flush();
    await store.close();
    // The last mapping of the control region goes when its ArrayBuffer is collected, on a thread of its own.
    const owns = (): string => {
      const { descriptors, mappings } = ownedOf(disk);
      return JSON.stringify([descriptors, mappings]);
    };
    await holdsWithin(30_000, () => {
      globalThis.gc?.();
      return owns() === JSON.stringify([before.descriptors, before.mappings]);
    });
    assert.equal(owns(), JSON.stringify([before.descriptors, before.mappings]));
    const after = ownedOf(disk);
    // libuv begins its threads with the first job.
    const threadsOfUv = Number(process.env.UV_THREADPOOL_SIZE ?? 4);
    assert.ok(after.threads <= before.threads + threadsOfUv, `${before.threads} threads became ${after.threads}`);
    await using again = await open(path);
    await assertHolds(again, model, 'reopened');
  });

  test('close waits as well, and takes nothing with it', async (t) => {
    const disk = await SlowDisk.forTest(t, { sizeMiB: 64 });
    if (disk === undefined) return;
    const path = join(disk.directory, 'store');
    await prepare(path);
    const store = await open(path);
    await store.set('key', stamped('key', newStamp, valueBytes));
    const healthy = await open(newPath());
    t.after(() => healthy.close());
    await disk.pause();
    let closed = false;
    await assert.rejects(store.close({ signal: AbortSignal.timeout(50) }), { name: 'TimeoutError' });
    await assert.rejects(store.close({ signal: AbortSignal.abort() }), { name: 'AbortError' });
    const closing = store.close().then(() => {
      closed = true;
    });
    assert.ok(await holdsWithin(30_000, () => disk.statistics().inFlight > 0), 'the device was asked');
    await rejects(store.get('key'), 'ERR_CLOSED');
    for (let i = 0; i < 200; i++) await healthy.set(`${i}`, `${i}`);
    await healthy.flush();
    assert.equal(closed, false);
    await disk.resume();
    await closing;
    await using again = await open(path);
    assert.deepEqual(stampOf('key', (await again.get('key')) as Buffer), newStamp);
  });
});
