// The file changes under the map by somebody else's hand: an error of that operation, and of nothing else.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { COLD, FaultlessError, MappedFile } from 'faultless';
import { endsWith, newFile, pattern, rejects, throws } from './mapped-file-fixture.js';

/** Sets a file's length from another process. */
async function truncateElsewhere(path: string, size: number): Promise<void> {
  await endsWith(0, `import fs from 'node:fs'; fs.truncateSync(process.argv[1], Number(process.argv[2]));`, [
    path,
    String(size),
  ]);
}

describe('a file cut short under the map', () => {
  test('is ERR_IO for what is gone, until it is there again', async () => {
    const bytes = pattern(200_000);
    const path = newFile(bytes);
    await using file = await MappedFile.open(path, { readOnly: false });
    await using other = await MappedFile.open(newFile(bytes));
    assert.ok((await file.read(0, 200_000)).equals(bytes));
    await truncateElsewhere(path, 50_000);

    await rejects(file.read(100_000, 10), 'ERR_IO');
    await rejects(file.read(0, 200_000), 'ERR_IO');
    await rejects(file.readInto(new Uint8Array(10), 100_000), 'ERR_IO');
    await rejects(
      file.readMany([
        [0, 10],
        [199_990, 10],
      ]),
      'ERR_IO',
    );
    await rejects(file.write('lost', 100_000), 'ERR_IO');
    await rejects(
      file.writeMany([
        [0, pattern(5)],
        [100_000, pattern(5)],
      ]),
      'ERR_IO',
    );
    throws(() => file.readSync(150_000, 10), 'ERR_IO');
    throws(() => file.writeSync('lost', 150_000), 'ERR_IO');
    await rejects(file.flush(), 'ERR_IO');
    assert.equal(file.tryRead(100_000, 10), COLD);
    // Within the last page nothing faults, and nothing is there all the same.
    await rejects(file.read(49_995, 10), 'ERR_IO');
    await rejects(file.write('lost', 50_000), 'ERR_IO');
    assert.equal(file.tryRead(49_995, 10), COLD);

    assert.ok((await file.read(0, 50_000)).equals(bytes.subarray(0, 50_000)));
    assert.ok((await other.read(0, 200_000)).equals(bytes));
    await file.write('kept', 10);

    await truncateElsewhere(path, 200_000);
    assert.equal((await file.read(10, 4)).toString(), 'kept');
    assert.ok((await file.read(50_000, 150_000)).equals(Buffer.alloc(150_000)));
    await file.write('found', 100_000);
    assert.equal(readFileSync(path).toString('latin1', 99_999, 100_006), '\0found\0');
    await file.flush();
  });

  test('the error tells where', async () => {
    const path = newFile(pattern(100_000));
    await using file = await MappedFile.open(path, { offset: 1000 });
    await truncateElsewhere(path, 0);
    await assert.rejects(file.read(50_000, 10), (error) => {
      assert.ok(error instanceof FaultlessError);
      assert.deepEqual([error.code, error.offset, error.path], ['ERR_IO', 51_000, path]);
      return true;
    });
  });

  test('iteration and streams fail with it', async () => {
    const path = newFile(pattern(300_000));
    await using file = await MappedFile.open(path, { readOnly: false });
    await truncateElsewhere(path, 100_000);
    await rejects(
      (async () => {
        for await (const piece of file) assert.ok(piece.length > 0);
      })(),
      'ERR_IO',
    );
    const reading = file.createReadStream({ start: 150_000 }).resume();
    const [error] = await once(reading, 'error');
    assert.equal(error.code, 'ERR_IO');
    const writing = file.createWriteStream({ start: 150_000 });
    writing.end('lost');
    const [writeError] = await once(writing, 'error');
    assert.equal(writeError.code, 'ERR_IO');
  });

  test('a thousand operations in flight all end, one way or the other', async () => {
    const size = 1024 * 1024;
    const path = newFile(pattern(size));
    await using file = await MappedFile.open(path, { readOnly: false });
    const outcomes: Promise<unknown>[] = [];
    for (let round = 0; round < 4; round++) {
      const cutting = truncateElsewhere(path, round % 2 === 0 ? 10_000 : size);
      for (let i = 0; i < 250; i++) {
        const position = (i * 4099) % (size - 5000);
        const call = i % 3 === 0 ? file.write(pattern(5000), position) : file.read(position, 5000);
        outcomes.push(
          call.then(
            () => 'done',
            (error) => error.code,
          ),
        );
      }
      await cutting;
    }
    const counts = { done: 0, ERR_IO: 0 };
    for (const outcome of await Promise.all(outcomes)) counts[outcome as keyof typeof counts]++;
    assert.equal(counts.done + counts.ERR_IO, 1000);
    assert.ok(counts.done > 0 && counts.ERR_IO > 0, JSON.stringify(counts));
    await truncateElsewhere(path, size);
    assert.equal((await file.read(0, size)).length, size);
  });

  test('it is harmless in a worker, and when the process ends there', async () => {
    const path = newFile(pattern(100_000));
    const script = `
      import { truncateSync } from 'node:fs';
      import { Worker, isMainThread } from 'node:worker_threads';
      import { MappedFile } from 'faultless';
      const file = await MappedFile.open(process.argv[1], { readOnly: false });
      truncateSync(process.argv[1], 0);
      for (const attempt of [() => file.read(50_000, 10), () => file.write('x', 50_000), () => file.readSync(60_000, 1)]) {
        try { await attempt(); console.log('no error'); } catch (error) { console.log(error.code); }
      }
      process.exit(7);`;
    assert.equal(await endsWith(7, script, [path]), 'ERR_IO\nERR_IO\nERR_IO\n');
  });
});
