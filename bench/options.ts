/** The command line of the benchmarks. */
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { toNumber } from './command-line.js';
import { root } from './root.js';
import { type SystemName, systemNames } from './systems/system.js';
import { works } from './works/index.js';
import type { Scale, Work } from './works/work.js';

export interface Options {
  works: readonly Work[];
  systems: readonly SystemName[];
  rounds: number;
  scale: Scale;
  directory: string;
  results: string;
  help: boolean;
}

const fullScale: Scale = { keys: 500_000, effort: 1 };
const defaultScale: Scale = { keys: 100_000, effort: 0.4 };
const defaultRounds = 5;

export const help = `usage: npm run bench -- [options]

Measures faultless beside lmdb, classic-level and Node's fs: same keys, values and checks, each round in a process of its
own, systems taking turns. Prints medians and ratios, and writes all figures as JSON. Every answer is checked.
Exit code 0: measured, whether goals are met or not; 1: something failed; 2: wrong arguments.

  --full             ${fullScale.keys.toLocaleString('en-US')} keys and all operations (default: ${defaultScale.keys.toLocaleString('en-US')} keys, fewer operations)
  --rounds N         rounds of each work with each system (default: ${defaultRounds})
  --only NAME        only this work; may be given more than once:
${works.map(({ name, title }) => `                       ${name.padEnd(20)}${title}`).join('\n')}
  --systems A,B      only these of ${systemNames.join(', ')} (peers are installed when they are needed)
  --keys N           keys in the store
  --effort SHARE     share of the usual number of operations, up to 1
  --directory DIR    where the stores are put (default: ${tmpdir()})
  --results DIR      where the JSON file goes (default: build/bench/results)
  --help             print this
`;

/** Throws an Error that says what is wrong with the arguments. */
export function parseOptions(args: string[]): Options {
  const { values } = parseArgs({
    args,
    options: {
      full: { type: 'boolean', default: false },
      rounds: { type: 'string' },
      only: { type: 'string', multiple: true, default: [] },
      systems: { type: 'string', default: systemNames.join(',') },
      keys: { type: 'string' },
      effort: { type: 'string' },
      directory: { type: 'string', default: tmpdir() },
      results: { type: 'string', default: path.join(root, 'build/bench/results') },
      help: { type: 'boolean', default: false },
    },
  });
  const scale = values.full ? fullScale : defaultScale;
  return {
    works: toWorks(values.only),
    systems: toSystems(values.systems),
    rounds: toNumber('--rounds', values.rounds ?? String(defaultRounds), 1, 1_000, true),
    scale: {
      keys: toNumber('--keys', values.keys ?? String(scale.keys), 1_000, 10_000_000, true),
      effort: toNumber('--effort', values.effort ?? String(scale.effort), 0.0001, 1, false),
    },
    directory: path.resolve(values.directory),
    results: path.resolve(values.results),
    help: values.help,
  };
}

function toWorks(names: string[]): readonly Work[] {
  for (const name of names) if (!works.some((work) => work.name === name)) throw new Error(`no work named ${name}`);
  return names.length === 0 ? works : works.filter(({ name }) => names.includes(name));
}

function toSystems(list: string): readonly SystemName[] {
  const names = list.split(',');
  for (const name of names) {
    if (!systemNames.includes(name as SystemName)) throw new Error(`no system named ${JSON.stringify(name)}`);
  }
  if (!names.includes('faultless')) throw new Error('--systems must have faultless: the others are compared with it');
  return systemNames.filter((name) => names.includes(name));
}
