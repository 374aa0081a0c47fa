/** `npm run bench:figures`: draws what was measured, as SVG. */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { readOptions } from '../command-line.js';
import { install } from '../packages.js';
import { root } from '../root.js';
import { type DiskRun, eventLoopDelay, latencies, throughput, type WorksRun } from './plots.js';
import { type Plot, toSvg } from './vega.js';

interface FiguresOptions {
  results: string;
  works: string | undefined;
  disk: string | undefined;
  figures: string;
  help: boolean;
}

const help = `usage: npm run bench:figures -- [options]

Draws figures from the JSON files that npm run bench and npm run bench:disk have written, by default the newest of each:
throughput.svg, latencies.svg and event-loop-delay.svg. What there is no run for stays as it is, and that is said.
Exit code 0: drawn; 1: something failed, or there was nothing to draw; 2: wrong arguments.

  --works FILE       the run of npm run bench
  --disk FILE        the run of npm run bench:disk
  --results DIR      where the newest ones are looked for (default: build/bench/results)
  --figures DIR      where the figures go (default: docs/figures)
  --help             print this
`;

function parseOptions(args: string[]): FiguresOptions {
  const { values } = parseArgs({
    args,
    options: {
      works: { type: 'string' },
      disk: { type: 'string' },
      results: { type: 'string', default: path.join(root, 'build/bench/results') },
      figures: { type: 'string', default: path.join(root, 'docs/figures') },
      help: { type: 'boolean', default: false },
    },
  });
  const { works, disk, results, figures, help: wanted } = values;
  return { works, disk, results: path.resolve(results), figures: path.resolve(figures), help: wanted };
}

/** The run that was asked for, or the newest of the program; undefined where there is none. */
async function read(program: string, file: string | undefined, directory: string): Promise<unknown> {
  let found = file;
  if (found === undefined) {
    const names = await readdir(directory).catch(() => []);
    const newest = names.filter((name) => name.startsWith(`${program}-`) && name.endsWith('.json')).sort();
    if (newest.length === 0) return undefined;
    found = path.join(directory, newest.at(-1) as string);
  }
  const run = JSON.parse(await readFile(found, 'utf8'));
  if (run.program !== program) throw new Error(`${found} is no run of ${program}`);
  return run;
}

async function run({ works: worksFile, disk: diskFile, results, figures }: FiguresOptions): Promise<number> {
  const works = (await read('works', worksFile, results)) as WorksRun | undefined;
  const disk = (await read('disk', diskFile, results)) as DiskRun | undefined;
  const plots: Record<string, Plot | undefined> = {
    throughput: works && throughput(works),
    'event-loop-delay': disk && eventLoopDelay(disk),
    latencies: disk && latencies(disk, works),
  };
  if (works === undefined && disk === undefined) {
    console.error(`there is no run of npm run bench or npm run bench:disk in ${results}`);
    return 1;
  }
  await install('plots');
  await mkdir(figures, { recursive: true });
  for (const [name, plot] of Object.entries(plots)) {
    const file = path.join(figures, `${name}.svg`);
    if (plot !== undefined) await writeFile(file, await toSvg(plot));
    console.log(`${path.relative(process.cwd(), file)}${plot === undefined ? ': no run to draw it from' : ''}`);
  }
  return 0;
}

async function main(args: string[]): Promise<number> {
  const options = readOptions(args, parseOptions, help);
  if (typeof options === 'number') return options;
  try {
    return await run(options);
  } catch (error) {
    console.error(`bench:figures: ${(error as Error).message}`);
    return 1;
  }
}

process.exitCode = await main(process.argv.slice(2));
