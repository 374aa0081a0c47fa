/** Reads of which most are of few keys, while another process writes. */
import { setTimeout as sleep } from 'node:timers/promises';
import { makeKeys, Random, Zipf } from '../data.js';
import type { Stored } from '../systems/system.js';
import { inFlight, measure, operationsOf, warmUpOf } from './timing.js';
import { type Measurement, need, type Round, type Work } from './work.js';

const width = 64;
const writesPerSecond = 10_000;
/** Versions that the writer goes through again and again; 0 is what the store was filled with. */
const versions = 7;

/** classic-level has its store for itself: alone it is. */
const hasWriter = ({ system }: Round): boolean => system !== 'classic-level';

async function run(round: Round): Promise<Measurement> {
  const { scale, seed, values } = round;
  const writer = hasWriter(round) ? await round.fork() : undefined;
  // Copies in the process count where they are never older than what another process has written.
  const connection = await round.open({ cache: round.system === 'faultless' });
  const get = need(connection.get, 'get');
  const keys = makeKeys(scale.keys);
  const operations = operationsOf(1_000_000, scale);
  const picks = new Zipf(seed, scale.keys).list(operations + warmUpOf(operations));
  const check = (number: number, value: Stored | undefined): void => {
    for (let version = 1; version <= versions; version++) if (value === values.of(number, version)) return;
    values.check(number, value);
  };
  writer?.go();
  const measured = await measure(operations, (from, to) =>
    inFlight(
      from,
      to,
      width,
      (i) => get(keys[picks[i] as number] as string),
      (i, value) => check(picks[i] as number, value),
    ),
  );
  writer?.go();
  const written = (await writer?.result) as number | undefined;
  await connection.close();
  return written === undefined ? measured : { ...measured, details: { writesPerSecond: written } };
}

/** Writes to random keys, all of them equally often, until it is told to stop; answers writes per second. */
async function write(round: Round, ready: () => Promise<void>): Promise<number> {
  const { scale, seed, values } = round;
  const connection = await round.open();
  const set = need(connection.set, 'set');
  const keys = makeKeys(scale.keys);
  const random = new Random(seed + 1_000_000);
  await ready();
  let stopped = false;
  const stop = ready().then(() => {
    stopped = true;
  });
  const start = performance.now();
  let written = 0;
  while (!stopped) {
    const due = ((performance.now() - start) / 1_000) * writesPerSecond;
    const writes: Promise<unknown>[] = [];
    // What a busy machine has held up is made up for, a little at a time.
    for (; written < due && writes.length < 1_000; written++) {
      const number = random.below(scale.keys);
      writes.push(set(keys[number] as string, values.of(number, 1 + (written % versions))));
    }
    await Promise.all(writes);
    await sleep(5);
  }
  const seconds = (performance.now() - start) / 1_000;
  await stop;
  await connection.close();
  return written / seconds;
}

export const getZipf: Work = {
  name: 'get-zipf',
  title: 'await get, Zipf, 64 in flight, another process writes 10,000/s',
  unit: 'ns',
  store: { medium: 'disk', values: 'strings', filled: 'each round' },
  goals: { 'classic-level': 10, lmdb: 10 },
  run,
  helper: write,
};
