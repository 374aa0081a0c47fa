/** What an entry costs beyond its key and value, in a store that was filled once. */
import { keyBytes, makeKeys, numberOf, valueBytes } from '../data.js';
import { storeOf } from '../systems/index.js';
import { writeAll } from './filling.js';
import type { Measurement, Round, Work } from './work.js';

const mostEntries = 1_000_000;
const entriesPerKey = 10;

async function run(round: Round): Promise<Measurement> {
  const { values, scale, place } = round;
  const entries = Math.min(mostEntries, entriesPerKey * scale.keys);
  const connection = await round.open();
  const keys = makeKeys(entries);
  await writeAll(
    connection,
    0,
    entries,
    (i) => keys[i] as string,
    (i) => values.of(i),
  );
  let seen = 0;
  await connection.scan?.((key, value) => {
    values.check(numberOf(key), value);
    seen++;
  });
  if (seen !== entries) throw new Error(`${seen} entries instead of ${entries}`);
  await connection.close();
  const bytes = await storeOf(round.system).allocatedBytes(place);
  return { value: bytes / entries - keyBytes - valueBytes, operations: entries };
}

export const space: Work = {
  name: 'space',
  title: 'bytes per entry beyond key and value (1,000,000 entries)',
  unit: 'bytes',
  store: { medium: 'disk', values: 'strings', filled: 'no' },
  maxRounds: 1,
  goals: { lmdb: undefined, 'classic-level': undefined },
  limit: 48,
  run,
};
