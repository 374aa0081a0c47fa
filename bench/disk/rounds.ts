/** The rounds on the slow disk. */
import { loadavg } from 'node:os';
import path from 'node:path';
import { run } from '../../test/rig/commands.js';
import type { SlowDisk } from '../../test/rig/slow-disk.js';
import { type RunningChild, startChild } from '../processes.js';
import type { LoopReport } from './loop-monitor.js';
import type { DiskOptions } from './options.js';
import { type DiskAnswer, type DiskTask, type IdleAnswer, idle, type Subject } from './subjects.js';

const program = new URL('./child.js', import.meta.url);

/** What a subject did in one round. */
export interface Performance extends DiskAnswer {
  /** An idle process on the same machine at the same time. */
  idle: LoopReport;
  /** Requests that the disk completed meanwhile. */
  deviceReads: number;
  load: number;
}

export class Rounds {
  readonly #options: DiskOptions;
  readonly #disk: SlowDisk;
  readonly #near: string;
  readonly #children = new Set<RunningChild>();
  #stopped = false;

  /** Stores are made in `near`, a directory of this run. */
  constructor(options: DiskOptions, disk: SlowDisk, near: string) {
    this.#options = options;
    this.#disk = disk;
    this.#near = near;
  }

  /** Makes what the subject reads, here and on the disk. */
  async fill(subject: Subject): Promise<void> {
    await this.#start('fill', subject, 0).answer;
    const name = nameOf(subject);
    const [from, to] = [path.join(this.#near, name), path.join(this.#disk.directory, name)];
    await run('cp', ['--recursive', '--sparse=always', from, to], 600_000);
  }

  async measure(subject: Subject, round: number): Promise<Performance> {
    const watcher = this.#start('measure', idle, round);
    const child = this.#start('measure', subject, round);
    // Both have loaded what they need: what is loaded now is gone in a moment.
    await Promise.all([watcher.paused(), child.paused()]);
    await this.#disk.dropCaches();
    child.go();
    await child.paused();
    const before = this.#disk.statistics().reads;
    watcher.go();
    child.go();
    const answer = (await child.answer) as DiskAnswer;
    const deviceReads = this.#disk.statistics().reads - before;
    await watcher.paused();
    watcher.go();
    const { loop } = (await watcher.answer) as IdleAnswer;
    return { ...answer, idle: loop, deviceReads, load: loadavg()[0] as number };
  }

  /** Ends what is under way. */
  stop(): void {
    this.#stopped = true;
    for (const child of this.#children) child.kill();
  }

  #start(what: DiskTask['what'], subject: Subject, seed: number): RunningChild {
    if (this.#stopped) throw new Error('stopped');
    const { keys, pages, reads, seconds } = this.#options;
    const [near, far] = [this.#near, this.#disk.directory];
    const task: DiskTask = {
      ...{ what, subject, near, far, name: subject.kind === 'idle' ? '' : nameOf(subject) },
      ...{ keys, pages, reads, seconds, seed },
    };
    const env = { UV_THREADPOOL_SIZE: String(subject.threads ?? 4) };
    const child = startChild(program, task, { name: subject.name, env });
    this.#children.add(child);
    const remove = (): void => void this.#children.delete(child);
    child.answer.then(remove, remove);
    return child;
  }
}

/** Subjects that read the same file share it. */
export function nameOf({ kind, system }: Subject): string {
  return kind === 'pages' ? 'pages' : `store-${system}`;
}
