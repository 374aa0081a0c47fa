import assert from 'node:assert/strict';
import { closeSync, existsSync, fdatasync, openSync, read, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { holdsWithin, run } from './commands.js';
import { remains, removeLeftovers } from './disk-directory.js';
import { runsHere } from './environment.js';
import { TestProcess } from './process-tools.js';
import { SlowDisk } from './slow-disk.js';
import { SmallDisk } from './small-disk.js';

const PAGE = 4096;
const readAsync = promisify(read);
const fdatasyncAsync = promisify(fdatasync);

interface OpenFile extends Disposable {
  fd: number;
}

/** A file of numbered pages on the disk, written back and out of memory, opened for reading. */
async function openColdFile(disk: SlowDisk, pages: number): Promise<OpenFile> {
  const file = join(disk.directory, 'file');
  const bytes = Buffer.alloc(pages * PAGE);
  for (let page = 0; page < pages; page++) bytes.fill(page, page * PAGE, (page + 1) * PAGE);
  writeFileSync(file, bytes);
  await disk.dropCaches();
  const fd = openSync(file, 'r');
  // Brings in what finds the blocks: from here on a read of a page is one request.
  await readAsync(fd, Buffer.alloc(PAGE), 0, PAGE, 0);
  return { fd, [Symbol.dispose]: () => closeSync(fd) };
}

async function readPage({ fd }: OpenFile, page: number): Promise<Buffer> {
  const { bytesRead, buffer } = await readAsync(fd, Buffer.alloc(PAGE), 0, PAGE, page * PAGE);
  assert.equal(bytesRead, PAGE);
  return buffer;
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

/** Nothing of the directory is left: neither mounts nor loop devices nor processes nor the directory. */
async function assertRemoved(directory: string): Promise<void> {
  assert.deepEqual(remains(directory), []);
  assert.ok(!readFileSync('/proc/mounts', 'utf8').includes(directory));
  assert.ok(!(await run('losetup', ['--list', '--output', 'NAME,BACK-FILE'])).includes(directory));
  assert.ok(!(await run('ps', ['-e', '-o', 'args'])).includes(`${directory}/`));
  assert.ok(!existsSync(directory));
}

test('a test that cannot run here is skipped loudly, and fails under CI', (t) => {
  const said: string[] = [];
  const { CI } = process.env;
  t.mock.method(console, 'warn', (text: string) => said.push(text));
  const skip = t.mock.method(t, 'skip', () => {});
  try {
    process.env.CI = 'true';
    assert.throws(() => runsHere(t, 'SlowDisk', 'no FUSE'), /SlowDisk is not available: no FUSE/);
    delete process.env.CI;
    assert.equal(runsHere(t, 'SlowDisk', 'no FUSE'), false);
    assert.equal(runsHere(t, 'SlowDisk', undefined), true);
  } finally {
    if (CI === undefined) delete process.env.CI;
    else process.env.CI = CI;
  }
  assert.deepEqual(said, [`NOT TESTED: ${t.name}: SlowDisk is not available: no FUSE`]);
  assert.deepEqual(skip.mock.calls[0]?.arguments, ['SlowDisk is not available: no FUSE']);
});

describe('SlowDisk', () => {
  test('a cold read takes the delay, a cached one does not', async (t) => {
    const readDelayMs = 50;
    const disk = await SlowDisk.forTest(t, { sizeMiB: 32, readDelayMs });
    if (disk === undefined) return;
    using file = await openColdFile(disk, 16);

    const before = disk.statistics().reads;
    const coldMs = await timed(async () => assert.equal((await readPage(file, 7))[0], 7));
    assert.equal(disk.statistics().reads - before, 1);
    const cachedMs = await timed(() => readPage(file, 7));
    assert.equal(disk.statistics().reads - before, 1, 'the second read came from memory');
    assert.ok(coldMs >= readDelayMs * 0.8, `cold: ${coldMs} ms`);
    assert.ok(coldMs > cachedMs, `cold: ${coldMs} ms, cached: ${cachedMs} ms`);

    await disk.evict(join(disk.directory, 'file'));
    assert.ok((await timed(() => readPage(file, 7))) >= readDelayMs * 0.8, 'evicted');
    assert.equal(disk.statistics().reads - before, 2);
  });

  test('paused, it answers nothing until it is resumed', async (t) => {
    const disk = await SlowDisk.forTest(t, { sizeMiB: 32 });
    if (disk === undefined) return;
    using file = await openColdFile(disk, 16);

    await disk.pause();
    await disk.pause();
    await assert.rejects(disk.dropCaches(), /paused/);
    await assert.rejects(disk.evict(join(disk.directory, 'file')), /paused/);
    const completed = disk.statistics().reads;
    let settled = false;
    const pending = readPage(file, 5).finally(() => {
      settled = true;
    });
    assert.ok(await holdsWithin(10_000, () => disk.statistics().inFlight === 1));
    for (let i = 0; i < 100; i++) await stat(process.execPath);
    assert.ok(!settled);
    assert.equal(disk.statistics().reads, completed);
    await disk.resume();
    assert.equal((await pending)[0], 5);
    assert.equal(disk.statistics().reads, completed + 1);
  });

  test('failing reads are EIO, and work again afterwards', async (t) => {
    const disk = await SlowDisk.forTest(t, { sizeMiB: 32 });
    if (disk === undefined) return;
    using file = await openColdFile(disk, 16);

    disk.failReads(true);
    assert.equal((await readPage(file, 0))[0], 0, 'this page is in memory');
    await assert.rejects(readPage(file, 3), { code: 'EIO' });
    disk.failReads(false);
    assert.equal((await readPage(file, 3))[0], 3);
  });

  test('failing writes show at fdatasync, and work again afterwards', async (t) => {
    const disk = await SlowDisk.forTest(t, { sizeMiB: 32, journal: false });
    if (disk === undefined) return;
    const file = join(disk.directory, 'file');
    const fd = openSync(file, 'w');
    writeSync(fd, Buffer.alloc(PAGE, 1), 0, PAGE, 0);
    await fdatasyncAsync(fd);

    disk.failWrites(true);
    writeSync(fd, Buffer.alloc(PAGE, 2), 0, PAGE, 0);
    await assert.rejects(fdatasyncAsync(fd), { code: 'EIO' });
    disk.failWrites(false);
    writeSync(fd, Buffer.alloc(PAGE, 3), 0, PAGE, 0);
    await fdatasyncAsync(fd);
    closeSync(fd);
    await disk.dropCaches();
    assert.equal(readFileSync(file)[0], 3);
  });

  test('is removed without a rest, in use and paused with requests of all threads pending', async (t) => {
    const disk = await SlowDisk.forTest(t, { sizeMiB: 32 });
    if (disk === undefined) return;
    const root = dirname(disk.directory);
    assert.equal(remains(root).length, 5, 'two mounts, a loop device, two servers');
    using file = await openColdFile(disk, 16);
    await disk.pause();
    const pending = Array.from({ length: 8 }, (_, page) => readPage(file, page + 1));
    assert.ok(await holdsWithin(10_000, () => disk.statistics().inFlight >= 4));

    await disk.destroy();
    await Promise.all(pending);
    await assertRemoved(root);
    await disk.destroy();
  });

  test('disks do not disturb each other', async (t) => {
    const options = { sizeMiB: 16 };
    const [first, second] = await Promise.all([SlowDisk.forTest(t, options), SlowDisk.forTest(t, options)]);
    if (first === undefined || second === undefined) return;
    await first.pause();
    using file = await openColdFile(second, 4);
    assert.equal((await readPage(file, 3))[0], 3);
    await first.destroy();
    await assertRemoved(dirname(first.directory));
    assert.equal((await readPage(file, 2))[0], 2);
  });

  test('what a SIGKILLed process leaves, the next one removes', async (t) => {
    if (!runsHere(t, 'SlowDisk', SlowDisk.unavailableReason())) return;
    await using user = new TestProcess(new URL('./fixtures/abandon-disk.js', import.meta.url));
    const root = String(await user.ready());
    assert.equal(remains(root).length, 5);
    await removeLeftovers();
    assert.equal(remains(root).length, 5, 'its owner lives');

    // It waits for the paused disk in fsync: it cannot end before somebody removes the disk.
    user.signal('SIGKILL');
    const next = await SlowDisk.create({ sizeMiB: 16 });
    t.after(() => next.destroy());
    await assertRemoved(root);
    assert.equal((await user.ended()).signal, 'SIGKILL');
    assert.equal(remains(dirname(next.directory)).length, 5);
  });
});

describe('SmallDisk', () => {
  test('is soon full', async (t) => {
    const disk = await SmallDisk.forTest(t, { sizeMiB: 16 });
    if (disk === undefined) return;
    const fd = openSync(join(disk.directory, 'file'), 'w');
    const chunk = Buffer.alloc(1 << 20);
    let written = 0;
    assert.throws(
      () => {
        for (let i = 0; i < 16; i++) written += writeSync(fd, chunk);
      },
      { code: 'ENOSPC' },
    );
    closeSync(fd);
    assert.ok(written >= 6 << 20, `${written} bytes of use`);
    await disk.destroy();
    await assertRemoved(dirname(disk.directory));
  });

  for (const [end, code, signal] of [
    ['exit', 3, null],
    ['throw', 1, null],
    ['SIGTERM', null, 'SIGTERM'],
  ] as const) {
    test(`is removed when its process ends by ${end}`, async (t) => {
      if (!runsHere(t, 'SmallDisk', SmallDisk.unavailableReason())) return;
      await using user = new TestProcess(new URL('./fixtures/leave-by.js', import.meta.url), { args: [end] });
      const root = String(await user.ready());
      if (signal !== null) user.signal(signal);
      const exit = await user.ended();
      assert.deepEqual([exit.code, exit.signal], [code, signal], exit.stderr);
      await assertRemoved(root);
    });
  }
});

describe('TestProcess', () => {
  const echo = new URL('./fixtures/echo.js', import.meta.url);

  test('passes messages, arguments, variables, output and the exit code', async () => {
    await using child = new TestProcess(echo, { args: ['7'], env: { RIG_VARIABLE: 'x' } });
    assert.equal(await child.ready(), child.pid);
    child.send('question', 12n);
    assert.deepEqual(await child.message('answer'), { text: 12n, variable: 'x' });
    const exit = await child.ended();
    assert.deepEqual(exit, { code: 7, signal: null, stdout: 'to stdout\n', stderr: 'to stderr\n' });
    await assert.rejects(child.message('more'), /ended with 7.*ended before it said 'more'[\s\S]*to stdout/);
  });

  test('tells on time-out what the process was doing', async () => {
    await using child = new TestProcess(echo);
    await child.ready();
    await assert.rejects(child.message('answer', 50), /running\) has not said 'answer' for 50 ms\nthreads:\n {2}\d+ /);
    await assert.rejects(child.ended(50), /has not ended for 50 ms/);
    assert.equal((await child.kill()).signal, 'SIGKILL');
  });

  test('two processes have the same PID in namespaces of their own', async (t) => {
    if (!runsHere(t, 'a PID namespace', TestProcess.pidNamespaceUnavailableReason())) return;
    await using first = new TestProcess(echo, { args: ['5'], pidNamespace: true });
    await using second = new TestProcess(echo, { pidNamespace: true });
    assert.deepEqual([await first.ready(), await second.ready()], [1, 1]);
    assert.notEqual(first.pid, second.pid);
    const { pid } = second;
    assert.equal((await second.kill()).signal, 'SIGKILL');
    assert.ok(!existsSync(`/proc/${pid}`), 'the script itself is gone, too');
    first.send('question', '');
    assert.equal((await first.ended()).code, 5);
  });
});
