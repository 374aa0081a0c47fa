/** `npm run bench:scan`: iterating over a store that memory does not hold. See docs/performance.md. */
import { copyFileSync, rmSync } from 'node:fs';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { loadavg, tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { run as runCommand } from '../../test/rig/commands.js';
import { SlowDisk } from '../../test/rig/slow-disk.js';
import { endSignals, readOptions, toNumber } from '../command-line.js';
import { keyBytes } from '../data.js';
import { MemoryLimit } from '../memory-limit.js';
import { type RunningChild, startChild } from '../processes.js';
import { describeCircumstances } from '../report/circumstances.js';
import { writeResults } from '../report/results.js';
import { type Summary, summarize } from '../report/statistics.js';
import { root } from '../root.js';
import type { ScanAnswer, ScanTask } from './child.js';

const MiB = 2 ** 20;
const goal = 0.5;
const program = new URL('./child.js', import.meta.url);

interface ScanOptions {
  /** The store's bytes of keys and values, in memories. */
  times: number;
  memoryMiB: number;
  rounds: number;
  deviceMiBs: number;
  directory: string;
  results: string;
  help: boolean;
}

interface Row {
  device: string;
  valueBytes: number;
  keys: number;
  fileBytes: number;
  /** MiB of the file per second. */
  read: Summary;
  scan: Summary;
  ratio: Summary;
  met: boolean;
  rounds: { read: ScanAnswer; scan: ScanAnswer; load: number }[];
  /** The most memory that any of them had. */
  peakBytes: number | undefined;
}

const help = `usage: npm run bench:scan -- [options]

for await over a store with four times as many bytes as the memory that the process has, page cache included (a control group),
beside reading its file from begin to end, 1 MiB at a time, in such a group as well. Values of 128 and of 1,500 bytes; in
DIR, whatever device that is, and on a device of a known speed, which the tests' slow disk makes. Caches are dropped before
each; every entry is checked. Needs Linux and root.
Exit code 0: measured, whether the goal is met or not; 1: something failed; 2: wrong arguments, or it cannot run here.

  --memory MIB       memory of the process (default: 192)
  --times N          the store, in memories (default: 4)
  --rounds N         rounds, each of a read and a scan (default: 5)
  --device MIBS      speed of the device that is made; 0: none (default: 500)
  --directory DIR    (default: ${tmpdir()})
  --results DIR      where the JSON file goes (default: build/bench/results)
  --help             print this
`;

function parseOptions(args: string[]): ScanOptions {
  const { values } = parseArgs({
    args,
    options: {
      memory: { type: 'string', default: '192' },
      times: { type: 'string', default: '4' },
      rounds: { type: 'string', default: '5' },
      device: { type: 'string', default: '500' },
      directory: { type: 'string', default: tmpdir() },
      results: { type: 'string', default: path.join(root, 'build/bench/results') },
      help: { type: 'boolean', default: false },
    },
  });
  return {
    memoryMiB: toNumber('--memory', values.memory, 64, 65_536, true),
    times: toNumber('--times', values.times, 0.01, 100, false),
    rounds: toNumber('--rounds', values.rounds, 1, 1_000, true),
    deviceMiBs: toNumber('--device', values.device, 0, 100_000, true),
    directory: path.resolve(values.directory),
    results: path.resolve(values.results),
    help: values.help,
  };
}

class Scans {
  readonly #options: ScanOptions;
  #child: RunningChild | undefined;
  #stopped = false;

  constructor(options: ScanOptions) {
    this.#options = options;
  }

  async fill(directory: string, valueBytes: number): Promise<ScanTask> {
    const bytes = this.#options.memoryMiB * MiB * this.#options.times;
    const keys = Math.ceil(bytes / (keyBytes + valueBytes));
    const task: ScanTask = { what: 'fill', directory, name: `values-${valueBytes}`, keys, valueBytes };
    await this.#perform(task, undefined);
    return task;
  }

  /** Rounds on the device that `directory` lies on, of the store of `filled`. */
  async measure(filled: ScanTask, directory: string, device: string): Promise<Row> {
    const file = path.join(directory, filled.name);
    if (directory !== filled.directory) copyFileSync(path.join(filled.directory, filled.name), file);
    const { size: fileBytes } = await stat(file);
    const limit = MemoryLimit.create(this.#options.memoryMiB * MiB);
    const rounds: Row['rounds'] = [];
    let peakBytes: number | undefined;
    try {
      for (let round = 0; round < this.#options.rounds; round++) {
        const seen = new Map<'read' | 'scan', ScanAnswer>();
        const order = ['read', 'scan'] as const;
        for (const what of round % 2 === 0 ? order : [...order].reverse()) {
          seen.set(what, (await this.#perform({ ...filled, what, directory }, limit)) as ScanAnswer);
        }
        const [read, scan] = [seen.get('read') as ScanAnswer, seen.get('scan') as ScanAnswer];
        rounds.push({ read, scan, load: loadavg()[0] as number });
      }
      peakBytes = limit.peakBytes();
    } finally {
      await limit.remove();
      if (directory !== filled.directory) await rm(file);
    }
    const { valueBytes, keys } = filled;
    const rate = (ms: number): number => fileBytes / MiB / (ms / 1_000);
    const ratio = summarize(rounds.map(({ read, scan }) => read.ms / scan.ms));
    return {
      ...{ device, valueBytes, keys, fileBytes, rounds, ratio, met: ratio.median >= goal },
      read: summarize(rounds.map(({ read }) => rate(read.ms))),
      scan: summarize(rounds.map(({ scan }) => rate(scan.ms))),
      peakBytes,
    };
  }

  stop(): void {
    this.#stopped = true;
    this.#child?.kill();
  }

  async #perform(task: ScanTask, limit: MemoryLimit | undefined): Promise<unknown> {
    if (this.#stopped) throw new Error('stopped');
    const child = startChild(program, task, { name: `the ${task.what}` });
    this.#child = child;
    try {
      if (limit !== undefined) {
        await child.paused();
        limit.add(child.pid);
        await runCommand('sync', ['--file-system', task.directory], 600_000);
        await runCommand('sh', ['-c', 'echo 3 > /proc/sys/vm/drop_caches']);
        child.go();
      }
      return await child.answer;
    } finally {
      this.#child = undefined;
      child.kill();
    }
  }
}

function unavailableReason(): string | undefined {
  if (process.platform !== 'linux') return `needs Linux, this is ${process.platform}`;
  if (process.getuid?.() !== 0) return 'needs root, to drop caches and to limit memory';
  try {
    void MemoryLimit.create(2 ** 30).remove();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

function format({ device, valueBytes, fileBytes, read, scan, ratio, met }: Row): string {
  const range = `${ratio.median.toFixed(2)} (${ratio.min.toFixed(2)}–${ratio.max.toFixed(2)})`;
  return (
    `${device}, values of ${valueBytes} bytes, ${(fileBytes / MiB).toFixed(0)} MiB: ` +
    `read ${read.median.toFixed(0)} MiB/s, scan ${scan.median.toFixed(0)} MiB/s, ratio ${range}; goal ${goal}: ${met ? 'met' : 'NOT met'}`
  );
}

async function main(args: string[]): Promise<number> {
  const options = readOptions(args, parseOptions, help);
  if (typeof options === 'number') return options;
  const reason = unavailableReason() ?? (options.deviceMiBs > 0 ? SlowDisk.unavailableReason() : undefined);
  if (reason !== undefined) {
    console.error(`bench:scan cannot run here: ${reason}`);
    return 2;
  }
  try {
    await run(options);
    return 0;
  } catch (error) {
    console.error(`bench:scan: ${(error as Error).message}`);
    return 1;
  }
}

async function run(options: ScanOptions): Promise<void> {
  const { memoryMiB, times, rounds, deviceMiBs } = options;
  const circumstances = describeCircumstances();
  const load = circumstances.machine.load[0]?.toFixed(1);
  console.log(`${memoryMiB} MiB of memory, stores of ${times} times as much, ${rounds} rounds, load ${load}`);
  const directory = await mkdtemp(path.join(options.directory, 'faultless-bench-scan-'));
  const scans = new Scans(options);
  const stop = (): void => {
    scans.stop();
    rmSync(directory, { recursive: true, force: true });
  };
  const rows: Row[] = [];
  let disk: SlowDisk | undefined;
  try {
    if (deviceMiBs > 0) {
      const sizeMiB = Math.ceil(memoryMiB * times * 3) + 64;
      disk = await SlowDisk.create({ sizeMiB, mebibytesPerSecond: deviceMiBs, readAheadKiB: 1024 });
    }
    // Before the rig's own, which ends this process.
    for (const signal of endSignals) process.prependListener(signal, stop);
    for (const valueBytes of [128, 1_500]) {
      const filled = await scans.fill(directory, valueBytes);
      rows.push(await scans.measure(filled, directory, options.directory));
      console.log(format(rows.at(-1) as Row));
      if (disk !== undefined) {
        rows.push(await scans.measure(filled, disk.directory, `a device of ${deviceMiBs} MiB/s`));
        console.log(format(rows.at(-1) as Row));
      }
      await rm(path.join(directory, filled.name));
    }
  } finally {
    for (const signal of endSignals) process.off(signal, stop);
    stop();
    await disk?.destroy();
  }
  const settings = { memoryMiB, times, rounds, deviceMiBs };
  const file = await writeResults(options.results, 'scan', { circumstances, options: settings, rows });
  console.log(`all figures in ${file}`);
}

process.exitCode = await main(process.argv.slice(2));
