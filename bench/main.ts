/** `npm run bench`: faultless beside its peers. See docs/performance.md. */
import { endSignals, readOptions } from './command-line.js';
import { help, type Options, parseOptions } from './options.js';
import { installPeers, peerNames } from './peers.js';
import { describeCircumstances } from './report/circumstances.js';
import { type Comparison, compare } from './report/comparison.js';
import { writeResults } from './report/results.js';
import { formatComparison, formatSummary, heading } from './report/table.js';
import { Runner } from './runner.js';

process.exitCode = await main(process.argv.slice(2));

async function main(args: string[]): Promise<number> {
  const options = readOptions(args, parseOptions, help);
  if (typeof options === 'number') return options;
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
  const file = await writeResults(options.results, 'works', { circumstances, rounds, scale, comparisons });
  console.log(`\n${formatSummary(comparisons)}; all figures in ${file}`);
  return comparisons.some(({ systems }) => systems.some(({ error, refused }) => error !== undefined && !refused))
    ? 1
    : 0;
}
