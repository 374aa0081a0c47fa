// Several real processes do all kinds of operations on a few keys; some are killed and started anew, or stopped for a
// moment, while records are cleaned and the file grows. Then all that they were told is judged, key by key. A build with
// a mistake shows that this finds what it is for.
//
// FAULTLESS_HISTORY_SECONDS: for how long the right build runs (6). FAULTLESS_HISTORY_SEED: of everything drawn by chance.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, type TestContext, test } from 'node:test';
import { Store } from 'faultless';
import { runsHere } from '../rig/environment.js';
import { brokenAddonUnavailableReason, buildBrokenAddon } from './broken-addon.js';
import { describeViolation, findViolation, type Violation } from './checker.js';
import { countersOf } from './contention.js';
import { holdContest } from './contest.js';
import { type History, readHistory } from './history.js';

const seconds = Number(process.env.FAULTLESS_HISTORY_SECONDS ?? 6);
const firstSeed = Number(process.env.FAULTLESS_HISTORY_SEED ?? Math.floor(Math.random() * 2 ** 31));
/** Each has a store of its own, so that writes without answer do not pile up. */
const secondsPerRound = 10;

interface Judgement {
  readonly history: History;
  readonly violations: readonly Violation[];
  readonly kills: number;
  readonly stderr: string;
}

async function play(
  t: TestContext,
  file: string,
  seed: number,
  seconds: number,
  env?: Record<string, string>,
): Promise<Judgement> {
  await (await Store.open(file, { encoding: 'buffer' })).close();
  await (await Store.open(countersOf(file))).close();
  const logs: string[] = [];
  const roles = ['writer', 'writer', 'filler', 'reader'];
  const { kills, stderr } = await holdContest(t, {
    script: new URL('./contender.js', import.meta.url),
    roles,
    mortal: roles,
    argsOf: (role, number, random) => {
      const log = `${file}-log-${number}`;
      logs.push(log);
      return [file, log, String(number), String(random.below(2 ** 31)), role];
    },
    env,
    seed,
    seconds,
  });
  const history = readHistory(logs);
  const violations = [...history.operations.values()].flatMap((operations) => findViolation(operations) ?? []);
  for (const path of [file, countersOf(file), ...logs]) rmSync(path);
  const operations = Object.values(history.counts).reduce((sum, count) => sum + count, 0);
  t.diagnostic(
    `seed ${seed}: ${operations} operations, ${history.unanswered} writes unanswered, ${kills} kills; ` +
      `${violations.length} keys without explanation, ${history.wrong.length} answers wrong in themselves`,
  );
  return { history, violations, kills, stderr };
}

describe('histories of several processes', { skip: process.platform !== 'linux' }, () => {
  const onDisk = mkdtempSync(join(tmpdir(), 'faultless-histories-'));
  // In RAM nothing waits for a flush before it is used again, so extents change owners fastest.
  const inMemory = mkdtempSync('/dev/shm/faultless-histories-');
  after(() => {
    for (const path of [onDisk, inMemory]) rmSync(path, { recursive: true, force: true });
  });

  for (const [where, directory] of Object.entries({ 'in RAM': inMemory, 'on disk': onDisk })) {
    test(`are linearizable, ${where}`, async (t) => {
      const rounds = Math.ceil(seconds / 2 / secondsPerRound);
      for (let round = 0; round < rounds; round++) {
        const file = join(directory, `round-${round}`);
        const judgement = await play(t, file, firstSeed + round, seconds / 2 / rounds);
        const { history, violations, kills, stderr } = judgement;
        assert.deepEqual(violations.map(describeViolation), []);
        assert.deepEqual([history.wrong, stderr], [[], '']);
        assert.ok(kills > 0);
        for (const [method, count] of Object.entries(history.counts)) assert.ok(count > 10, `${method}: ${count}`);
      }
    });
  }

  // What it is caught by is that a key is said to be absent that nobody has deleted: another record was in the place
  // where its own had been. Where the record is not even sound the answer is an error, which needs no checker.
  // (A build that only leaves out the check for odd versions was not caught in 10 rounds: sets and deletes of one key
  // take effect by a single word of the index, so what is read in the middle of one is either the old or the new.)
  test('have no explanation in a build that does not validate what it has read', async (t) => {
    if (!runsHere(t, 'a build with a mistake', brokenAddonUnavailableReason())) return;
    const env = buildBrokenAddon({
      name: 'without-validation',
      file: 'store/reader',
      right: `return slot->load(std::memory_order_acquire) == slot_seen &&
        structure->load(std::memory_order_acquire) == structure_seen;`,
      wrong: 'return true;',
    });
    const start = performance.now();
    for (let round = 0; round < 180; round++) {
      const { violations } = await play(t, join(inMemory, `mistaken-${round}`), firstSeed + round, 2, env);
      const [violation] = violations;
      if (violation === undefined) continue;
      const { value, label } = violation.operation;
      t.diagnostic(
        `after ${((performance.now() - start) / 1000).toFixed(1)} s: ${label} answered ${value || 'absent'}`,
      );
      return;
    }
    assert.fail('it was not caught');
  });
});
