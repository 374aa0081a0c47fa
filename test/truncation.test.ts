// Another program cuts the file short while it is mapped and in use: ERR_IO for what is gone, never a crash, never a
// wrong answer.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { FaultlessError, Store } from 'faultless';
import { keys, prepare } from './fixtures/prepared-store.js';
import { startProcess } from './fixtures/start-process.js';

const directory = mkdtempSync(join(tmpdir(), 'faultless-truncation-'));
after(() => rmSync(directory, { recursive: true, force: true }));

type Counts = Record<string, number>;
const sum = (counts: Counts): number => Object.values(counts).reduce((total, count) => total + count, 0);

/** Only these outcomes are there. */
function assertOnly(counts: Counts, allowed: readonly string[], what: string): void {
  for (const outcome of Object.keys(counts)) assert.ok(allowed.includes(outcome), `${what}: ${JSON.stringify(counts)}`);
}

// What is left: most of the data, nothing but control region, a part of it (the version table begins at 177 KiB), nothing.
for (const [what, cutTo] of [
  ['in the middle of the data', (size: number) => Math.floor(size / 2 / 4096) * 4096],
  ['in the middle of a page', (size: number) => Math.floor(size / 2) - 1000],
  ['right behind the control region', () => 512 * 1024],
  ['within the version table', () => 300_000],
  ['before the version table', () => 16_384],
  ['to nothing', () => 0],
] as const) {
  test(`a store's file is cut ${what}`, async (t) => {
    const file = join(directory, `store-${cutTo(2 ** 22)}`);
    await prepare(file);
    // Where a page is cut in two the kernel has put zeros behind the cut: nothing tells them from damage.
    const codes = what === 'in the middle of a page' ? ['ERR_IO', 'ERR_CORRUPT'] : ['ERR_IO'];
    const children = ['writable', 'readOnly'].map((mode) =>
      startProcess(t, 'truncated-store', [file, `${file}-other-${mode}`, mode, ...codes]),
    );
    for (const child of children) await child.ready();
    for (const child of children) child.send('go');
    for (const child of children) await child.message('running');
    const size = cutTo(statSync(file).size);
    truncateSync(file, size);
    for (const child of children) child.send('cut');

    for (const child of children) {
      const counts = (await child.message('counts', 60_000)) as Record<string, Counts>;
      const { before = {}, jobs = {}, tries = {}, gets = {}, sets = {} } = counts;
      const text = `${size} bytes left: ${JSON.stringify(counts)}`;
      assertOnly(before, ['old', 'cold', ...codes], `tryGet meanwhile, ${text}`);
      assert.ok((before.old ?? 0) > 0, text);
      assertOnly(jobs, ['old', ...codes], `jobs meanwhile, ${text}`);
      assertOnly(tries, ['old', 'cold', ...codes], `tryGet, ${text}`);
      assertOnly(gets, ['old', ...codes], `get, ${text}`);
      assertOnly(sets, ['set', ...codes], `set, ${text}`);
      assert.equal(sum(gets), keys);
      assert.ok((gets.ERR_IO ?? 0) > 0, text);
      if (size <= 512 * 1024) assert.deepEqual([gets, tries.old], [{ ERR_IO: keys }, undefined], text);
      await child.message('closed');
      const exit = await child.ended();
      assert.deepEqual([exit.code, exit.signal, exit.stderr], [0, null, '']);
    }

    // Whoever opens it now is told, or finds what is left; nobody crashes.
    try {
      await using store = await Store.open(file, { encoding: 'buffer' });
      for await (const key of store.keys()) await store.get(key).catch(() => {});
    } catch (error) {
      assert.ok(error instanceof FaultlessError && /^ERR_(IO|CORRUPT|FORMAT)$/.test(error.code), String(error));
    }
  });
}
