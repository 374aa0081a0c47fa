// Threads and processes that end in the middle of operations: by which code, and what is there afterwards. More about the
// process around a store is in store-process.test.ts.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { Store } from 'faultless';
import { type Ending, keyOf, keysOfThread, makeValue, threads, wordOf } from './fixtures/acknowledged-keys.js';
import { Board } from './fixtures/board.js';
import { startProcess } from './fixtures/start-process.js';
import { endsWith } from './store-fixture.js';

const directory = mkdtempSync(join(tmpdir(), 'faultless-lifecycle-'));
after(() => rmSync(directory, { recursive: true, force: true }));

/** How the process ends, and the workers where it tells. */
const endings: Record<Ending, { code: number; stderr: RegExp; workers?: number[] }> = {
  terminate: { code: 0, stderr: /^$/, workers: [1, 1, 1] },
  'process.exit': { code: 7, stderr: /^$/ },
  throw: { code: 1, stderr: /Error: on purpose/ },
  'throw in a worker': { code: 1, stderr: /Error: on purpose/ },
  'process.exit in a worker': { code: 0, stderr: /^$/, workers: [1, 5, 1] },
};

describe('the main thread and three workers on one file', () => {
  for (const [how, { code, stderr, workers }] of Object.entries(endings)) {
    test(`${how} in the middle of operations: what was acknowledged is there`, async (t) => {
      const file = join(directory, how);
      const boardFile = `${file}-board`;
      const child = startProcess(t, 'acknowledging', [file, boardFile, how]);
      const exit = await child.ended(60_000);
      assert.deepEqual([exit.code, exit.signal], [code, null], exit.stderr);
      assert.match(exit.stderr, stderr);
      if (workers !== undefined) assert.deepEqual(await child.message('codes'), workers);

      using board = new Board(boardFile);
      await using store = await Store.open(file, { encoding: 'utf8' });
      for (let thread = 0; thread < threads; thread++) {
        for (let index = 0; index < keysOfThread; index++) {
          const acknowledged = board.get(wordOf(thread, index));
          assert.ok(acknowledged >= 1, `${keyOf(thread, index)} was never written`);
          const value = await store.get(keyOf(thread, index));
          assert.ok(
            value === makeValue(acknowledged) || value === makeValue(acknowledged + 1),
            `${keyOf(thread, index)}: acknowledged ${acknowledged}, found ${value?.slice(0, 10)}`,
          );
        }
      }
      assert.equal(store.size, threads * keysOfThread);
    });
  }
});

describe('handles that nobody closed', () => {
  test('let go of the file once they are collected: no map, no lock is left, and it can be opened again', async () => {
    const script = `
      import { readFileSync, statSync } from 'node:fs';
      import { Store } from 'faultless';
      const path = process.argv[1];
      await (await Store.open(path)).close();
      const { ino } = statSync(path);
      const mapped = () => readFileSync('/proc/self/maps', 'utf8').includes(path);
      const locked = () => new RegExp('OFDLCK.*:' + ino + ' ').test(readFileSync('/proc/locks', 'utf8'));
      const use = async () => {
        const stores = [await Store.open(path), Store.openSync(path), await Store.open(path, { readOnly: true })];
        for (const store of stores.slice(0, 2)) await store.set('key', 'value');
        if (!mapped() || !locked()) throw new Error('is not open');
        return stores.length;
      };
      for (let round = 0; round < 3; round++) {
        await use();
        for (let turn = 0; mapped() || locked(); turn++) {
          if (turn === 500) throw new Error('mapped: ' + mapped() + ', locked: ' + locked());
          gc();
          await new Promise((resolve) => setTimeout(resolve, 10));
        }
        const store = await Store.open(path);
        if (await store.get('key') !== 'value' || store.size !== 1) throw new Error('is not the same store');
        await store.set('key', 'value');
        await store.close();
      }
      if (mapped() || locked()) throw new Error('is still open');`;
    await endsWith(0, script, [join(directory, 'collected')], ['--expose-gc']);
  });

  test('of workers that have ended, too', async () => {
    const script = `
      import { readFileSync } from 'node:fs';
      import { Worker } from 'node:worker_threads';
      import { Store } from 'faultless';
      const path = process.argv[1];
      const mapped = () => readFileSync('/proc/self/maps', 'utf8').includes(path);
      const code = \`
        import { workerData } from 'node:worker_threads';
        import { Store } from 'faultless';
        globalThis.stores = [await Store.open(workerData), Store.openSync(workerData)];
        globalThis.stores[0].set('key', 'value');
      \`;
      for (let round = 0; round < 10; round++) {
        const worker = new Worker(code, { eval: true, workerData: path });
        await new Promise((resolve, reject) => worker.on('exit', resolve).on('error', reject));
      }
      for (let turn = 0; mapped(); turn++) {
        if (turn === 500) throw new Error('is still mapped');
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      const store = await Store.open(path);
      if (await store.get('key') !== 'value') throw new Error('is not there');
      await store.close();`;
    await endsWith(0, script, [join(directory, 'workers')]);
  });
});
