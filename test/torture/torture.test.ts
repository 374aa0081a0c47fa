// A short torture run. A longer one: npm run torture -- --seconds 3600.
//
// FAULTLESS_TORTURE_SECONDS: for how long (60). FAULTLESS_SEED: of everything drawn by chance.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { newSeed } from '../store-fixture.js';
import { ipcTorture } from './ipc-torture.js';
import { describeFigures, torture } from './torture.js';

const seconds = Number(process.env.FAULTLESS_TORTURE_SECONDS ?? 60);

describe('torture', { skip: process.platform !== 'linux' }, () => {
  for (const where of ['disk', 'memory'] as const) {
    test(`a store in use by processes that are killed and stopped at any moment, ${where}`, async (t) => {
      const seed = newSeed(`torture, ${where}`) % 2 ** 31;
      const figures = await torture({ where, seed, seconds: seconds / 2, log: (line) => t.diagnostic(line) });
      t.diagnostic(describeFigures(figures));
      const { counts, kills, stops } = figures;
      assert.ok(kills > 0 && stops > 0 && counts.largeWrites > 0);
      for (const counter of ['writes', 'reads', 'opens'] as const) {
        assert.ok(counts[counter] > 10, `${counter}: ${counts[counter]}`);
      }
      assert.ok(counts.verifications > 3, `verifications: ${counts.verifications}`);
    });
  }

  test('an exchange and a log in use by processes that are killed and stopped at any moment', async (t) => {
    const figures = await ipcTorture(newSeed('torture, exchange and log') % 2 ** 31, seconds / 3);
    t.diagnostic(JSON.stringify(figures));
    assert.ok(figures.kills > 0 && figures.stops > 0 && figures.elements > 100 && figures.lines > 100);
  });
});
