/** Writes whose pages go to the device at the same time. */
import { type FileHandle, open, readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { distributionOf, quantile } from '../report/latencies.js';
import { directoryOf } from '../systems/files.js';
import type { Place } from '../systems/system.js';
import { inFlight, measure, operationsOf, warmUpOf } from './timing.js';
import { type Measurement, need, type Round, type Work } from './work.js';
import { Writes } from './writes.js';

const width = 64;
const most = 1_000_000;

async function run(round: Round): Promise<Measurement> {
  const helper = await round.fork();
  const writes = new Writes(round, most);
  const connection = await round.open();
  const set = need(connection.set, 'set');
  const operations = operationsOf(most, round.scale);
  const ms = new Float64Array(operations + warmUpOf(operations));
  helper.go();
  const measured = await measure(operations, (from, to) =>
    inFlight(
      from,
      to,
      width,
      async (i) => {
        const start = performance.now();
        await set(writes.keyOf(i), writes.valueFor(i));
        ms[i] = performance.now() - start;
      },
      () => {},
    ),
  );
  helper.go();
  const syncs = (await helper.result) as number;
  await writes.check(connection);
  await connection.close();
  const latencies = distributionOf(ms.subarray(warmUpOf(operations)));
  return { ...measured, value: quantile(latencies, 0.999) * 1e6, latencies, details: { syncs } };
}

async function filesOf(place: Place): Promise<FileHandle[]> {
  const where = directoryOf(place);
  const names = (await stat(where)).isDirectory() ? await readdir(where) : [''];
  return Promise.all(names.map((name) => open(path.join(where, name))));
}

/** Has the kernel write back the store's files, over and over until it is told to stop; answers how often it did. */
async function writeBack({ place }: Round, ready: () => Promise<void>): Promise<number> {
  const files = await filesOf(place);
  await ready();
  let stopped = false;
  const stop = ready().then(() => {
    stopped = true;
  });
  let syncs = 0;
  while (!stopped) {
    for (const file of files) await file.datasync();
    syncs++;
    await sleep(5);
  }
  await stop;
  for (const file of files) await file.close();
  return syncs;
}

export const setWriteBack: Work = {
  name: 'set-write-back',
  title: 'set, 64 in flight, while the kernel writes back: p99.9',
  unit: 'ns',
  store: { medium: 'disk', values: 'strings', filled: 'each round' },
  goals: { lmdb: 1 },
  run,
  helper: writeBack,
};
