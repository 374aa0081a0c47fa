// Writes a pair of values in order, or looks at pairs by getMany: FILE SEED ROLE. As a reader it tells how many views it
// had of each kind, and the first that shows no single moment.
//   pair-0, pair-1: the only writer of that pair; reader; reader-without-write-permission.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Store } from 'faultless';
import { Random } from '../fixtures/random.js';
import { stamped, stampOf } from '../fixtures/stamped-values.js';
import { received, tell, workUntilStop } from '../rig/child.js';

export interface Views {
  /** The second value was of the same age as the first. */
  same: number;
  /** The first value was one ahead: the writer was between the two. */
  between: number;
  wrong: string[];
}

const [file = '', seed = '', role = ''] = process.argv.slice(2);
const random = new Random(Number(seed));
const pairs = ['pair-0', 'pair-1'];
const others = Array.from({ length: 40 }, (_, index) => `other-${index}`);
const store = await Store.open(file, { encoding: 'buffer', readOnly: role === 'reader-without-write-permission' });
await tell('ready');
await received('go');
const work = workUntilStop();

const makeValue = (key: string, sequence: number): Buffer =>
  stamped(key, { writer: 0, sequence }, random.below(20) === 0 ? 70_000 : 6000);

function sequenceIn(key: string, value: Buffer | undefined): number {
  return value === undefined ? 0 : stampOf(key, value).sequence;
}

/** What a predecessor that was killed left half done is finished first, so the first is never ahead by two. */
async function writePairs(pair: string): Promise<void> {
  const [first, second] = [`${pair}-first`, `${pair}-second`];
  let sequence = sequenceIn(first, store.getSync(first));
  store.setSync(second, makeValue(second, sequence));
  while (!work.stopped) {
    for (let i = 0; i < 10; i++) {
      sequence++;
      store.setSync(first, makeValue(first, sequence));
      store.setSync(second, makeValue(second, sequence));
    }
    sequence++;
    await store.set(first, makeValue(first, sequence));
    await store.set(second, makeValue(second, sequence));
    const other = random.pick(others);
    store.setSync(other, makeValue(other, sequence));
    await nextTurn();
  }
}

async function readPairs(): Promise<Views> {
  const views: Views = { same: 0, between: 0, wrong: [] };
  while (!work.stopped) {
    const pair = random.pick(pairs);
    const [first, second] = [`${pair}-first`, `${pair}-second`];
    const between = others.slice(0, random.below(others.length));
    const keys = random.below(2) === 0 ? [first, ...between, second] : [second, ...between, first];
    const answers = await store.getMany(keys);
    const ahead = sequenceIn(first, answers[keys.indexOf(first)]);
    const behind = sequenceIn(second, answers[keys.indexOf(second)]);
    if (ahead === behind) views.same++;
    else if (ahead === behind + 1) views.between++;
    else views.wrong.push(`${first} is ${ahead} where ${second} is ${behind}`);
    await nextTurn();
  }
  return { ...views, wrong: views.wrong.slice(0, 10) };
}

const report = role.startsWith('reader') ? await readPairs() : await writePairs(role);
await store.close();
await tell('done', report);
