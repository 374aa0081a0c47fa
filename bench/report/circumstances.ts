/** Where and with what it was measured. */
import { execFileSync } from 'node:child_process';
import { cpus, loadavg, release, totalmem, type } from 'node:os';
import { version } from 'faultless';
import { peerNames, peerVersion } from '../peers.js';
import { root } from '../root.js';

export interface Circumstances {
  date: string;
  /** Of the checkout; undefined where it is none. `modified`: with changes that are not committed. */
  commit: string | undefined;
  modified: boolean | undefined;
  machine: { system: string; processor: string; processors: number; memoryBytes: number; load: number[] };
  versions: Record<string, string | undefined>;
  /** libuv's threads. */
  threads: number;
}

export function describeCircumstances(): Circumstances {
  const processors = cpus();
  const { node, v8, uv } = process.versions;
  const status = git('status', '--porcelain');
  return {
    date: new Date().toISOString(),
    commit: git('rev-parse', 'HEAD')?.trim(),
    modified: status === undefined ? undefined : status !== '',
    machine: {
      system: `${type()} ${release()}`,
      processor: processors[0]?.model ?? 'unknown',
      processors: processors.length,
      memoryBytes: totalmem(),
      load: loadavg(),
    },
    versions: {
      faultless: version,
      node,
      v8,
      uv,
      ...Object.fromEntries(peerNames.map((name) => [name, peerVersion(name)])),
    },
    threads: Number(process.env.UV_THREADPOOL_SIZE ?? 4),
  };
}

function git(...args: string[]): string | undefined {
  try {
    // A checkout may belong to another user, as it does in containers.
    return execFileSync('git', ['-c', 'safe.directory=*', ...args], {
      cwd: root,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
  } catch {
    return undefined;
  }
}
