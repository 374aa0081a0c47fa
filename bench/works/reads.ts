/** Works that read, and answer by a promise. */
import { makeKeys, numberOf, Random } from '../data.js';
import { inFlight, measure, operationsOf, warmUpOf } from './timing.js';
import { type Measurement, need, type Round, type Work } from './work.js';

const strings = { medium: 'disk', values: 'strings', filled: 'once' } as const;
export const hotKeys = 1_000;

interface Picks {
  operations: number;
  keys: string[];
  /** Numbers of the keys to ask for, warm-up included. */
  picks: Uint32Array;
}

/** Random keys out of all, or out of the first `among`. */
export function pickKeys({ scale, seed }: Round, most: number, among = scale.keys): Picks {
  const operations = operationsOf(most, scale);
  const limit = Math.min(among, scale.keys);
  const picks = new Random(seed).list(operations + warmUpOf(operations), limit);
  return { operations, keys: makeKeys(limit), picks };
}

function getWork(width: number, operations: number, hot: boolean): Work['run'] {
  return async (round) => {
    const { values } = round;
    const connection = await round.open({ cache: hot });
    const get = need(connection.get, 'get');
    const { operations: count, keys, picks } = pickKeys(round, operations, hot ? hotKeys : undefined);
    const measured = await measure(count, (from, to) =>
      inFlight(
        from,
        to,
        width,
        (i) => get(keys[picks[i] as number] as string),
        (i, value) => values.check(picks[i] as number, value),
      ),
    );
    await connection.close();
    return measured;
  };
}

export const getInFlight: Work = {
  name: 'get-in-flight',
  title: 'await get, 1,024 in flight, hot cache off',
  unit: 'ns',
  store: strings,
  goals: { 'classic-level': 10, lmdb: 10 },
  run: getWork(1_024, 200_000, false),
};

export const getOneByOne: Work = {
  name: 'get-one-by-one',
  title: 'await get, one after another, hot cache off',
  unit: 'ns',
  store: strings,
  goals: { 'classic-level': 20, lmdb: 20 },
  run: getWork(1, 10_000, false),
};

export const getOneByOneHot: Work = {
  name: 'get-one-by-one-hot',
  title: 'await get, one after another, 1,000 hot keys',
  unit: 'ns',
  store: strings,
  goals: { 'classic-level': 100, lmdb: 100 },
  run: getWork(1, 10_000, true),
};

const manyKeys = 1_000;

export const getMany: Work = {
  name: 'get-many',
  title: 'getMany of 1,000',
  unit: 'ns',
  store: strings,
  goals: { 'classic-level': 8, lmdb: 8 },
  run: async (round) => {
    const { values } = round;
    const connection = await round.open();
    const many = need(connection.getMany, 'getMany');
    const { operations, keys, picks } = pickKeys(round, 200_000);
    const measured = await measure(operations, async (from, to) => {
      for (let i = from; i < to; i += manyKeys) {
        const asked = picks.subarray(i, Math.min(to, i + manyKeys));
        const answers = await many(Array.from(asked, (number) => keys[number] as string));
        if (answers.length !== asked.length) throw new Error(`${answers.length} answers to ${asked.length} keys`);
        for (let j = 0; j < asked.length; j++) values.check(asked[j] as number, answers[j]);
      }
    });
    await connection.close();
    return measured;
  },
};

async function scanAll(round: Round): Promise<Measurement> {
  const { values, scale } = round;
  const connection = await round.open();
  const scan = need(connection.scan, 'scan');
  const keys = makeKeys(scale.keys);
  const pass = async (): Promise<void> => {
    const seen = new Uint8Array(scale.keys);
    let count = 0;
    await scan((key, value) => {
      const number = numberOf(key);
      if (keys[number] !== key || seen[number] === 1) throw new Error(`${key} was not to come, or not again`);
      seen[number] = 1;
      count++;
      values.check(number, value);
    });
    if (count !== scale.keys) throw new Error(`${count} entries instead of ${scale.keys}`);
  };
  // Whole passes: the first one is the warm-up.
  const measured = await measure(scale.keys, pass);
  await connection.close();
  return measured;
}

export const iterate: Work = {
  name: 'iterate',
  title: 'for await over everything, keys and values',
  unit: 'ns',
  store: strings,
  goals: { lmdb: 1.5, 'classic-level': 8 },
  run: scanAll,
};
