// Files with any bytes: opening and every operation give a right value or an error, never a crash, an operation without
// end, or a value that was never written. FAULTLESS_SEED and FAULTLESS_MUTANTS repeat a part of it.
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { prepareFiles } from './fixtures/hostile-keys.js';
import { startProcess } from './fixtures/start-process.js';
import { newSeed } from './store-fixture.js';

const mutants = Number(process.env.FAULTLESS_MUTANTS ?? 5000);
const perChild = 250;
/** Of one mutant, with all that is done to it. */
const deadlineMs = 30_000;

// In memory where there is such a place: nothing here is about devices.
const directory = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'faultless-hostile-'));
after(() => rmSync(directory, { recursive: true, force: true }));

test(`${mutants} damaged copies of a store are opened and used`, { timeout: 30 * 60_000 }, async (t) => {
  const closed = join(directory, 'closed');
  const open = join(directory, 'open');
  await prepareFiles(closed, open);
  const firstSeed = newSeed('hostile files');
  const total: Record<string, number> = {};
  let next = firstSeed;

  const useShare = async (worker: number): Promise<void> => {
    while (next < firstSeed + mutants) {
      const first = next;
      const count = Math.min(perChild, firstSeed + mutants - first);
      next += count;
      const child = startProcess(t, 'hostile-store', [
        closed,
        open,
        join(directory, `${worker}`),
        `${first}`,
        `${count}`,
      ]);
      child.send('go');
      let seed = first;
      try {
        for (let i = 0; i <= count; i++) {
          const announced = (await child.message('seed', deadlineMs)) as number;
          if (announced >= 0) seed = announced;
        }
        const counts = (await child.message('counts')) as Record<string, number>;
        for (const [outcome, times] of Object.entries(counts)) total[outcome] = (total[outcome] ?? 0) + times;
        const exit = await child.ended();
        assert.deepEqual([exit.code, exit.signal, exit.stderr], [0, null, '']);
      } catch (error) {
        throw new Error(`FAULTLESS_SEED=${seed} FAULTLESS_MUTANTS=1 repeats it`, { cause: error });
      }
    }
  };
  await Promise.all([useShare(0), useShare(1)]);
  t.diagnostic(`outcomes: ${JSON.stringify(total)}`);
  // Most damage is somewhere else: the rest is still answered.
  if (mutants >= 1000) assert.ok((total.value ?? 0) > mutants * 20 && (total.ERR_CORRUPT ?? 0) > mutants / 10);
});
