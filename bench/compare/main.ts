/** `npm run bench:compare -- A B`: two commits of faultless, round by round. See docs/performance.md. */
import { mkdtemp, rm } from 'node:fs/promises';
import { loadavg, tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { endSignals, readOptions } from '../command-line.js';
import { type Options, parseOptions as parseWorkOptions } from '../options.js';
import { describeCircumstances } from '../report/circumstances.js';
import { writeResults } from '../report/results.js';
import { type Summary, summarize } from '../report/statistics.js';
import { Runner } from '../runner.js';
import { works } from '../works/index.js';
import type { Measurement, Work } from '../works/work.js';
import { resolveCommit, Worktree } from './worktrees.js';

interface CompareOptions {
  commits: [string, string];
  measuring: Options;
  help: boolean;
}

interface Row {
  work: string;
  title: string;
  unit: Work['unit'];
  /** Of A and B: the rounds. */
  measurements: [Measurement[], Measurement[]];
  /** A's figure ÷ B's, round by round: more than 1 where B is the better one. */
  ratio: Summary | undefined;
  cpuRatio: Summary | undefined;
  error: string | undefined;
  load: number;
}

const help = `usage: npm run bench:compare -- COMMIT_A COMMIT_B [options]

Builds both commits in work trees of their own below the temporary directory and measures them in turns, by the benchmarks of
this checkout, without peers. Ratio: what A took ÷ what B took, round by round; more than 1 where B is the quicker one. What
else the machine does hits both, so look at the range as well as at the median. A commit that has not what a work needs
fails in that work only.
Exit code 0: measured; 1: something failed; 2: wrong arguments.

  --rounds N, --only NAME, --full, --keys N, --effort SHARE, --directory DIR, --results DIR: as in npm run bench, which has
  a list of the works: ${works.map(({ name }) => name).join(', ')}
  --help             print this
`;

function parseOptions(args: string[]): CompareOptions {
  // Where an option takes a value, the one after it is no commit.
  const { positionals, tokens } = parseArgs({
    args,
    options: {
      ...{ full: { type: 'boolean' }, help: { type: 'boolean' }, rounds: { type: 'string' }, only: { type: 'string' } },
      ...{ keys: { type: 'string' }, effort: { type: 'string' } },
      ...{ directory: { type: 'string' }, results: { type: 'string' } },
    },
    allowPositionals: true,
    tokens: true,
  });
  const commits = new Set(tokens.flatMap((token) => (token.kind === 'positional' ? [token.index] : [])));
  const measuring = parseWorkOptions([...args.filter((_, i) => !commits.has(i)), '--systems', 'faultless']);
  const [a, b, ...others] = positionals;
  if (!measuring.help && (a === undefined || b === undefined || others.length > 0))
    throw new Error('two commits, please');
  return { commits: [a ?? '', b ?? ''], measuring, help: measuring.help };
}

async function main(args: string[]): Promise<number> {
  const options = readOptions(args, parseOptions, help);
  if (typeof options === 'number') return options;
  try {
    return await run(options);
  } catch (error) {
    console.error(`bench:compare: ${(error as Error).message}`);
    return 1;
  }
}

async function run({ commits, measuring }: CompareOptions): Promise<number> {
  const { rounds, scale, directory } = measuring;
  const circumstances = describeCircumstances();
  const hashes = await Promise.all(commits.map(resolveCommit));
  const parent = await mkdtemp(path.join(tmpdir(), 'faultless-bench-compare-'));
  const trees = hashes.map((commit, i) => new Worktree(commit, path.join(parent, `${'ab'[i]}`)));
  const runners: Runner[] = [];
  let stopped = false;
  const stop = (): void => {
    stopped = true;
    for (const runner of runners) runner.stop();
  };
  for (const signal of endSignals) process.on(signal, stop);
  const rows: Row[] = [];
  try {
    for (const [i, tree] of trees.entries()) {
      console.log(`building ${'AB'[i]}: ${tree.commit.slice(0, 12)} (${commits[i]}) …`);
      await tree.build();
      if (stopped) throw new Error('stopped');
      runners.push(await Runner.create(['faultless'], rounds, scale, directory, tree.program));
    }
    console.log(
      `${scale.keys.toLocaleString('en-US')} keys, ${rounds} rounds, load ${loadavg()[0]?.toFixed(1)}\n\n${heading}`,
    );
    for (const work of measuring.works) {
      rows.push(await compare(work, runners as [Runner, Runner], rounds));
      if (stopped) throw new Error('stopped');
      console.log(format(rows.at(-1) as Row));
    }
  } finally {
    for (const signal of endSignals) process.off(signal, stop);
    for (const runner of runners) await runner.close();
    for (const tree of trees) await tree.remove();
    await rm(parent, { recursive: true, force: true });
  }
  const figures = { circumstances, commits: hashes, rounds, scale, rows };
  console.log(`\nall figures in ${await writeResults(measuring.results, 'compare', figures)}`);
  return rows.some(({ error }) => error !== undefined) ? 1 : 0;
}

async function compare(work: Work, runners: [Runner, Runner], most: number): Promise<Row> {
  const measurements: Row['measurements'] = [[], []];
  let error: string | undefined;
  try {
    for (let round = 0; round < Math.min(most, work.maxRounds ?? most); round++) {
      // Who comes first changes from round to round.
      for (const i of round % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const)) {
        measurements[i].push(await runners[i].round(work, 'faultless', round));
      }
    }
  } catch (thrown) {
    error = (thrown as Error).message;
  }
  const [a, b] = measurements;
  const ratioOf = (figure: (one: Measurement) => number | undefined): Summary | undefined => {
    const ratios = a.flatMap((one, i) => {
      const [mine, other] = [figure(one), b[i] && figure(b[i])];
      return mine === undefined || other === undefined ? [] : [mine / other];
    });
    return error !== undefined || ratios.length === 0 ? undefined : summarize(ratios);
  };
  return {
    ...{ work: work.name, title: work.title, unit: work.unit, measurements, error },
    ratio: ratioOf(({ value }) => value),
    cpuRatio: ratioOf(({ cpuNs }) => cpuNs),
    load: loadavg()[0] as number,
  };
}

const widths = [-66, 12, 12, 20, 20];
const row = (cells: string[]): string =>
  cells
    .map((cell, i) => ((widths[i] ?? 0) < 0 ? cell.padEnd(-(widths[i] ?? 0)) : cell.padStart(widths[i] ?? 0)))
    .join(' ')
    .trimEnd();
const heading = row(['work', 'A', 'B', 'A ÷ B (range)', 'CPU, A ÷ B']);

function format({ title, measurements, ratio, cpuRatio, error }: Row): string {
  if (error !== undefined) return `${row([title])}\n  FAILED: ${error}`;
  const medians = measurements.map((all) =>
    Math.round(summarize(all.map(({ value }) => value)).median).toLocaleString('en-US'),
  );
  return row([title, ...medians, range(ratio), range(cpuRatio)]);
}

function range(ratio: Summary | undefined): string {
  return ratio === undefined ? '' : `${ratio.median.toFixed(2)} (${ratio.min.toFixed(2)}–${ratio.max.toFixed(2)})`;
}

process.exitCode = await main(process.argv.slice(2));
