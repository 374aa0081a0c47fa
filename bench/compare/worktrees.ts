/** A commit, built in a work tree of its own, with the benchmarks of this checkout. */
import { cpSync, existsSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { run } from '../../test/rig/commands.js';
import { root } from '../root.js';

const buildMs = 30 * 60_000;

// A checkout may belong to another user, as it does in containers.
const git = (...args: string[]): Promise<string> =>
  run('git', ['-C', root, '-c', 'safe.directory=*', ...args], buildMs);

/** The commit's whole name. Rejects where there is none of this name. */
export async function resolveCommit(name: string): Promise<string> {
  try {
    return (await git('rev-parse', '--verify', '--quiet', '--end-of-options', `${name}^{commit}`)).trim();
  } catch (error) {
    throw new Error(`no commit ${name}`, { cause: error });
  }
}

export class Worktree {
  readonly commit: string;
  readonly #directory: string;

  /** In a directory that is not there yet. */
  constructor(commit: string, directory: string) {
    this.commit = commit;
    this.#directory = directory;
  }

  /**
   * Compiles the commit's addon and TypeScript. What measures is copied: both commits do the same work, by the package that
   * they find above themselves. Installs packages only where the commit wants others than this checkout has.
   */
  async build(): Promise<void> {
    await git('worktree', 'add', '--quiet', '--detach', this.#directory, this.commit);
    const lock = (directory: string): string => readFileSync(path.join(directory, 'package-lock.json'), 'utf8');
    if (lock(this.#directory) === lock(root)) {
      symlinkSync(path.join(root, 'node_modules'), path.join(this.#directory, 'node_modules'));
    } else {
      await this.#npm('ci', '--ignore-scripts', '--no-audit', '--no-fund');
    }
    await this.#npm('run', 'build');
    for (const part of ['build/bench', 'build/test/rig']) {
      const to = path.join(this.#directory, part);
      mkdirSync(path.dirname(to), { recursive: true });
      const isProgram = (file: string): boolean => !file.startsWith(path.join(root, 'build/bench/results'));
      cpSync(path.join(root, part), to, { recursive: true, filter: isProgram });
    }
  }

  /** What the processes of a round run. */
  get program(): URL {
    return pathToFileURL(path.join(this.#directory, 'build/bench/child.js'));
  }

  async remove(): Promise<void> {
    if (existsSync(this.#directory)) await git('worktree', 'remove', '--force', this.#directory);
  }

  async #npm(...args: string[]): Promise<void> {
    // npm run tells which npm it is.
    const script = process.env.npm_execpath;
    const [command, ...first] = script?.endsWith('.js') ? [process.execPath, script] : ['npm'];
    await run(command as string, [...first, '--prefix', this.#directory, ...args], buildMs);
  }
}
