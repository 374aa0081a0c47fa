/** A control group of its own for processes that are to have little memory, page cache included. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const mount = '/sys/fs/cgroup';
/** The process that made the group follows. */
const prefix = 'faultless-bench-';

interface Version {
  readonly name: string;
  /** Where groups with a memory controller are made. */
  readonly parent: string;
  readonly limit: string;
  readonly peak: string;
}

const versions: readonly Version[] = [
  { name: 'cgroup v2', parent: mount, limit: 'memory.max', peak: 'memory.peak' },
  {
    name: 'cgroup v1',
    parent: path.join(mount, 'memory'),
    limit: 'memory.limit_in_bytes',
    peak: 'memory.max_usage_in_bytes',
  },
];

export class MemoryLimit {
  readonly name: string;
  readonly #directory: string;
  readonly #version: Version;

  private constructor(directory: string, version: Version) {
    this.name = version.name;
    this.#directory = directory;
    this.#version = version;
  }

  /** Throws an Error that says why there can be none here. */
  static create(bytes: number): MemoryLimit {
    const reasons: string[] = [];
    for (const version of versions) {
      const directory = path.join(version.parent, `${prefix}${process.pid}`);
      try {
        removeLeftovers(version.parent);
        mkdirSync(directory);
      } catch (error) {
        reasons.push(`${version.name}: ${(error as Error).message}`);
        continue;
      }
      try {
        // Elsewhere than in a hierarchy with a memory controller this would be a directory like any other.
        if (!existsSync(path.join(directory, version.limit))) throw new Error(`no ${version.limit}`);
        writeFileSync(path.join(directory, version.limit), String(bytes));
        return new MemoryLimit(directory, version);
      } catch (error) {
        rmdirSync(directory);
        reasons.push(`${version.name}: ${(error as Error).message}`);
      }
    }
    throw new Error(`memory cannot be limited here (${reasons.join('; ')})`);
  }

  /** Has the process, and what it starts, live within the limit. What it has already stays where it is counted. */
  add(pid: number): void {
    writeFileSync(path.join(this.#directory, 'cgroup.procs'), String(pid));
  }

  /** The most that was used so far, in bytes; undefined where this kernel does not tell. */
  peakBytes(): number | undefined {
    const file = path.join(this.#directory, this.#version.peak);
    return existsSync(file) ? Number(readFileSync(file, 'utf8')) : undefined;
  }

  /** Its processes have ended. */
  async remove(): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        rmdirSync(this.#directory);
        return;
      } catch (error) {
        // The kernel notices the end of a process a little later.
        if (attempt === 20) throw error;
        await sleep(100);
      }
    }
  }
}

/** Of processes that were ended before they could do it. */
function removeLeftovers(parent: string): void {
  for (const name of readdirSync(parent)) {
    if (!name.startsWith(prefix) || existsSync(`/proc/${name.slice(prefix.length)}`)) continue;
    try {
      rmdirSync(path.join(parent, name));
    } catch {
      // Somebody else was faster, or something in it still runs.
    }
  }
}
