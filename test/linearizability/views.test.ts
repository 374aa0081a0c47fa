// getMany gives one consistent view: of two values that one writer keeps writing in order, the first is of the same age as
// the second, or one ahead. Writers are killed and stopped meanwhile, extents change their owners. A build that leaves out
// the last look at the versions shows that this finds what it is for.
//
// FAULTLESS_HISTORY_SECONDS: for how long (2). FAULTLESS_HISTORY_SEED: of everything drawn by chance.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, type TestContext, test } from 'node:test';
import { Store } from 'faultless';
import { runsHere } from '../rig/environment.js';
import { brokenAddonUnavailableReason, buildBrokenAddon } from './broken-addon.js';
import { type Contest, holdContest } from './contest.js';
import type { Views } from './pair-process.js';

const seconds = Number(process.env.FAULTLESS_HISTORY_SECONDS ?? 2);
const seed = Number(process.env.FAULTLESS_HISTORY_SEED ?? Math.floor(Math.random() * 2 ** 31));

describe('views of several keys', { skip: process.platform !== 'linux' }, () => {
  const directory = mkdtempSync('/dev/shm/faultless-views-');
  after(() => rmSync(directory, { recursive: true, force: true }));

  async function lookAtPairs(t: TestContext, name: string, seconds: number, env?: Record<string, string>) {
    const file = join(directory, name);
    await (await Store.open(file, { encoding: 'buffer' })).close();
    const contest: Contest = await holdContest(t, {
      script: new URL('./pair-process.js', import.meta.url),
      roles: ['pair-0', 'pair-1', 'reader', 'reader-without-write-permission'],
      mortal: ['pair-0', 'pair-1'],
      argsOf: (role, _, random) => [file, String(random.below(2 ** 31)), role],
      env,
      seed,
      seconds,
    });
    const views = contest.reports.slice(2) as Views[];
    const counts = views.map(({ same, between, wrong }) => `${same} + ${between}, ${wrong.length} or more wrong`);
    t.diagnostic(`seed ${seed}, ${contest.kills} kills; views ${counts.join('; ')}`);
    return { ...contest, views };
  }

  test('are of one moment', async (t) => {
    const { views, kills, stderr } = await lookAtPairs(t, 'right', seconds);
    assert.equal(stderr, '');
    assert.ok(kills > 0);
    for (const { same, between, wrong } of views) {
      assert.deepEqual(wrong, []);
      assert.ok(same > 50 && between > 0, `${same}, ${between}`);
    }
  });

  test('are not in a build that looks at the versions no second time', async (t) => {
    if (!runsHere(t, 'a build with a mistake', brokenAddonUnavailableReason())) return;
    const env = buildBrokenAddon({
      name: 'without-last-look',
      file: 'store/reader',
      right: 'read.done = read.versions.StillHold() &&',
      wrong: 'read.done =',
    });
    // One reader that sees it in one round is enough; a busy machine may give it little chance in the first.
    let seen: string[] = [];
    for (let round = 0; seen.length === 0 && round < 10; round++) {
      const { views } = await lookAtPairs(t, 'mistaken', 1, env);
      seen = views.flatMap(({ wrong }) => wrong.slice(0, 2));
    }
    assert.ok(seen.length > 0);
    t.diagnostic(seen.join('; '));
  });
});
