/** `npm run bench`: faultless beside its peers. See docs/performance.md. */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { help, type Options, parseOptions } from './options.js';
import { installPeers, peerNames } from './peers.js';
import { describeCircumstances } from './report/circumstances.js';
import { type Comparison, compare } from './report/comparison.js';
import { formatComparison, formatSummary, heading } from './report/table.js';
import { Runner } from './runner.js';

const endSignals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

process.exitCode = await main(process.argv.slice(2));

async function main(args: string[]): Promise<number> {
  let options: Options;
  try {
    options = parseOptions(args);
  } catch (error) {
    console.error(`${(error as Error).message} (--help tells what there is)`);
    return 2;
  }
  if (options.help) {
    console.log(help);
    return 0;
  }
  try {
    return await run(options);
  } catch (error) {
    console.error(`bench: ${(error as Error).message}`);
    return 1;
  }
}

async function run(options: Options): Promise<number> {
  const { systems, rounds, scale, directory } = options;
  if (peerNames.some((name) => systems.includes(name))) await installPeers();
  const circumstances = describeCircumstances();
  const { machine, versions } = circumstances;
  console.log(
    [
      `${machine.processors} × ${machine.processor}, ${machine.system}, Node.js ${versions.node}, load ${machine.load[0]?.toFixed(1)}`,
      `${scale.keys.toLocaleString('en-US')} keys of 20 bytes, values of 128 bytes, ${rounds} rounds`,
      '',
      heading,
    ].join('\n'),
  );
  const runner = await Runner.create(systems, rounds, scale, directory);
  const comparisons: Comparison[] = [];
  // The stores are removed then, too, also those in RAM.
  const stop = () => runner.stop();
  for (const signal of endSignals) process.once(signal, stop);
  process.stdout.on('error', stop); // as in `| head`
  try {
    for (const work of options.works) {
      const comparison = compare(await runner.run(work));
      comparisons.push(comparison);
      console.log(formatComparison(comparison));
    }
  } finally {
    await runner.close();
  }
  const file = path.join(options.results, `${circumstances.date.replace(/[:.]/g, '-')}.json`);
  await mkdir(options.results, { recursive: true });
  const results = { circumstances, rounds, scale, comparisons };
  await writeFile(file, `${JSON.stringify(results, undefined, 2)}\n`);
  console.log(`\n${formatSummary(comparisons)}; all figures in ${path.relative(process.cwd(), file)}`);
  return comparisons.some(({ systems }) => systems.some(({ error, refused }) => error !== undefined && !refused))
    ? 1
    : 0;
}
