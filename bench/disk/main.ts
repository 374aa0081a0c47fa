/** `npm run bench:disk`: reads that wait for a device, and what they do to the event loop. See docs/performance.md. */
import { rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import path from 'node:path';
import { SlowDisk } from '../../test/rig/slow-disk.js';
import { endSignals, readOptions } from '../command-line.js';
import { installPeers } from '../peers.js';
import { describeCircumstances } from '../report/circumstances.js';
import { writeResults } from '../report/results.js';
import { type DiskOptions, help, parseOptions } from './options.js';
import { formatResults, formatVerdicts, judge, type Results, type SubjectKey } from './report.js';
import { nameOf, Rounds } from './rounds.js';
import { type Subject, subjects, valueBytes } from './subjects.js';

process.exitCode = await main(process.argv.slice(2));

async function main(args: string[]): Promise<number> {
  const options = readOptions(args, parseOptions, help);
  if (typeof options === 'number') return options;
  const reason = SlowDisk.unavailableReason();
  if (reason !== undefined) {
    console.error(`bench:disk cannot run here: ${reason}`);
    return 2;
  }
  try {
    await run(options);
    return 0;
  } catch (error) {
    console.error(`bench:disk: ${(error as Error).message}`);
    return 1;
  }
}

async function run(options: DiskOptions): Promise<void> {
  if (options.peers) await installPeers();
  const circumstances = describeCircumstances();
  const { keys, pages, delayMs, rounds } = options;
  const isPeer = ({ system }: Subject): boolean => system === 'lmdb' || system === 'classic-level';
  const chosen = (Object.keys(subjects) as SubjectKey[]).filter((key) => options.peers || !isPeer(subjects[key]));
  // A tree of pages takes twice what lies in it at most.
  const sizeMiB = Math.ceil((keys * valueBytes * 6 + pages * 4_096) / 2 ** 20) + 512;
  const near = await mkdtemp(path.join(options.directory, 'faultless-bench-disk-'));
  let disk: SlowDisk | undefined;
  let stop = (): void => {};
  const results: Results = {};
  try {
    disk = await SlowDisk.create({ sizeMiB, readDelayMs: delayMs });
    const runner = new Rounds(options, disk, near);
    stop = () => {
      runner.stop();
      rmSync(near, { recursive: true, force: true });
    };
    // Before the rig's own, which ends this process.
    for (const signal of endSignals) process.prependListener(signal, stop);
    const filled = new Set<string>();
    for (const key of chosen) {
      if (filled.has(nameOf(subjects[key]))) continue;
      filled.add(nameOf(subjects[key]));
      await runner.fill(subjects[key]);
    }
    for (let round = 0; round < rounds; round++) {
      // Who comes first changes from round to round.
      for (let i = 0; i < chosen.length; i++) {
        const key = chosen[(i + round) % chosen.length] as SubjectKey;
        const performance = await runner.measure(subjects[key], 1 + round);
        results[key] = [...(results[key] ?? []), performance];
        console.error(`round ${round + 1}: ${subjects[key].name}: ${performance.reads} reads`);
      }
    }
  } finally {
    for (const signal of endSignals) process.off(signal, stop);
    stop();
    await disk?.destroy();
    rmSync(near, { recursive: true, force: true });
  }
  const ordered = Object.fromEntries(chosen.map((key) => [key, results[key]])) as Results;
  const verdicts = judge(ordered);
  const title = `${keys.toLocaleString('en-US')} keys, values of ${valueBytes} bytes, each read of the disk ${delayMs} ms, ${rounds} rounds, load ${circumstances.machine.load[0]?.toFixed(1)}`;
  console.log([title, '', formatResults(ordered), '', formatVerdicts(verdicts)].join('\n'));
  const { directory: _, ...settings } = options;
  const file = await writeResults(options.results, 'disk', {
    circumstances,
    options: settings,
    results: ordered,
    verdicts,
  });
  console.log(`\nall figures in ${file}`);
}
