// What open tells of a recovery: of a copy that was made while the store was open.
import assert from 'node:assert/strict';
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { Store } from 'faultless';
import { SlowDisk } from './rig/slow-disk.js';
import { endsWith, newPath, rejects, runScript, throws, wrong } from './store-fixture.js';

const count = 2000;

/** A copy of a live store, with 16 MiB of values. */
let original: string;
before(async () => {
  original = newPath();
  const live = newPath();
  await using store = await Store.open(live, { encoding: 'buffer' });
  await store.setMany(Array.from({ length: count }, (_, i) => [`key ${i}`, Buffer.alloc(8192, i)]));
  await store.flush();
  copyFileSync(live, original);
});

function newCopy(): string {
  const path = newPath();
  copyFileSync(original, path);
  return path;
}

/** Takes calls of onProgress in; checks each. */
class Calls {
  readonly all: [done: number, total: number][] = [];

  readonly onProgress = (done: number, total: number): void => {
    const [lastDone, lastTotal] = this.all.at(-1) ?? [-1, total];
    assert.equal(total, lastTotal);
    assert.ok(done > lastDone && done <= total, `${done} of ${total} after ${lastDone}`);
    this.all.push([done, total]);
  };

  /** It was a whole recovery. */
  checkEnd(least: number): void {
    const last = this.all.at(-1) as [number, number];
    assert.equal(last[0], last[1]);
    assert.ok(last[1] >= count * 8192, `${last[1]} bytes`);
    assert.ok(this.all.length >= least && this.all.length <= 64, `${this.all.length} calls`);
  }
}

describe('onProgress', () => {
  test('open: up to the end, before the promise resolves', async () => {
    const calls = new Calls();
    await using store = await Store.open(newCopy(), { encoding: 'buffer', onProgress: calls.onProgress });
    const told = calls.all.length;
    calls.checkEnd(1);
    assert.equal(store.size, count);
    assert.ok((await store.get('key 1234'))?.equals(Buffer.alloc(8192, 1234)));
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(calls.all.length, told, 'none comes later');
  });

  test('open of a slow device: as it goes on', async (t) => {
    const disk = await SlowDisk.forTest(t, { sizeMiB: 96, readDelayMs: 5 });
    if (disk === undefined) return;
    const path = join(disk.directory, 'store');
    copyFileSync(original, path);
    await disk.dropCaches();
    const calls = new Calls();
    let turns = 0;
    const ticking = setInterval(() => turns++, 1);
    const store = await Store.open(path, { encoding: 'buffer', onProgress: calls.onProgress });
    clearInterval(ticking);
    calls.checkEnd(8);
    assert.ok(turns > 8, 'the event loop has gone on');
    await store.close();
  });

  test('openSync: during the call', () => {
    const calls = new Calls();
    using store = Store.openSync(newCopy(), { encoding: 'buffer', onProgress: calls.onProgress });
    calls.checkEnd(8);
    assert.equal(store.size, count);
  });

  test('is never called where nothing is recovered', async () => {
    const never = { onProgress: () => assert.fail('called') };
    const path = newPath();
    const store = await Store.open(path, never);
    await store.set('key', 1);
    await (await Store.open(path, never)).close();
    await store.close();
    await (await Store.open(path, never)).close();
    Store.openSync(path, never).closeSync();
    await (await Store.open(path, { ...never, readOnly: true })).close();
    const killed = await runScript(
      `import { Store } from 'faultless';
      const store = await Store.open(process.argv[1]);
      await store.set('key', 2);
      process.kill(process.pid, 'SIGKILL');`,
      [path],
    );
    assert.equal(killed.signal, 'SIGKILL');
    await using again = await Store.open(path, never);
    assert.equal(await again.get('key'), 2);
  });

  test('what it throws is what open rejects with; what was recovered stays so, and nothing stays open', async () => {
    const path = newCopy();
    const reason = { not: 'an error' };
    let calls = 0;
    const onProgress = (): void => {
      calls++;
      throw reason;
    };
    await assert.rejects(Store.open(path, { encoding: 'buffer', onProgress }), (thrown) => thrown === reason);
    assert.equal(calls, 1);
    const store = await Store.open(path, { encoding: 'buffer', onProgress });
    assert.equal(store.size, count);
    await store.close();
    assert.equal(calls, 1);
    assert.throws(
      () => Store.openSync(newCopy(), { encoding: 'buffer', onProgress }),
      (thrown) => thrown === reason,
    );
    assert.equal(calls, 2);
  });

  test('an abort in it: open rejects with the reason, and it is not called again', async () => {
    const controller = new AbortController();
    const reason = new Error('no longer wanted');
    let calls = 0;
    const onProgress = (): void => {
      calls++;
      controller.abort(reason);
    };
    const opening = Store.open(newCopy(), { encoding: 'buffer', onProgress, signal: controller.signal });
    await assert.rejects(opening, (thrown) => thrown === reason);
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.equal(calls, 1);
  });

  test('a process that ends in it, or a worker, crashes nothing', async () => {
    const open = (onProgress: string): string => `const { Store } = await import('faultless');
      await Store.open(path, { encoding: 'buffer', onProgress: () => ${onProgress} });`;
    await endsWith(7, `const path = process.argv[1]; ${open('process.exit(7)')}`, [newCopy()]);
    const worker = (onProgress: string): string => `(async () => {
      const { parentPort, workerData: path } = await import('node:worker_threads');
      ${open(onProgress)}
    })();`;
    const script = `import { Worker } from 'node:worker_threads';
      const [ends, isEnded, path, other] = process.argv.slice(1);
      const first = new Worker(ends, { eval: true, workerData: path });
      const status = await new Promise((resolve) => first.once('exit', resolve));
      if (status !== 7) throw new Error('ended with ' + status);
      const second = new Worker(isEnded, { eval: true, workerData: other });
      await new Promise((resolve) => second.once('message', resolve));
      await second.terminate();`;
    const workers = [worker('process.exit(7)'), worker('parentPort.postMessage(1)')];
    await endsWith(0, script, [...workers, newCopy(), newCopy()]);
  });

  test('must be a function', async () => {
    await rejects(Store.open(newPath(), wrong({ onProgress: 1 })), 'ERR_INVALID_ARG_TYPE', TypeError);
    throws(() => Store.openSync(newPath(), wrong({ onProgress: {} })), 'ERR_INVALID_ARG_TYPE', TypeError);
  });
});
