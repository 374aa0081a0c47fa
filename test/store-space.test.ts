// What a store takes on the filesystem (st_blocks), as a multiple of what lives in it: under overwrites, after deletes, on
// a full disk; and compact(). FAULTLESS_SPACE_MIB: live bytes of the large case, 256 by default.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, rmSync, statfsSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { FaultlessError, Store } from 'faultless';
import { spaceKey, spaceValue, spaceVersion } from './fixtures/space-values.js';
import { startProcess } from './fixtures/start-process.js';
import { SmallDisk } from './rig/small-disk.js';
import { newPath, newSeed, newSharedName, rejects } from './store-fixture.js';

const MiB = 2 ** 20;
const largeMiB = Number(process.env.FAULTLESS_SPACE_MIB ?? 256);

const fileOf = (location: string): string =>
  location.startsWith('shm:') ? `/dev/shm/faultless.${location.slice(4)}` : location;
const allocated = (location: string): number => statSync(fileOf(location)).blocks * 512;
const ratio = (location: string, store: Store<Buffer>): number => allocated(location) / store.stats().liveBytes;

async function fill(store: Store<Buffer>, keys: number, bytes: number, version = 0): Promise<void> {
  for (let i = 0; i < keys; i += 200) {
    const some = Array.from({ length: Math.min(200, keys - i) }, (_, j) => i + j);
    await store.setMany(some.map((key) => [spaceKey(key), spaceValue(key, version, bytes)] as const));
  }
}

describe('space', () => {
  test('a full store is emptied, again and again, while another process flushes it', async (t) => {
    const path = newPath();
    await using store = await Store.open(path, { encoding: 'buffer', maxBytes: 12 * MiB });
    const flushers = Array.from({ length: 3 }, () => startProcess(t, 'endless-flusher', [path]));
    for (const flusher of flushers) await flusher.ready();
    let refused = 0;
    for (let round = 0; round < 30; round++) {
      // What says that they are deleted takes as much space as they do.
      const keys = Array.from({ length: 5000 }, (_, i) => spaceKey(round * 5000 + i).padEnd(2000, 'x'));
      const sets = keys.map((key, i) => store.set(key, spaceValue(i, round, 100)));
      for (const outcome of await Promise.allSettled(sets)) {
        if (outcome.status === 'fulfilled') continue;
        assert.equal(outcome.reason.code, 'ERR_STORE_FULL');
        refused++;
      }
      if (round % 3 > 0) await store.deleteMany(keys);
      else await store.clear();
    }
    assert.ok(refused > 1000, `${refused}`);
    for (const flusher of flushers) flusher.send('stop');
    for (const flusher of flushers) assert.ok(((await flusher.message('over')) as number) > 0);
    await store.delete('flusher');
    assert.equal(store.size, 0);
    assert.deepEqual((await store.verify()).damaged, []);
  });

  for (const [place, newLocation] of [
    ['disk', newPath],
    ['RAM', newSharedName],
  ] as const) {
    test(`after deleting nine tenths of ${largeMiB} MiB, and a few writes: ${place}`, async () => {
      const location = newLocation();
      await using store = await Store.open(location, { encoding: 'buffer' });
      const keys = (largeMiB * MiB) / 1000;
      await fill(store, keys, 1000);
      if (place === 'disk') await store.flush();
      const full = ratio(location, store);
      for (let i = 0; i < keys; i += 5000) {
        const some = Array.from({ length: Math.min(5000, keys - i) }, (_, j) => i + j);
        await store.deleteMany(some.filter((key) => key % 10 !== 0).map(spaceKey));
      }
      const deleted = ratio(location, store);
      for (let i = 0; i < 500; i++) await store.set(`more${i % 100}`, spaceValue(i, 1, 1000));
      const written = ratio(location, store);
      const { freedBytes } = await store.compact();
      const compacted = ratio(location, store);
      console.log(
        `${place}, ${largeMiB} MiB: full ${full.toFixed(2)}, deleted ${deleted.toFixed(2)}, ` +
          `written ${written.toFixed(2)}, compacted ${compacted.toFixed(3)}, freed ${(freedBytes / MiB).toFixed(1)} MiB`,
      );
      assert.ok(written < 3, `${written}`);
      assert.ok(compacted < written && freedBytes > 0);
      for (let key = 0; key < keys; key += 970) {
        const value = await store.get(spaceKey(key));
        assert.equal(value && spaceVersion(key, value), key % 10 === 0 ? 0 : undefined);
      }
      assert.deepEqual((await store.verify()).damaged, []);
    });
  }

  for (const [bytes, flush] of [
    [1000, false],
    [1000, true],
    [200_000, true],
  ] as const) {
    test(`ten rounds of overwrites by three processes: ${bytes} bytes${flush ? ', flushed' : ''}`, async (t) => {
      const location = newPath();
      const seed = newSeed('overwrites');
      const keys = Math.ceil((96 * MiB) / bytes);
      await using store = await Store.open(location, { encoding: 'buffer' });
      await fill(store, keys, bytes);
      const writers = [0, 1, 2].map((share) => {
        const args = [share, 3, keys, bytes, 10, seed + share, flush ? 'flush' : '-'].map(String);
        return startProcess(t, 'space-writer', [location, location, ...args]);
      });
      let worst = 0;
      let looks = 0;
      for (const writer of writers) {
        const over = (await writer.message('over', 300_000)) as { worst: number; looks: number };
        worst = Math.max(worst, over.worst);
        looks += over.looks;
      }
      console.log(`${bytes} bytes: at most ${worst.toFixed(2)} in ${looks} looks`);
      assert.ok(looks > 60 && worst <= 2.2, `${worst} in ${looks} looks`);
      for (let key = 0; key < keys; key += 97) {
        assert.equal(spaceVersion(key, (await store.get(spaceKey(key))) as Buffer), 10);
      }
    });
  }
});

describe('compact', () => {
  test('takes off garbage, with progress, and less the second time', async () => {
    for (const location of [newPath(), newSharedName()]) {
      await using store = await Store.open(location, { encoding: 'buffer' });
      for (let version = 0; version < 3; version++) await fill(store, 120_000, 1000, version);
      for (let i = 0; i < 20; i++) await store.set(`large${i}`, spaceValue(i, 0, MiB));
      await store.deleteMany(Array.from({ length: 20 }, (_, i) => `large${i}`));
      if (location.startsWith('/')) await store.flush();
      const before = allocated(location);
      const progress: [number, number][] = [];
      const { freedBytes } = await store.compact({ onProgress: (done, total) => progress.push([done, total]) });
      const after = allocated(location);
      assert.ok(Math.abs(before - after - freedBytes) < MiB, `${before} → ${after}, said ${freedBytes}`);
      assert.ok(ratio(location, store) <= 1.1, `${ratio(location, store)}`);
      const [, total] = progress[0] as [number, number];
      progress.forEach(([done, all], i) => {
        assert.ok(all === total && done >= (progress[i - 1]?.[0] ?? 0) && done <= total);
      });
      assert.equal(progress.at(-1)?.[0], total);
      const again = await store.compact();
      assert.ok(again.freedBytes >= 0 && again.freedBytes < MiB, `${again.freedBytes}`);
      for (let key = 0; key < 120_000; key += 97) {
        assert.equal(spaceVersion(key, (await store.get(spaceKey(key))) as Buffer), 2);
      }
      assert.deepEqual((await store.verify()).damaged, []);
    }
  });

  test('while other processes write, several at once', async (t) => {
    const location = newPath();
    const seed = newSeed('compact under load');
    const [keys, bytes] = [32_000, 3000];
    await using store = await Store.open(location, { encoding: 'buffer' });
    await fill(store, keys, bytes);
    await store.flush();
    const writers = [0, 1].map((share) =>
      startProcess(t, 'space-writer', [
        location,
        location,
        ...[share, 2, keys, bytes, 0, seed + share, '-'].map(String),
      ]),
    );
    for (const writer of writers) await writer.message('ready');
    let compactions = 0;
    let reads = 0;
    const end = Date.now() + 4000;
    const other = await Store.open(location, { encoding: 'buffer' });
    while (Date.now() < end || compactions < 6) {
      const freed = await Promise.all([store.compact(), store.compact(), other.compact()]);
      for (const { freedBytes } of freed) assert.ok(freedBytes >= 0);
      compactions += 3;
      for (let i = 0; i < 50; i++, reads++) {
        const key = (reads * 7919) % keys;
        assert.notEqual(spaceVersion(key, (await store.get(spaceKey(key))) as Buffer), undefined);
      }
    }
    await other.close();
    for (const writer of writers) writer.send('stop');
    const versions = new Map<number, number>();
    for (const writer of writers) {
      const over = (await writer.message('over', 60_000)) as { versions: Record<string, number> };
      for (const [key, version] of Object.entries(over.versions)) versions.set(Number(key), version);
    }
    assert.ok(versions.size > 0);
    for (let key = 0; key < keys; key++) {
      const value = (await store.get(spaceKey(key))) as Buffer;
      assert.equal(spaceVersion(key, value), versions.get(key) ?? 0, spaceKey(key));
    }
    assert.deepEqual((await store.verify()).damaged, []);
    await store.compact();
    console.log(`${compactions} compactions, ${versions.size} keys written, then ${ratio(location, store).toFixed(3)}`);
    assert.ok(ratio(location, store) <= 1.1, `${ratio(location, store)}`);
  });

  test('refusals, abort, a callback that throws', async () => {
    const path = newPath();
    const store = await Store.open(path, { encoding: 'buffer' });
    for (let version = 0; version < 2; version++) await fill(store, 20_000, 1000, version);
    const reason = new Error('enough');
    await assert.rejects(store.compact({ signal: AbortSignal.abort(reason) }), reason);
    const controller = new AbortController();
    const onProgress = (): void => controller.abort(reason);
    await assert.rejects(store.compact({ signal: controller.signal, onProgress }), reason);
    await assert.rejects(
      store.compact({
        onProgress: () => {
          throw reason;
        },
      }),
      reason,
    );
    assert.equal(spaceVersion(7, (await store.get(spaceKey(7))) as Buffer), 1);
    await store.close();
    await rejects(store.compact(), 'ERR_CLOSED');
    await using reader = await Store.open(path, { encoding: 'buffer', readOnly: true });
    await rejects(reader.compact(), 'ERR_READ_ONLY');
  });

  test('a damaged record stays, is told, and keeps nothing else from being compacted', async () => {
    const path = newPath();
    const store = await Store.open(path, { encoding: 'buffer' });
    await fill(store, 30_000, 1000);
    await store.set('damaged', Buffer.from('the bytes that will be damaged'));
    await fill(store, 30_000, 1000, 1);
    await store.close();
    const position = readFileSync(path).lastIndexOf('the bytes that will be damaged');
    const fd = openSync(path, 'r+');
    writeSync(fd, 'T', position);
    closeSync(fd);
    await using again = await Store.open(path, { encoding: 'buffer' });
    const before = ratio(path, again);
    const error: unknown = await again.compact().then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    assert.ok(error instanceof FaultlessError && error.code === 'ERR_CORRUPT', String(error));
    assert.ok(Math.abs(Number(error.offset) - position) < 64, `${error.message}, not at ${position}`);
    assert.ok(ratio(path, again) < before - 0.2, `${before} → ${ratio(path, again)}`);
    await rejects(again.get('damaged'), 'ERR_CORRUPT');
    assert.equal(spaceVersion(9, (await again.get(spaceKey(9))) as Buffer), 1);
    assert.equal((await again.verify()).damaged.length, 1);
  });
});

/** Leaves next to nothing free on the disk; what it answers gives it back. */
function fillDisk(directory: string): () => void {
  const path = join(directory, 'filler');
  for (const size of [MiB, 4096]) {
    try {
      const { bavail, bsize } = statfsSync(directory);
      const bytes = Math.max(bavail * bsize - size, 0);
      execFileSync('sh', ['-c', `head -c ${bytes} /dev/zero >> ${path}`], { stdio: 'ignore' });
    } catch {
      // It is full, then.
    }
  }
  const fd = openSync(path, 'a');
  try {
    while (writeSync(fd, Buffer.alloc(4096)) > 0);
  } catch {
    // So it is now.
  } finally {
    closeSync(fd);
  }
  return () => rmSync(path);
}

describe('a full disk', () => {
  const disk = (t: TestContext): Promise<SmallDisk | undefined> => SmallDisk.forTest(t, { sizeMiB: 96 });

  test('space that was given back is not to be had: the write fails, nothing else', async (t) => {
    const small = await disk(t);
    if (small === undefined) return;
    const path = join(small.directory, 'store');
    await using store = await Store.open(path, { encoding: 'buffer' });
    await fill(store, 4000, 1000);
    for (let i = 0; i < 24; i++) await store.set(`large${i}`, spaceValue(i, 0, MiB));
    for (let i = 1; i < 24; i++) await store.delete(`large${i}`);
    const { freedBytes } = await store.compact();
    assert.ok(freedBytes > 8 * MiB, `${freedBytes}`);
    const empty = fillDisk(small.directory);
    const { keys, liveBytes, freeBytes } = store.stats();
    assert.ok(freeBytes > 8 * MiB);
    await rejects(store.set('refused', spaceValue(1, 1, 3 * MiB)), 'ERR_NO_SPACE');
    await rejects(store.set('large0', spaceValue(0, 1, 3 * MiB)), 'ERR_NO_SPACE');
    assert.deepEqual([store.stats().keys, store.stats().liveBytes], [keys, liveBytes]);
    assert.equal(spaceVersion(0, (await store.get('large0')) as Buffer), 0);
    for (let key = 0; key < 4000; key += 2) assert.equal(await store.delete(spaceKey(key)), true);
    for (let key = 0; key < 4000; key++) {
      const value = await store.get(spaceKey(key));
      assert.equal(value && spaceVersion(key, value), key % 2 === 0 ? undefined : 0);
    }
    empty();
    await store.set('refused', spaceValue(1, 2, 3 * MiB));
    assert.equal(spaceVersion(1, (await store.get('refused')) as Buffer), 2);
    assert.deepEqual((await store.verify()).damaged, []);
  });

  for (const closed of [true, false]) {
    test(`a sparse copy of ${closed ? 'a closed' : 'an open'} store is opened when there is room for it`, async (t) => {
      const small = await disk(t);
      if (small === undefined) return;
      const [path, copy] = [join(small.directory, 'store'), join(small.directory, 'copy')];
      const store = await Store.open(path, { encoding: 'buffer' });
      await fill(store, 4000, 1000);
      await store.flush();
      if (closed) await store.close();
      execFileSync('cp', ['--sparse=always', path, copy]);
      if (!closed) await store.close();
      const holes = statSync(copy).size - allocated(copy);
      assert.ok(holes > 128 * 1024, `${holes} bytes of holes`);
      const empty = fillDisk(small.directory);
      await rejects(Store.open(copy, { encoding: 'buffer' }), 'ERR_NO_SPACE');
      empty();
      await using opened = await Store.open(copy, { encoding: 'buffer' });
      const full = fillDisk(small.directory);
      // Whatever has space by now can be used; nothing is a fault.
      for (let i = 0; i < 400; i++) {
        const outcome = await opened.set(`more${i}`, spaceValue(i, 1, 1000)).catch((error: unknown) => error);
        assert.ok(outcome === undefined || (outcome as { code: string }).code === 'ERR_NO_SPACE', `${outcome}`);
      }
      full();
      for (let key = 0; key < 4000; key++) {
        assert.equal(spaceVersion(key, (await opened.get(spaceKey(key))) as Buffer), 0);
      }
      assert.deepEqual((await opened.verify()).damaged, []);
    });
  }
});
