// Segment within one process: opening and its errors, the buffer and its end, waiting. Over processes: segment-processes.test.ts.
import assert from 'node:assert/strict';
import { constants } from 'node:buffer';
import { existsSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { Segment, Store } from 'faultless';
import { endsWith, newSharedName, rejects, throws, wrong } from './store-fixture.js';

const pathOf = (name: string) => name.replace('shm:', '/dev/shm/faultless.');

describe('opening a segment', () => {
  test('zeros of the size asked for, with exact permissions; who comes later sees the same memory', async () => {
    const name = newSharedName();
    using first = await Segment.open(name, { size: 10_001, permissions: 0o640 });
    assert.deepEqual([first.size, first.created, first.closed, first.buffer.byteLength], [10_001, true, false, 10_001]);
    assert.ok(new Uint8Array(first.buffer).every((byte) => byte === 0));
    assert.equal(statSync(pathOf(name)).mode & 0o7777, 0o640);
    using second = Segment.openSync(new URL(name));
    assert.deepEqual([second.size, second.created], [10_001, false]);
    new Uint8Array(first.buffer)[10_000] = 7;
    assert.equal(new Uint8Array(second.buffer)[10_000], 7);
    // The memory is the file's, from its first byte on.
    new Uint8Array(second.buffer).set([1, 2, 3, 4]);
    assert.deepEqual([...readFileSync(pathOf(name)).subarray(0, 4)], [1, 2, 3, 4]);
  });

  test('one byte, and whole pages', async () => {
    for (const size of [1, 3, 4, 4096, 65_536]) {
      using segment = Segment.openSync(newSharedName(), { size });
      assert.equal(segment.buffer.byteLength, size);
      new Uint8Array(segment.buffer).fill(255);
    }
  });

  test('another size, exclusive, missing names', async () => {
    const name = newSharedName();
    await rejects(Segment.open(name), 'ERR_NOT_FOUND');
    await rejects(Segment.open(name, { size: 8, create: false }), 'ERR_NOT_FOUND');
    await rejects(Segment.open(name, { size: 8, readOnly: true }), 'ERR_NOT_FOUND');
    await rejects(Segment.destroy(name), 'ERR_NOT_FOUND');
    using _ = await Segment.open(name, { size: 8, exclusive: true });
    await rejects(Segment.open(name, { size: 8, exclusive: true }), 'ERR_EXISTS');
    for (const size of [7, 9, 4096]) {
      await rejects(Segment.open(name, { size }), 'ERR_FORMAT');
      throws(() => Segment.openSync(name, { size }), 'ERR_FORMAT');
    }
    await Segment.destroy(name);
    assert.ok(!existsSync(pathOf(name)));
    await rejects(Segment.destroy(name), 'ERR_NOT_FOUND');
  });

  test('wrong arguments', async () => {
    const name = newSharedName();
    for (const place of [
      './file',
      '/tmp/file',
      pathToFileURL('/tmp/file'),
      'shm:',
      'shm:a/b',
      `shm:${'x'.repeat(201)}`,
    ]) {
      await rejects(Segment.open(place, { size: 8 }), 'ERR_INVALID_ARG_VALUE', TypeError);
      throws(() => Segment.openSync(place, { size: 8 }), 'ERR_INVALID_ARG_VALUE', TypeError);
      await rejects(Segment.destroy(place), 'ERR_INVALID_ARG_VALUE', TypeError);
    }
    await rejects(Segment.open(wrong(7)), 'ERR_INVALID_ARG_TYPE', TypeError);
    await rejects(Segment.open(name, wrong(7)), 'ERR_INVALID_ARG_TYPE', TypeError);
    for (const size of [0, -1, 1.5, Number.NaN, constants.MAX_LENGTH + 1]) {
      await rejects(Segment.open(name, { size }), 'ERR_OUT_OF_RANGE', RangeError);
    }
    await rejects(Segment.open(name, { size: wrong('8') }), 'ERR_INVALID_ARG_TYPE', TypeError);
    await rejects(Segment.open(name, { size: 8, permissions: 0o10000 }), 'ERR_OUT_OF_RANGE', RangeError);
    await rejects(Segment.open(name, { size: 8, readOnly: wrong(1) }), 'ERR_INVALID_ARG_TYPE', TypeError);
    await rejects(Segment.open(name, { size: 8, signal: wrong({}) }), 'ERR_INVALID_ARG_TYPE', TypeError);
    const reason = new Error('no');
    await assert.rejects(Segment.open(name, { size: 8, signal: AbortSignal.abort(reason) }), reason);
    assert.throws(() => Segment.openSync(name, { size: 8, signal: AbortSignal.abort(reason) }), reason);
    assert.ok(!existsSync(pathOf(name)));
  });

  test('what is no segment is ERR_FORMAT, and left alone', async () => {
    const store = newSharedName();
    await (await Store.open(store)).close();
    const small = newSharedName();
    writeFileSync(pathOf(small), 'something');
    const large = newSharedName();
    writeFileSync(pathOf(large), Buffer.alloc(1 << 20));
    for (const name of [store, small, large]) {
      await rejects(Segment.open(name), 'ERR_FORMAT');
      await rejects(Segment.destroy(name), 'ERR_FORMAT');
      assert.ok(existsSync(pathOf(name)));
    }
    const name = newSharedName();
    using _ = Segment.openSync(name, { size: 8 });
    await rejects(Store.open(name), 'ERR_FORMAT');
  });

  test('damaged: the size that it tells is not that of its file', async () => {
    const name = newSharedName();
    Segment.openSync(name, { size: 8 }).close();
    const bytes = readFileSync(pathOf(name));
    bytes.writeBigUInt64LE(2n ** 40n, 4096 + 16);
    writeFileSync(pathOf(name), bytes);
    await rejects(Segment.open(name), 'ERR_CORRUPT');
    await Segment.destroy(name);
  });

  test('another user without permission: ERR_ACCESS', async (t) => {
    if (process.getuid?.() !== 0) return t.skip('only root can become another user');
    const name = newSharedName();
    using _ = Segment.openSync(name, { size: 8 });
    await endsWith(
      0,
      `import { Segment } from 'faultless';
      process.setuid(65534);
      const codes = [];
      for (const readOnly of [false, true]) await Segment.open(process.argv[1], { readOnly }).catch((e) => codes.push(e.code));
      if (codes.join() !== 'ERR_ACCESS,ERR_ACCESS') throw new Error(codes);`,
      [name],
    );
  });

  test('reading only: own writes stay own, others’ are seen, waiting is refused', async () => {
    const name = newSharedName();
    using segment = Segment.openSync(name, { size: 8192 });
    using reader = Segment.openSync(name, { readOnly: true });
    const words = new Int32Array(segment.buffer);
    const seen = new Int32Array(reader.buffer);
    words[0] = 1;
    assert.equal(seen[0], 1);
    seen[2047] = 9;
    assert.equal(words[2047], 0);
    await rejects(reader.wait(seen, 0, 1), 'ERR_READ_ONLY');
    throws(() => reader.notify(seen, 0), 'ERR_READ_ONLY');
  });
});

describe('the end of a segment', () => {
  test('views are empty, Atomics throw, and the memory goes; others keep theirs', async () => {
    const name = newSharedName();
    const segment = Segment.openSync(name, { size: 4096 });
    using other = Segment.openSync(name);
    const { ino } = statSync(pathOf(name));
    const mapped = () => readFileSync('/proc/self/maps', 'utf8').split(` ${ino} `).length - 1;
    const { buffer } = segment;
    const words = new Int32Array(buffer);
    words[1] = 5;
    assert.equal(mapped(), 2);
    segment.close();
    segment.close();
    assert.deepEqual([segment.closed, segment.size, segment.buffer.byteLength, words.length], [true, 0, 0, 0]);
    assert.equal(words[1], undefined);
    words[1] = 6;
    assert.throws(() => Atomics.load(words, 1), TypeError);
    assert.throws(() => new Int32Array(buffer), TypeError);
    await rejects(segment.wait(words, 0, 0), 'ERR_CLOSED');
    throws(() => segment.notify(words, 0), 'ERR_CLOSED');
    for (let i = 0; mapped() > 1; i++, await sleep(5)) assert.ok(i < 400);
    assert.equal(new Int32Array(other.buffer)[1], 5);
  });

  test('a buffer cannot be given away', async () => {
    using segment = Segment.openSync(newSharedName(), { size: 16 });
    const copy = structuredClone(segment.buffer);
    new Uint8Array(copy).fill(1);
    assert.equal(new Uint8Array(segment.buffer)[0], 0);
    try {
      structuredClone(segment.buffer, { transfer: [segment.buffer] });
    } catch {}
    segment.close();
    assert.equal(segment.buffer.byteLength, 0);
  });

  test('where the process ends, in workers too, with waits and views: by its own exit code', async () => {
    const script = `
      import { Worker } from 'node:worker_threads';
      import { Segment } from 'faultless';
      const name = process.argv[1];
      const how = process.argv[2];
      const code = \`
        import { parentPort, workerData } from 'node:worker_threads';
        import { Segment } from 'faultless';
        const segment = Segment.openSync(workerData.name, { size: 4096 });
        globalThis.view = new Int32Array(segment.buffer);
        for (let i = 0; i < 100; i++) segment.wait(view, i, 0, { timeout: i % 2 ? 1000 : 0.1 * i }).catch(() => {});
        if (workerData.how === 'closed') segment.close();
        parentPort.postMessage('ready');
        if (workerData.how !== 'closed') for (;;) { view[200]++; await new Promise((resolve) => setImmediate(resolve)); }
      \`;
      const segment = Segment.openSync(name, { size: 4096 });
      globalThis.view = new Int32Array(segment.buffer);
      for (let i = 0; i < 100; i++) segment.wait(view, i, 0).catch(() => {});
      for (let round = 0; round < 3; round++) {
        const workers = Array.from({ length: 3 }, () => new Worker(code, { eval: true, workerData: { name, how } }));
        await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('message', resolve))));
        for (let i = 0; i < 100; i++) segment.notify(view, i, 1);
        if (how !== 'exit') await Promise.all(workers.map((worker) => worker.terminate()));
      }
      process.exit(7);`;
    for (const how of ['terminate', 'exit', 'closed']) await endsWith(7, script, [newSharedName(), how]);
  });

  test('segments that nobody closed are collected', async () => {
    const script = `
      import { readFileSync, statSync } from 'node:fs';
      import { Segment } from 'faultless';
      const name = process.argv[1];
      Segment.openSync(name, { size: 100_000 }).close();
      const { ino } = statSync('/dev/shm/faultless.' + name.slice(4));
      const mapped = () => readFileSync('/proc/self/maps', 'utf8').includes(' ' + ino + ' ');
      (() => { for (let i = 0; i < 20; i++) Segment.openSync(name, { size: 100_000 }); })();
      if (!mapped()) throw new Error('is not mapped');
      for (let turn = 0; mapped(); turn++) {
        if (turn === 500) throw new Error('is still mapped');
        gc();
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      // The memory stays for as long as somebody has the buffer.
      const buffer = (() => Segment.openSync(name).buffer)();
      for (let turn = 0; turn < 20; turn++) { gc(); await new Promise((resolve) => setTimeout(resolve, 5)); }
      new Uint8Array(buffer).fill(1);`;
    await endsWith(0, script, [newSharedName()], ['--expose-gc']);
  });

  test('a file that is cut short under it costs the data, not the process', async () => {
    const name = newSharedName();
    using segment = Segment.openSync(name, { size: 1 << 20 });
    const bytes = new Uint8Array(segment.buffer);
    bytes.fill(1);
    truncateSync(pathOf(name), 4096);
    assert.equal(bytes[1 << 19], 0);
    bytes.fill(2);
    assert.equal(segment.notify(new Int32Array(segment.buffer), 0), 0);
    assert.equal(await segment.wait(new Int32Array(segment.buffer), 0, 0x02020202, { timeout: 1 }), 'timed-out');
  });
});

describe('waiting', () => {
  test('not equal, timed out, ok; the oldest first, as many as asked for', async () => {
    using segment = Segment.openSync(newSharedName(), { size: 4096 });
    const words = new Int32Array(segment.buffer);
    const far = new Int32Array(segment.buffer, 1024);
    words[3] = -7;
    assert.equal(await segment.wait(words, 3, 7), 'not-equal');
    assert.equal(await segment.wait(words, 3, -7, { timeout: 0 }), 'timed-out');
    const start = performance.now();
    assert.equal(await segment.wait(words, 3, -7, { timeout: 30.5 }), 'timed-out');
    assert.ok(performance.now() - start >= 30);
    const order: number[] = [];
    const waits = [0, 1, 2, 3].map(async (i) => {
      const outcome = await segment.wait(far, 0, 0);
      order.push(i);
      return outcome;
    });
    const others = segment.wait(far, 1, 0, { timeout: 100 });
    assert.equal(segment.notify(words, 256, 0), 0);
    assert.equal(segment.notify(words, 255), 0);
    assert.equal(segment.notify(words, 256, 1), 1);
    assert.equal(await waits[0], 'ok');
    assert.equal(segment.notify(words, 256, 2), 2);
    await Promise.all(waits.slice(0, 3));
    assert.deepEqual(order, [0, 1, 2]);
    assert.equal(segment.notify(words, 256), 1);
    assert.equal(segment.notify(words, 256), 0);
    assert.equal(await waits[3], 'ok');
    assert.equal(await others, 'timed-out');
  });

  test('an abort ends it, and takes no notification from others', async () => {
    using segment = Segment.openSync(newSharedName(), { size: 16 });
    const words = new Int32Array(segment.buffer);
    const controller = new AbortController();
    const aborted = segment.wait(words, 0, 0, { signal: controller.signal });
    const kept = segment.wait(words, 0, 0);
    controller.abort(new Error('enough'));
    await assert.rejects(aborted, /enough/);
    await assert.rejects(segment.wait(words, 0, 0, { signal: controller.signal }), /enough/);
    assert.equal(segment.notify(words, 0), 1);
    assert.equal(await kept, 'ok');
  });

  test('close rejects what waits', async () => {
    const segment = Segment.openSync(newSharedName(), { size: 16 });
    const words = new Int32Array(segment.buffer);
    const waits = Array.from({ length: 10 }, () => rejects(segment.wait(words, 0, 0), 'ERR_CLOSED'));
    const told = segment.wait(words, 1, 0);
    assert.equal(segment.notify(words, 1), 1);
    segment.close();
    await Promise.all(waits);
    // Notified before: 'ok', or too late to be told.
    await told.catch((error) => assert.equal(error.code, 'ERR_CLOSED'));
  });

  test('10,000 waits on one segment, and waits on 200 segments', async () => {
    using segment = Segment.openSync(newSharedName(), { size: 40_000 });
    const words = new Int32Array(segment.buffer);
    const many = Array.from(words, (_, i) => segment.wait(words, i, 0));
    for (let i = words.length - 1; i >= 0; i--) assert.equal(segment.notify(words, i), 1);
    assert.ok((await Promise.all(many)).every((outcome) => outcome === 'ok'));

    const segments = Array.from({ length: 200 }, () => Segment.openSync(newSharedName(), { size: 4 }));
    const views = segments.map((one) => new Int32Array(one.buffer));
    const waits = segments.map((one, i) => one.wait(views[i] as Int32Array, 0, 0));
    await sleep(20);
    for (const [i, one] of segments.entries()) assert.equal(one.notify(views[i] as Int32Array, 0), 1);
    assert.ok((await Promise.all(waits)).every((outcome) => outcome === 'ok'));
    for (const one of segments) one.close();
  });

  test('more waits than the table holds: ERR_BUSY for those beyond', async () => {
    using segment = Segment.openSync(newSharedName(), { size: 4 });
    const words = new Int32Array(segment.buffer);
    const controller = new AbortController();
    const all = Array.from({ length: 16_385 }, () => segment.wait(words, 0, 0, { signal: controller.signal }));
    await rejects(all[16_384] as Promise<unknown>, 'ERR_BUSY');
    controller.abort();
    assert.ok((await Promise.allSettled(all)).every(({ status }) => status === 'rejected'));
  });

  test('wrong arguments', async () => {
    using segment = Segment.openSync(newSharedName(), { size: 16 });
    const words = new Int32Array(segment.buffer);
    await rejects(segment.wait(wrong(new Uint32Array(segment.buffer)), 0, 0), 'ERR_INVALID_ARG_TYPE', TypeError);
    await rejects(segment.wait(new Int32Array(4), 0, 0), 'ERR_INVALID_ARG_VALUE', TypeError);
    throws(() => segment.notify(new Int32Array(4), 0), 'ERR_INVALID_ARG_VALUE', TypeError);
    for (const index of [-1, 4, 0.5]) {
      await rejects(segment.wait(words, index, 0), 'ERR_OUT_OF_RANGE', RangeError);
      throws(() => segment.notify(words, index), 'ERR_OUT_OF_RANGE', RangeError);
    }
    await rejects(segment.wait(words, 0, 2 ** 31), 'ERR_OUT_OF_RANGE', RangeError);
    await rejects(segment.wait(words, 0, wrong('0')), 'ERR_INVALID_ARG_TYPE', TypeError);
    await rejects(segment.wait(words, 0, 0, { timeout: -1 }), 'ERR_OUT_OF_RANGE', RangeError);
    await rejects(segment.wait(words, 0, 0, { timeout: wrong('1') }), 'ERR_INVALID_ARG_TYPE', TypeError);
    await rejects(segment.wait(words, 0, 0, { signal: wrong(1) }), 'ERR_INVALID_ARG_TYPE', TypeError);
    throws(() => segment.notify(words, 0, -1), 'ERR_OUT_OF_RANGE', RangeError);
  });

  test('hostile bytes in the table of waits crash nobody', async () => {
    const name = newSharedName();
    using segment = Segment.openSync(name, { size: 4096 });
    const words = new Int32Array(segment.buffer);
    const bytes = readFileSync(pathOf(name));
    bytes.fill(0xff, 4096 + 24);
    writeFileSync(pathOf(name), bytes, { flag: 'r+' });
    segment.notify(words, 0);
    await segment.wait(words, 0, 0, { timeout: 5 }).catch((error) => assert.match(error.code, /ERR_BUSY|ERR_NO_SPACE/));
    rmSync(pathOf(name));
  });
});
