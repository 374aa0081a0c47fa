// A device that fails, and one that stops: the calls that need it fail or wait, and nothing else does.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { COLD, MappedFile } from 'faultless';
import { newFile, pattern, rejects } from './mapped-file-fixture.js';
import { holdsWithin } from './rig/commands.js';
import { SlowDisk } from './rig/slow-disk.js';

const size = 1024 * 1024;

/** A file on the disk of which nothing is in memory but what opening it needs. */
async function coldFile(disk: SlowDisk): Promise<string> {
  const path = join(disk.directory, 'file');
  writeFileSync(path, pattern(size));
  await disk.dropCaches();
  return path;
}

describe('a device', () => {
  test('whose reads fail is ERR_IO for what is not in memory, until they work again', async (t) => {
    const disk = await SlowDisk.forTest(t, { sizeMiB: 32 });
    if (disk === undefined) return;
    const bytes = pattern(size);
    const file = await MappedFile.open(await coldFile(disk), { readOnly: false });
    await file.advise('random');
    assert.equal(file.tryRead(500_000, 10), COLD);
    assert.ok((await file.read(0, 100)).equals(bytes.subarray(0, 100)));

    disk.failReads(true);
    assert.ok((await file.read(100, 100)).equals(bytes.subarray(100, 200)));
    await rejects(file.read(500_000, 10), 'ERR_IO');
    await rejects(
      file.readMany([
        [0, 10],
        [600_000, 10],
      ]),
      'ERR_IO',
    );
    await rejects(file.write('lost', 700_000), 'ERR_IO');
    assert.throws(() => file.readSync(800_000, 10), { code: 'ERR_IO' });
    assert.equal(file.tryRead(500_000, 10), COLD);
    disk.failReads(false);

    assert.ok((await file.read(0, size)).equals(bytes));
    await file.write('kept', 700_000);
    assert.equal((await file.read(700_000, 4)).toString(), 'kept');
    await file.flush();
    await file.close();
  });

  test('that is slow: what is in memory is answered first, and what is not by few rounds of it', async (t) => {
    const readDelayMs = 100;
    const disk = await SlowDisk.forTest(t, { sizeMiB: 32, readDelayMs });
    if (disk === undefined) return;
    const bytes = pattern(size);
    const file = await MappedFile.open(await coldFile(disk));
    await file.advise('random');
    await file.read(0, 4096);
    let answered = 0;
    const start = performance.now();
    const cold = Array.from({ length: 40 }, (_, i) => {
      const position = 100_000 + i * 20_000;
      return file.read(position, 100).then((read) => {
        answered++;
        assert.ok(read.equals(bytes.subarray(position, position + 100)));
      });
    });
    assert.ok((await file.read(100, 100)).equals(bytes.subarray(100, 200)));
    assert.equal(answered, 0);
    await Promise.all(cold);
    const elapsed = performance.now() - start;
    assert.ok(elapsed < 20 * readDelayMs, `${elapsed} ms for 40 reads of ${readDelayMs} ms`);
    await file.close();
  });

  test('whose writes fail makes flush fail', async (t) => {
    const disk = await SlowDisk.forTest(t, { sizeMiB: 32, journal: false });
    if (disk === undefined) return;
    const file = await MappedFile.open(await coldFile(disk), { readOnly: false });
    await file.write(pattern(100), 0);
    await file.flush();
    await file.write(Buffer.alloc(100), 0);
    disk.failWrites(true);
    await rejects(file.flush(), 'ERR_IO');
    disk.failWrites(false);
    await file.write('again', 0);
    await file.flush();
    await file.close();
  });

  test('that stands still: its calls wait and can be aborted, other files go on', async (t) => {
    const disk = await SlowDisk.forTest(t, { sizeMiB: 32 });
    if (disk === undefined) return;
    const file = await MappedFile.open(await coldFile(disk));
    await using other = await MappedFile.open(newFile(pattern(size)));
    await other.read(0, size);
    await disk.pause();
    const controller = new AbortController();
    const reason = new Error('no longer wanted');
    const { signal } = controller;
    const reads = Array.from({ length: 50 }, (_, i) => file.read(i * 20_000, 10, { signal }));
    const kept = file.read(900_000, 10);
    let closed = false;
    assert.ok(await holdsWithin(30_000, () => disk.statistics().inFlight > 0));
    assert.equal(file.tryRead(500_000, 10), COLD);

    controller.abort(reason);
    for (const outcome of await Promise.allSettled(reads)) {
      assert.equal(outcome.status === 'rejected' && outcome.reason, reason);
    }
    const calls: Record<string, (options: { signal: AbortSignal }) => Promise<unknown>> = {
      flush: (options) => file.flush(0, 10, options),
      residency: (options) => file.residency(0, 10, options),
      advise: (options) => file.advise('willneed', 0, 10, options),
      lock: (options) => file.lock(0, 10, options),
      unlock: (options) => file.unlock(0, 10, options),
      close: (options) => file.close(options),
    };
    for (const [name, call] of Object.entries(calls)) {
      await assert.rejects(call({ signal: AbortSignal.abort(reason) }), reason, name);
    }
    const closing = file.close().then(() => {
      closed = true;
    });
    for (let i = 0; i < 200; i++) assert.equal((await other.read(i, 5000)).length, 5000);
    assert.equal(closed, false);

    await disk.resume();
    assert.ok((await kept).equals(pattern(size).subarray(900_000, 900_010)));
    await closing;
  });
});
