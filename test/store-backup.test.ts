// backup(): what the copy shows, under full write load too, what it leaves when it does not succeed, and what it says
// of damage.
import assert from 'node:assert/strict';
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, rmSync, statfsSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { FaultlessError, Store } from 'faultless';
import { Board } from './fixtures/board.js';
import { prefixShown } from './fixtures/ordered-writes.js';
import { startProcess } from './fixtures/start-process.js';
import { SmallDisk } from './rig/small-disk.js';
import { damage, newPath, newSharedName, Random, rejects, wrong } from './store-fixture.js';

type Model = Map<string, string>;

/** A directory that holds a store and nothing else. */
function newDirectory(): string {
  const path = newPath();
  mkdirSync(path);
  return path;
}

async function change(store: Store<string>, model: Model, random: Random, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const key = `key${random.below(3000)}`;
    const draw = random.below(100);
    if (draw < 20) {
      void store.delete(key);
      model.delete(key);
    } else {
      const size = draw === 99 ? 65_536 + random.below(400_000) : random.below(1000);
      const value = `${random.below(1e9)}:${'x'.repeat(size)}`;
      void store.set(key, value);
      model.set(key, value);
    }
  }
  await store.flush();
}

async function contents(store: Store<string>): Promise<Model> {
  const found: Model = new Map();
  for await (const [key, value] of store.entries()) found.set(key, value);
  return found;
}

/** Opens a copy, which needs no recovery and is sound, and answers what it shows. */
async function look(location: string): Promise<Model> {
  let recovered = 0;
  await using copy = await Store.open(location, { encoding: 'utf8', create: false, onProgress: () => recovered++ });
  assert.equal(recovered, 0);
  assert.deepEqual((await copy.verify()).damaged, []);
  const found = await contents(copy);
  assert.equal(copy.size, found.size);
  return found;
}

describe('backup', () => {
  test('equals the store, from anywhere to anywhere, and again from the copy', async () => {
    const seed = Date.now();
    const random = new Random(seed);
    for (const location of [newPath(), newSharedName()]) {
      await using store = await Store.open(location, { encoding: 'utf8', maxBytes: 2 ** 30 });
      const model: Model = new Map();
      for (const to of [newPath(), newSharedName(), newPath()]) {
        await change(store, model, random, 2000);
        const progress: [number, number][] = [];
        // Also what has been issued and not awaited is in it.
        void store.set('last', to);
        model.set('last', to);
        await store.backup(to, { onProgress: (done, total) => progress.push([done, total]) });
        progress.forEach(([done, total], i) => {
          assert.ok(total === progress[0]?.[1] && done >= (progress[i - 1]?.[0] ?? 0) && done <= total);
        });
        assert.equal(progress.at(-1)?.[0], progress[0]?.[1]);
        await store.set('later', 'not in it');
        const again = newPath();
        {
          await using copy = await Store.open(to, { encoding: 'utf8', maxBytes: 2 ** 30, create: false });
          await copy.backup(again);
        }
        for (const copy of [to, again]) {
          const found = await look(copy);
          // A difference of megabytes is not worth showing.
          const same = found.size === model.size && [...model].every(([key, value]) => found.get(key) === value);
          assert.ok(same, `seed ${seed}`);
        }
        await store.delete('later');
      }
    }
  });

  test('an empty store, and one that is open for reading alone', async () => {
    const path = newPath();
    {
      await using store = await Store.open(path, { encoding: 'utf8' });
      await store.backup(`${path}.empty`);
      assert.equal((await look(`${path}.empty`)).size, 0);
      await store.set('a', 'b');
    }
    await using store = await Store.open(path, { readOnly: true, encoding: 'utf8' });
    await store.backup(`${path}.read`);
    assert.deepEqual([...(await look(`${path}.read`))], [['a', 'b']]);
  });

  test('replaces nothing; codes of the target', async () => {
    const directory = newDirectory();
    const path = join(directory, 'store');
    await using store = await Store.open(path);
    await store.set('a', 1);
    await rejects(store.backup(path), 'ERR_EXISTS');
    await rejects(store.backup(directory), 'ERR_EXISTS');
    const missing = join(directory, 'no', 'such');
    await assert.rejects(store.backup(missing), (error) => {
      assert.ok(error instanceof FaultlessError && error.code === 'ERR_NOT_FOUND');
      return error.path === missing;
    });
    await rejects(store.backup(join(path, 'below')), 'ERR_NOT_FOUND');
    await rejects(store.backup(wrong(1)), 'ERR_INVALID_ARG_TYPE', TypeError);
    await rejects(store.backup(''), 'ERR_INVALID_ARG_VALUE');
    await rejects(store.backup(newPath(), wrong(1)), 'ERR_INVALID_ARG_TYPE', TypeError);
    await rejects(store.backup(newPath(), { onProgress: wrong('f') }), 'ERR_INVALID_ARG_TYPE', TypeError);
    assert.deepEqual(readdirSync(directory), ['store']);
    assert.equal(await store.get('a'), 1);
  });

  test('an abort, and what onProgress throws, leave nothing', async () => {
    const directory = newDirectory();
    const store = await Store.open(join(directory, 'store'), { encoding: 'utf8' });
    const model: Model = new Map();
    await change(store, model, new Random(1), 3000);
    const to = join(directory, 'copy');
    const reason = new Error('enough');
    await assert.rejects(store.backup(to, { signal: AbortSignal.abort(reason) }), reason);
    const controller = new AbortController();
    const backup = store.backup(to, { signal: controller.signal });
    controller.abort(reason);
    await assert.rejects(backup, reason);
    // Early, in the midst of the copying, while the copy is built, and when all of it is there.
    for (const share of [0, 0.2, 0.5, 0.6, 1]) {
      for (const throws of [true, false]) {
        const between = new AbortController();
        let told = 0;
        const onProgress = (done: number, total: number): void => {
          if (done < share * total) return;
          told++;
          if (throws) throw reason;
          between.abort(reason);
        };
        await assert.rejects(store.backup(to, { signal: between.signal, onProgress }), reason);
        assert.equal(told, 1);
        assert.deepEqual(readdirSync(directory), ['store']);
      }
    }
    const last = store.backup(to);
    await store.close();
    await last;
    await rejects(store.backup(`${to}.closed`), 'ERR_CLOSED');
    assert.equal((await look(to)).size, model.size);
  });

  async function underLoad(t: TestContext, writers: number, clears: boolean): Promise<void> {
    const directory = newDirectory();
    const path = join(directory, 'store');
    const boardFile = newPath();
    using counts = new Board(boardFile);
    await using store = await Store.open(path, { encoding: 'utf8' });
    const args = (writer: number): string[] => [path, boardFile, `${writer}`, ...(clears ? ['clears'] : [])];
    const children = Array.from({ length: writers }, (_, i) => startProcess(t, 'ordered-writer', args(i + 1)));
    for (const child of children) await child.message('ready');
    const numbers = (): number[] => children.map((_, i) => counts.get(i + 1));
    for (let round = 0; round < 6; round++) {
      const to = join(directory, `copy${round}`);
      const before = numbers();
      if (round % 3 === 2) {
        await using reader = await Store.open(path, { encoding: 'utf8', readOnly: true });
        await reader.backup(to);
      } else {
        await store.backup(to);
      }
      const after = numbers();
      const copy = await look(to);
      children.forEach((_, i) => {
        const range = { before: before[i] as number, after: (after[i] as number) + 1, clears };
        assert.notEqual(prefixShown(copy, i + 1, range), undefined, `writer ${i + 1}, ${JSON.stringify(range)}`);
      });
      rmSync(to);
    }
    counts.set(0, 1);
    for (const child of children) await child.message('closed');
    assert.deepEqual((await store.verify()).damaged, []);
    assert.deepEqual(readdirSync(directory), ['store']);
  }

  test('shows one moment while three processes write', (t) => underLoad(t, 3, false));
  test('shows one moment while a process writes and clears', (t) => underLoad(t, 1, true));

  test('a killed backup leaves nothing', async (t) => {
    const directory = newDirectory();
    const path = join(directory, 'store');
    const to = join(directory, 'copy');
    await using store = await Store.open(path, { encoding: 'utf8' });
    const model: Model = new Map();
    await change(store, model, new Random(2), 2000);
    let complete = 0;
    for (let i = 0; i < 12; i++) {
      const child = startProcess(t, 'endless-backup', [path, to]);
      await child.message('ready');
      await sleep(10 + 17 * i);
      await child.kill();
      const names = readdirSync(directory).sort();
      // It may have been killed between the end of a backup and its removal.
      if (existsSync(to)) {
        complete++;
        assert.equal((await look(to)).size, model.size);
        rmSync(to);
        names.shift();
      }
      assert.deepEqual(names, ['store']);
    }
    assert.ok(complete < 12);
    assert.deepEqual((await store.verify()).damaged, []);
    await store.backup(to);
    assert.equal((await look(to)).size, model.size);
  });

  test('a full disk: ERR_NO_SPACE, and nothing is left', async (t) => {
    const disk = await SmallDisk.forTest(t, { sizeMiB: 24 });
    if (disk === undefined) return;
    await using store = await Store.open(newPath(), { encoding: 'buffer' });
    const to = join(disk.directory, 'copy');
    const value = Buffer.alloc(300_000, 7);
    for (let i = 0; i < 20; i++) await store.set(`${i}`, value);
    await store.backup(to);
    rmSync(to);
    const { bfree } = statfsSync(disk.directory);
    for (let i = 20; i < 100; i++) await store.set(`${i}`, value);
    await assert.rejects(store.backup(to), (error) => {
      assert.ok(error instanceof FaultlessError && error.code === 'ERR_NO_SPACE', `${error}`);
      return error.path === to;
    });
    // The file goes in the background.
    for (let i = 0; i < 100 && statfsSync(disk.directory).bfree < bfree; i++) await sleep(20);
    assert.ok(statfsSync(disk.directory).bfree >= bfree);
    assert.deepEqual(readdirSync(disk.directory), ['lost+found']);
    assert.ok(value.equals((await store.get('99')) as Buffer));
    await store.deleteMany(Array.from({ length: 80 }, (_, i) => `${i + 10}`));
    await store.backup(to);
    await using copy = await Store.open(to, { encoding: 'buffer', create: false });
    assert.equal(copy.size, 20);
    // Its free runs are holes: a full disk is found out when one is taken, not at a store to it.
    assert.ok(copy.stats().freeBytes > 20 * 2 ** 20);
    const filler = openSync(join(disk.directory, 'filler'), 'w');
    assert.throws(() => {
      while (true) writeSync(filler, value, 0, 4096);
    }, /ENOSPC/);
    closeSync(filler);
    await rejects(copy.set('new', value), 'ERR_NO_SPACE');
    rmSync(join(disk.directory, 'filler'));
    await copy.set('new', value);
    assert.deepEqual((await copy.verify()).damaged, []);
  });

  test('what is damaged is not left out', async () => {
    const path = newPath();
    const writable = await Store.open(path, { encoding: 'utf8' });
    await writable.setMany(Array.from({ length: 2000 }, (_, i) => [`key${i}`, `value${i}`] as const));
    await writable.set('large', `begin${'x'.repeat(200_000)}`);
    await writable.close();
    const position = damage(path, 'value1234');
    for (const readOnly of [true, false]) {
      await using store = await Store.open(path, { encoding: 'utf8', readOnly });
      const [found] = (await store.verify()).damaged;
      await assert.rejects(store.backup(`${path}.copy`), (error) => {
        assert.ok(error instanceof FaultlessError && error.code === 'ERR_CORRUPT', `${error}`);
        assert.ok(position - (error.offset as number) < 64 && error.path === path);
        return error.offset === found?.offset;
      });
      assert.ok(!existsSync(`${path}.copy`));
    }
  });
});
