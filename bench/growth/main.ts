/** `npm run bench:growth`: a store that grows by setSync, one key after another. See docs/performance.md. */
import { mkdtemp, rm } from 'node:fs/promises';
import { loadavg, tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { endSignals, readOptions, toNumber } from '../command-line.js';
import { startChild } from '../processes.js';
import { describeCircumstances } from '../report/circumstances.js';
import { writeResults } from '../report/results.js';
import { root } from '../root.js';
import type { GrowthAnswer, GrowthTask, Stretch } from './child.js';

interface GrowthOptions {
  keys: number;
  directory: string;
  results: string;
  help: boolean;
}

const help = `usage: npm run bench:growth -- [options]

A store that grows from nothing to ten million keys by setSync, each call timed; what an entry takes in the file at the end,
and what the process's memory has become. Exit code 0: measured, whether goals are met or not; 1: something failed; 2: wrong
arguments.

  --keys N           keys at the end (default: 10,000,000: some minutes, 3 GB of disk)
  --directory DIR    where the store is put (default: ${tmpdir()})
  --results DIR      where the JSON file goes (default: build/bench/results)
  --help             print this
`;

function parseOptions(args: string[]): GrowthOptions {
  const { values } = parseArgs({
    args,
    options: {
      keys: { type: 'string', default: '10000000' },
      directory: { type: 'string', default: tmpdir() },
      results: { type: 'string', default: path.join(root, 'build/bench/results') },
      help: { type: 'boolean', default: false },
    },
  });
  return {
    keys: toNumber('--keys', values.keys, 20_000, 1_000_000_000, true),
    directory: path.resolve(values.directory),
    results: path.resolve(values.results),
    help: values.help,
  };
}

const count = (value: number): string => Math.round(value).toLocaleString('en-US');
const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);

function format(stretch: Stretch): string {
  const { to, meanNs, p50Ns, p999Ns, worstMs, worstUndisturbedMs, heapBytes, anonymousBytes } = stretch;
  const cells = [
    ...[to, meanNs, p50Ns, p999Ns].map(count),
    ...[worstMs.toFixed(1), worstUndisturbedMs.toFixed(1), mebibytes(heapBytes), mebibytes(anonymousBytes)],
  ];
  return cells.map((cell) => cell.padStart(12)).join('');
}

const titles = ['keys', 'ns mean', 'median', 'p99.9', 'worst ms', 'undisturbed', 'heap MiB', 'anon. MiB'];

async function main(args: string[]): Promise<number> {
  const options = readOptions(args, parseOptions, help);
  if (typeof options === 'number') return options;
  try {
    await run(options);
    return 0;
  } catch (error) {
    console.error(`bench:growth: ${(error as Error).message}`);
    return 1;
  }
}

async function run({ keys, directory: parent, results }: GrowthOptions): Promise<void> {
  const circumstances = describeCircumstances();
  const directory = await mkdtemp(path.join(parent, 'faultless-bench-growth-'));
  const task: GrowthTask = { directory, keys };
  const child = startChild(new URL('./child.js', import.meta.url), task, {
    name: 'the growing store',
    execArgv: ['--expose-gc'],
  });
  for (const signal of endSignals) process.once(signal, child.kill);
  let answer: GrowthAnswer;
  try {
    answer = (await child.answer) as GrowthAnswer;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
  const { stretches, bytesPerEntry } = answer;
  const load = [circumstances.machine.load[0] as number, loadavg()[0] as number];
  const means = stretches.map(({ meanNs }) => meanNs);
  const growth = Math.max(...means) / Math.min(...means);
  const worstMs = Math.max(...stretches.map(({ worstMs }) => worstMs));
  const undisturbed = Math.max(...stretches.map(({ worstUndisturbedMs }) => worstUndisturbedMs));
  console.log(
    [
      `setSync until there are so many keys; load ${load.map((value) => value.toFixed(1)).join(' at the begin, ')} at the end`,
      titles.map((title) => title.padStart(12)).join(''),
      ...stretches.map(format),
      '',
      `slowest stretch ÷ quickest: ${growth.toFixed(2)} (goal ≤ 2); worst set ${worstMs.toFixed(1)} ms, where no thread was put aside ${undisturbed.toFixed(1)} ms (goal ≤ 5)`,
      `beyond key and value: ${bytesPerEntry.toFixed(1)} bytes per entry (goal ≤ 48)`,
    ].join('\n'),
  );
  const figures = { circumstances, load, stretches, growth, worstMs, undisturbedMs: undisturbed, bytesPerEntry };
  console.log(`all figures in ${await writeResults(results, 'growth', figures)}`);
}

process.exitCode = await main(process.argv.slice(2));
