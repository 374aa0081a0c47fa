// How jobs wait for threads: the process-wide limit, turns between files, environments that wake each other, removal.
import assert from 'node:assert/strict';
import { statfsSync } from 'node:fs';
import { describe, test } from 'node:test';
import { MappedFile } from 'faultless';
import { addon, type MapArguments } from '#internal/addon.js';
import { endsWith, newFile, pattern } from './mapped-file-fixture.js';

const readOnly: MapArguments = [true, false, false, 0o600, -1, 0, -1, true];

describe('the limit of the process', () => {
  test('is half of the pool, one at least, and can be set within it', async () => {
    const script = `
      import { addon } from '#internal/addon.js';
      const { threads, limit, running } = addon.gate();
      const set = [0, 1, 3, 1e6].map((concurrency) => addon.setConcurrency(concurrency));
      console.log(threads, limit, running, set.join());`;
    for (const [size, expected] of [
      ['', '4 2 0 1,1,3,4'],
      ['1', '1 1 0 1,1,1,1'],
      ['0', '1 1 0 1,1,1,1'],
      ['7', '7 3 0 1,1,3,7'],
      ['5000', '1024 512 0 1,1,3,1024'],
    ] as const) {
      const shell = size === '' ? 'unset UV_THREADPOOL_SIZE' : `export UV_THREADPOOL_SIZE=${size}`;
      assert.equal(await endsWith(0, script, [], [], shell), `${expected}\n`);
    }
  });

  test('is never passed, whatever waits', async () => {
    const { limit } = addon.gate();
    const files = await Promise.all([0, 1, 2].map(() => MappedFile.open(newFile(pattern(100_000)))));
    let most = 0;
    const calls = files.flatMap((file) =>
      Array.from({ length: 500 }, async (_, i) => {
        await file.read(i, 90_000);
        most = Math.max(most, addon.gate().running);
      }),
    );
    most = Math.max(most, addon.gate().running);
    await Promise.all(calls);
    assert.ok(most > 0 && most <= limit, `${most} of ${limit}`);
    await Promise.all(files.map((file) => file.close()));
    assert.equal(addon.gate().running, 0);
  });

  test('one device leaves a permit for the others, memory needs none', async () => {
    const script = `
      import { addon } from '#internal/addon.js';
      import { MappedFile } from 'faultless';
      const memory = await MappedFile.open('shm:gate-' + process.pid, { create: true, readOnly: false, size: 1_000_000 });
      const disk = await MappedFile.open(process.argv[1]);
      // Jobs are given to threads during the call, as far as permits go.
      for (const file of [disk, memory]) {
        let most = 0;
        const calls = Array.from({ length: 200 }, () => {
          const call = file.read(0, 900_000);
          most = Math.max(most, addon.gate().running);
          return call;
        });
        console.log(addon.gate().limit, most);
        await Promise.all(calls);
      }
      (await import('node:fs')).rmSync('/dev/shm/faultless.gate-' + process.pid);`;
    const path = newFile(pattern(1_000_000));
    const inMemory = statfsSync(path).type === 0x01021994;
    const output = await endsWith(0, script, [path], [], 'export UV_THREADPOOL_SIZE=8');
    assert.equal(output, inMemory ? '4 4\n4 4\n' : '4 3\n4 4\n');
  });

  test('with one thread in the pool everything works, one after the other', async () => {
    const script = `
      import { stat } from 'node:fs/promises';
      import { MappedFile } from 'faultless';
      const files = await Promise.all([1, 2].map(() => MappedFile.open(process.argv[1], { readOnly: false })));
      const calls = [stat('.')];
      for (let i = 0; i < 500; i++) for (const file of files) calls.push(file.read(i, 1000), file.write('x', i));
      await Promise.all(calls);
      await Promise.all(files.map((file) => file.close()));
      console.log('all');`;
    const path = newFile(pattern(10_000));
    assert.equal(await endsWith(0, script, [path], [], 'export UV_THREADPOOL_SIZE=1'), 'all\n');
  });

  test('environments that share one permit all get on', async () => {
    const script = `
      import { Worker } from 'node:worker_threads';
      import { addon } from '#internal/addon.js';
      import { MappedFile } from 'faultless';
      addon.setConcurrency(1);
      const body = \`(async () => {
        const { MappedFile } = await import('faultless');
        const { workerData } = await import('node:worker_threads');
        const file = await MappedFile.open(workerData);
        // Nothing but the waiting jobs keeps this worker alive, while others hold the permit.
        const calls = [];
        for (let i = 0; i < 3000; i++) calls.push(file.read(i, 5000));
        const results = await Promise.all(calls);
        (await import('node:worker_threads')).parentPort.postMessage(results.length);
      })();\`;
      const workers = [1, 2, 3].map(() => new Worker(body, { eval: true, workerData: process.argv[1] }));
      const counts = Promise.all(workers.map((worker) => new Promise((resolve) => {
        worker.once('message', resolve);
        worker.once('exit', () => resolve('nothing'));
      })));
      const file = await MappedFile.open(process.argv[1]);
      for (let round = 0; round < 10; round++) {
        await Promise.all(Array.from({ length: 300 }, (_, i) => file.read(i, 5000)));
      }
      console.log((await counts).join());
      console.log(addon.gate().running);`;
    assert.equal(await endsWith(0, script, [newFile(pattern(10_000))]), '3000,3000,3000\n0\n');
  });
});

describe('turns', () => {
  test('one call does not wait for another file’s flood', async () => {
    await using flooded = await MappedFile.open(newFile(pattern(1_000_000)));
    await using other = await MappedFile.open(newFile('0123456789'));
    let done = 0;
    const flood = Array.from({ length: 3000 }, () => flooded.read(0, 20_000).then(() => done++));
    await other.read(0, 10);
    assert.ok(done < 1500, `${done} of 3000 came first`);
    await Promise.all(flood);
  });

  test('figures of the queue add up', async () => {
    const map = await addon.mapOpen(newFile(pattern(10_000)), ...readOnly);
    const calls = Array.from({ length: 300 }, () => addon.mapRead(map, Float64Array.of(0, 10, 20, 10)));
    const before = addon.mapQueue(map);
    assert.equal(before.waiting + before.running, 300);
    await Promise.all(calls);
    const after = addon.mapQueue(map);
    assert.deepEqual([after.waiting, after.running, after.requests, after.operations], [0, 0, 300, 600]);
    assert.ok(after.waitedMs > 0 && after.workedMs > 0);
    await addon.mapClose(map);
  });
});

describe('removal', () => {
  test('a job that waits is removed, one that has a thread is not', async () => {
    const map = await addon.mapOpen(newFile(pattern(1_000_000)), ...readOnly);
    const jobs = Array.from({ length: 500 }, () => {
      const outcome = addon.mapRead(map, Float64Array.of(0, 500_000));
      return {
        outcome: outcome.then(
          () => 'done',
          (thrown) => thrown.code,
        ),
        id: addon.lastJobId(),
      };
    });
    const before = addon.mapQueue(map);
    const removed = jobs.map(({ id }) => addon.cancelJob(id));
    assert.deepEqual(
      jobs.map(({ id }) => addon.cancelJob(id)),
      jobs.map(() => false),
    );
    assert.equal(addon.mapQueue(map).waiting, 0);
    assert.equal(removed.filter(Boolean).length, before.waiting);
    assert.ok(before.waiting > 300);
    for (const [i, { outcome }] of jobs.entries()) assert.equal(await outcome, removed[i] ? 'ABORTED' : 'done');
    assert.equal(addon.cancelJob(10 ** 9), false);
    await addon.mapClose(map);
  });

  test('removing an exclusive job lets those behind it go on', async () => {
    const map = await addon.mapOpen(newFile(pattern(1_000_000)), false, false, false, 0o600, -1, 0, -1, true);
    const before = Array.from({ length: 50 }, () => addon.mapRead(map, Float64Array.of(0, 500_000)));
    const resizing = addon.mapResize(map, 10);
    const id = addon.lastJobId();
    const after = Array.from({ length: 50 }, () => addon.mapRead(map, Float64Array.of(0, 500_000)));
    assert.equal(addon.cancelJob(id), true);
    await assert.rejects(resizing, { code: 'ABORTED' });
    await Promise.all([...before, ...after]);
    assert.equal(addon.mapSize(map), 1_000_000);
    await addon.mapClose(map);
  });

  test('handles and arguments of another kind throw, and crash nothing', () => {
    const calls: (() => unknown)[] = [
      () => addon.mapSize({} as never),
      () => addon.mapSize(5 as never),
      () => addon.mapRead(Object.create(null), Float64Array.of(0, 1)),
      () => addon.cancelJob('1' as never),
      () => addon.cancelJob(Number.NaN),
      () => (addon.mapOpen as () => unknown)(),
      () => (addon.mapWrite as () => unknown)(),
    ];
    for (const call of calls) assert.throws(call, TypeError);
  });
});
