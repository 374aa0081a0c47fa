// Closing, forgetting to close, aborting, and ending in the middle of operations.
import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { describe, test } from 'node:test';
import { setImmediate, setTimeout } from 'node:timers/promises';
import { MappedFile } from 'faultless';
import { endsWith, newFile, pattern, rejects, runScript, throws } from './mapped-file-fixture.js';

/** How often this process has the file open or mapped. */
function uses(path: string): number {
  const maps = readFileSync('/proc/self/maps', 'utf8').split('\n');
  const descriptors = readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path;
    } catch {
      return false;
    }
  });
  return maps.filter((line) => line.endsWith(` ${path}`)).length + descriptors.length;
}

describe('close', () => {
  test('lets what was issued finish, refuses what comes after', async () => {
    const path = newFile(Buffer.alloc(1_000_000));
    const file = await MappedFile.open(path, { readOnly: false });
    const done: number[] = [];
    const writes = Array.from({ length: 1000 }, async (_, i) => {
      await file.write(pattern(1000), i * 1000);
      done.push(i);
    });
    const reading = file.read(0, 1_000_000);
    const closing = file.close();
    assert.equal(file.closed, true);
    assert.equal(file.size, 0);
    const refused = [
      file.read(0, 1),
      file.readInto(new Uint8Array(1), 0),
      file.readMany([[0, 1]]),
      file.readMany([]),
      file.write('x', 0),
      file.writeMany([[0, pattern(1)]]),
      file.writeMany([]),
      file.resize(10),
      file.flush(),
      file.advise('normal'),
      file.residency(),
      file.lock(),
      file.unlock(),
      file[Symbol.asyncIterator]().next(),
    ];
    for (const promise of refused) await rejects(promise, 'ERR_CLOSED');
    throws(() => file.readSync(0, 1), 'ERR_CLOSED');
    throws(() => file.tryRead(0, 1), 'ERR_CLOSED');
    throws(() => file.writeSync('x', 0), 'ERR_CLOSED');
    throws(() => file.createReadStream(), 'ERR_CLOSED');
    throws(() => file.createWriteStream(), 'ERR_CLOSED');
    await closing;
    assert.equal(done.length, 1000);
    await Promise.all(writes);
    assert.equal((await reading).length, 1_000_000);
    const content = readFileSync(path);
    for (let i = 0; i < 1000; i++) assert.ok(content.subarray(i * 1000, (i + 1) * 1000).equals(pattern(1000)));
    assert.equal(uses(path), 0);
  });

  test('again is harmless, by any name', async () => {
    const file = await MappedFile.open(newFile('x'));
    await Promise.all([file.close(), file.close(), file[Symbol.asyncDispose]()]);
    await file.close();
    await file[Symbol.asyncDispose]();
    let kept: MappedFile;
    {
      await using scoped = await MappedFile.open(newFile('x'));
      kept = scoped;
      assert.equal(kept.closed, false);
    }
    assert.equal(kept.closed, true);
  });

  test('Buffers handed out stay as they are', async () => {
    const bytes = pattern(200_000);
    const path = newFile(bytes);
    const file = await MappedFile.open(path, { readOnly: false });
    const small = await file.read(10, 10);
    const large = await file.read(0, 200_000);
    const sync = file.readSync(0, 200_000);
    await file.write(Buffer.alloc(200_000), 0);
    await file.close();
    assert.ok(small.equals(bytes.subarray(10, 20)));
    assert.ok(large.equals(bytes));
    assert.ok(sync.equals(bytes));
  });

  test('files that nobody closed are closed once they are collected', async () => {
    assert.ok(globalThis.gc, 'run with --expose-gc');
    const path = newFile(pattern(10_000));
    await (async () => {
      for (let i = 0; i < 100; i++) {
        const file = await MappedFile.open(path);
        assert.equal((await file.read(0, 10)).length, 10);
      }
    })();
    assert.ok(uses(path) > 0);
    for (let round = 0; round < 200 && uses(path) > 0; round++) {
      globalThis.gc();
      await setTimeout(5);
    }
    assert.equal(uses(path), 0);
  });

  test('a file with a call under way is not collected', async () => {
    assert.ok(globalThis.gc, 'run with --expose-gc');
    const path = newFile(pattern(1_000_000));
    const reading = (await MappedFile.open(path)).read(0, 1_000_000);
    for (let round = 0; round < 5; round++) {
      globalThis.gc();
      await setImmediate();
    }
    assert.ok((await reading).equals(pattern(1_000_000)));
  });
});

describe('signals', () => {
  const reason = new Error('no longer wanted');
  const path = newFile(pattern(100_000));
  const calls: Record<string, (file: MappedFile, signal: AbortSignal) => Promise<unknown>> = {
    open: (_file, signal) => MappedFile.open(path, { signal }),
    fromHandle: (_file, signal) => MappedFile.fromHandle(0, { signal }),
    read: (file, signal) => file.read(0, 1000, { signal }),
    readInto: (file, signal) => file.readInto(new Uint8Array(10), 0, { signal }),
    readMany: (file, signal) => file.readMany([[0, 10]], { signal }),
    write: (file, signal) => file.write('x', 0, { signal }),
  };

  for (const [name, call] of Object.entries(calls)) {
    test(`${name}: aborted before the call`, async () => {
      await using file = await MappedFile.open(path, { readOnly: false, shared: false });
      await assert.rejects(call(file, AbortSignal.abort(reason)), (error) => error === reason);
      await assert.rejects(call(file, AbortSignal.abort()), { name: 'AbortError' });
    });
    if (name === 'fromHandle') continue;

    test(`${name}: aborted during the call, and after it`, async () => {
      await using file = await MappedFile.open(path, { readOnly: false, shared: false });
      const controller = new AbortController();
      const called = call(file, controller.signal);
      controller.abort(reason);
      await assert.rejects(called, (error) => error === reason);
      const later = new AbortController();
      const result = await call(file, later.signal);
      assert.equal(getEventListeners(later.signal, 'abort').length, 0);
      later.abort(reason);
      await setImmediate();
      if (result instanceof MappedFile) await result.close();
    });

    test(`${name}: what is no signal is an argument error`, async () => {
      await using file = await MappedFile.open(path, { readOnly: false, shared: false });
      await rejects(call(file, {} as AbortSignal), 'ERR_INVALID_ARG_TYPE', TypeError);
    });
  }

  test('an aborted open leaves nothing open', async () => {
    const own = newFile('x');
    for (let i = 0; i < 50; i++) {
      const controller = new AbortController();
      const opening = MappedFile.open(own, { signal: controller.signal });
      if (i % 2 === 0) await setImmediate();
      controller.abort(reason);
      await opening.then(
        (file) => file.close(),
        (error) => assert.equal(error, reason),
      );
    }
    for (let round = 0; round < 200 && uses(own) > 0; round++) await setTimeout(5);
    assert.equal(uses(own), 0);
  });

  test('an abort in a flood rejects at once, the others go on', async () => {
    await using file = await MappedFile.open(path);
    const controller = new AbortController();
    const { signal } = controller;
    let settled = 0;
    const flood = Array.from({ length: 2000 }, () => file.read(0, 50_000).finally(() => settled++));
    const aborted = Array.from({ length: 100 }, () => file.read(0, 50_000, { signal }));
    controller.abort(reason);
    for (const outcome of await Promise.allSettled(aborted)) {
      assert.equal(outcome.status === 'rejected' && outcome.reason, reason);
    }
    assert.ok(settled < 2000, 'the aborted ones did not wait for those before them');
    assert.ok((await Promise.all(flood)).every((bytes) => bytes.length === 50_000));
  });
});

describe('ending in the middle', () => {
  const path = newFile(Buffer.alloc(1_000_000));
  const prelude = `
    import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
    import { MappedFile } from 'faultless';
    const flood = (file, count) => {
      const calls = [];
      for (let i = 0; i < count; i++) {
        calls.push(i % 2 ? file.read(i * 100, 20_000) : file.write(Buffer.alloc(20_000, i), i * 100));
      }
      return Promise.all(calls);
    };`;
  const opened = `${prelude}
    const file = await MappedFile.open(process.argv[1], { readOnly: false });`;

  test('an open file does not keep the process alive', async () => {
    assert.equal(await endsWith(0, `${opened} await file.read(0, 10); console.log('end');`, [path]), 'end\n');
  });

  test('pending calls do', async () => {
    const script = `${opened}
      flood(file, 2000).then(() => console.log('all'));
      file.close().then(() => console.log('closed'));`;
    assert.equal(await endsWith(0, script, [path]), 'all\nclosed\n');
  });

  for (const [what, code, statement] of [
    ['process.exit', 3, 'process.exit(3);'],
    ['process.exit a little later', 3, 'setTimeout(() => process.exit(3), 5);'],
    ['an uncaught error', 1, "throw new Error('on purpose');"],
    ['an exit in the middle of close', 4, 'file.close(); process.exit(4);'],
    ['an exit right after open', 5, 'MappedFile.open(process.argv[1]); process.exit(5);'],
  ] as const) {
    test(`${what} ends the process with its code`, async () => {
      const output = await endsWith(code, `${opened} flood(file, 5000); ${statement}`, [path]);
      assert.ok(code === 1 || output === '', output);
    });
  }

  const worker = `
    const { MappedFile } = await import('faultless');
    const { parentPort, workerData } = await import('node:worker_threads');`;
  /** A script whose workers run `body`; the main thread goes on with `then`. */
  const withWorkers = (body: string, then: string): string => `${opened}
    const body = ${JSON.stringify(`(async () => { ${worker} const file = await MappedFile.open(workerData, { readOnly: false });
      const flood = async (count) => {
        const calls = [];
        for (let i = 0; i < count; i++) {
          calls.push(i % 2 ? file.read(i * 100, 20_000) : file.write(Buffer.alloc(20_000, i), i * 100));
        }
        return Promise.all(calls);
      };
      ${body} })();`)};
    const start = () => new Worker(body, { eval: true, workerData: process.argv[1] });
    ${then}
    await flood(file, 100);
    console.log('main goes on');`;

  test('workers terminated in the middle of operations', async () => {
    const script = withWorkers(
      `parentPort.postMessage('ready'); for (;;) await flood(500);`,
      `for (let round = 0; round < 12; round++) {
         const workers = [start(), start()];
         await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('message', resolve))));
         const busy = flood(file, 200);
         await new Promise((resolve) => setTimeout(resolve, round));
         await Promise.all(workers.map((worker) => worker.terminate()));
         await busy;
       }`,
    );
    assert.equal(await endsWith(0, script, [path], ['--expose-gc']), 'main goes on\n');
  });

  test('workers that exit, throw, or just end, without closing', async () => {
    for (const [body, code] of [
      ['flood(500); process.exit(6);', 6],
      ["flood(500); setTimeout(() => { throw new Error('on purpose'); }, 2);", 1],
      ['flood(500);', 0],
      ['await flood(500); await file.close();', 0],
    ] as const) {
      const script = withWorkers(
        body,
        `const workers = Array.from({ length: 3 }, start);
         const codes = await Promise.all(workers.map((worker) => new Promise((resolve) => {
           worker.on('error', () => {});
           worker.once('exit', resolve);
         })));
         console.log(codes.join());`,
      );
      assert.equal(await endsWith(0, script, [path]), `${code},${code},${code}\nmain goes on\n`);
    }
  });

  test('the addon stays when the only workers that had it have ended', async () => {
    const script = `
      import { readFileSync } from 'node:fs';
      import { Worker } from 'node:worker_threads';
      const body = ${JSON.stringify(`(async () => { ${worker}
        const file = await MappedFile.open(workerData);
        await file.read(0, 10);
      })();`)};
      for (let round = 0; round < 3; round++) {
        const ended = await new Promise((resolve) => {
          new Worker(body, { eval: true, workerData: process.argv[1] }).once('exit', resolve);
        });
        console.log(ended, readFileSync('/proc/self/maps', 'utf8').includes('/faultless.node'));
      }
      // The handler is still there to pass it on.
      process.kill(process.pid, 'SIGBUS');
      setTimeout(() => console.log('survived'), 10_000);`;
    const { signal, output } = await runScript(script, [path]);
    assert.deepEqual([signal, output], ['SIGBUS', '0 true\n0 true\n0 true\n']);
  });

  test('the process exits while workers are busy', async () => {
    const script = withWorkers(
      `parentPort.postMessage('ready'); for (;;) await flood(500);`,
      `const worker = start();
       await new Promise((resolve) => worker.once('message', resolve));
       flood(file, 1000);
       process.exit(8);`,
    );
    assert.equal(await endsWith(8, script, [path]), '');
  });
});
