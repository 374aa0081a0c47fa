// One store file grows from one extent to more than 2 GiB, where 31 bits end, while other processes read it.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statfsSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Store } from 'faultless';
import { Board } from './fixtures/board.js';
import { isRemoved, keyOf, makeValue } from './fixtures/growth-keys.js';
import { startProcess } from './fixtures/start-process.js';
import { runsHere } from './rig/environment.js';

const GiB = 2 ** 30;
const atOnce = 10;

function noSpaceReason(directory: string): string | undefined {
  const { bavail, bsize } = statfsSync(directory);
  return bavail * bsize < 4 * GiB ? `needs 4 GiB in ${directory}, ${bavail * bsize} bytes are free` : undefined;
}

test('a file grows from one extent to more than 2 GiB under three readers', async (t) => {
  if (!runsHere(t, 'disk space', noSpaceReason(tmpdir()))) return;
  const directory = mkdtempSync(join(tmpdir(), 'faultless-growth-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const file = join(directory, 'store');
  const boardFile = join(directory, 'board');
  using board = new Board(boardFile);
  await using store = await Store.open(file, { encoding: 'buffer' });
  const { fileBytes: emptyBytes } = store.stats();
  assert.ok(emptyBytes < 2 ** 20, 'an empty store is small');
  const readers = ['readOnly', 'writable', 'writable'].map((mode) =>
    startProcess(t, 'growth-reader', [file, boardFile, mode]),
  );
  for (const reader of readers) assert.equal(await reader.ready(), emptyBytes, 'they have seen it small');

  let number = 0;
  while (store.stats().fileBytes <= 2 * GiB + 64 * 2 ** 20) {
    const numbers = Array.from({ length: atOnce }, (_, i) => number + i);
    await Promise.all(numbers.map((each) => store.set(keyOf(each), makeValue(each))));
    const removed = await store.deleteMany(numbers.filter(isRemoved).map(keyOf));
    assert.equal(removed, numbers.filter(isRemoved).length);
    number += atOnce;
    board.set(0, number);
    for (const reader of readers) assert.equal(reader.exit, undefined, reader.stderr);
  }
  assert.equal(statSync(file).size, store.stats().fileBytes);
  for (const reader of readers) reader.send('stop');
  for (const reader of readers) {
    const counts = (await reader.message('counts', 60_000)) as Record<string, number>;
    const text = JSON.stringify(counts);
    assert.equal(counts.fileBytes, store.stats().fileBytes, 'growth shows in every process');
    assert.ok((counts.sizes ?? 0) > 20 && (counts.reads ?? 0) > 500 && (counts.hot ?? 0) > 0, text);
    const exit = await reader.ended();
    assert.deepEqual([exit.code, exit.signal, exit.stderr], [0, null, '']);
  }
  const { liveBytes, fileBytes } = store.stats();
  assert.ok(fileBytes < 2 * liveBytes, `${fileBytes} bytes for ${liveBytes}`);
});
