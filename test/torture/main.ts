// `npm run torture -- [--seconds N] [--seed N] [--where disk|memory]`: half of the time on a disk, half in shared memory.
import { parseArgs } from 'node:util';
import { describeFigures, torture } from './torture.js';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '600' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
    where: { type: 'string' },
  },
});
const seed = Number(values.seed);
const places = (['disk', 'memory'] as const).filter((where) => values.where === undefined || values.where === where);
if (places.length === 0 || !(Number(values.seconds) > 0) || !Number.isInteger(seed)) {
  throw new Error('--seconds N, --seed N, --where disk or memory');
}
console.log(`seed ${seed}`);
for (const where of places) {
  const seconds = Number(values.seconds) / places.length;
  const figures = await torture({ where, seed, seconds, log: console.log });
  console.log(`${where}, ${seconds} s\n${describeFigures(figures)}`);
}
