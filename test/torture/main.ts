// `npm run torture -- [--seconds N] [--seed N] [--where disk|memory|exchange]`: a third of the time a store on a disk, a
// third one in shared memory, a third an exchange and a log.
import { parseArgs } from 'node:util';
import { ipcTorture } from './ipc-torture.js';
import { describeFigures, torture } from './torture.js';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '600' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
    where: { type: 'string' },
  },
});
const seed = Number(values.seed);
const places = (['disk', 'memory', 'exchange'] as const).filter(
  (where) => values.where === undefined || values.where === where,
);
if (places.length === 0 || !(Number(values.seconds) > 0) || !Number.isInteger(seed)) {
  throw new Error('--seconds N, --seed N, --where disk, memory or exchange');
}
console.log(`seed ${seed}`);
for (const where of places) {
  const seconds = Number(values.seconds) / places.length;
  if (where === 'exchange') {
    console.log(`exchange and log, ${seconds} s\n${JSON.stringify(await ipcTorture(seed, seconds))}`);
    continue;
  }
  const figures = await torture({ where, seed, seconds, log: console.log });
  console.log(`${where}, ${seconds} s\n${describeFigures(figures)}`);
}
