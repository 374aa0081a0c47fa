import { execFile } from 'node:child_process';
import { existsSync, realpathSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';

const execute = promisify(execFile);

export interface Output {
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end; rejects, with all that it printed, unless it exits with 0. */
export async function runProgram(
  program: string,
  args: readonly string[],
  options: { cwd: string; env?: NodeJS.ProcessEnv; timeoutMs?: number },
): Promise<Output> {
  const { cwd, env = process.env, timeoutMs = 300_000 } = options;
  try {
    return await execute(program, args, { cwd, env, timeout: timeoutMs, maxBuffer: 64 * 1024 * 1024 });
  } catch (error) {
    const { message, stdout, stderr } = error as Error & Output;
    throw new Error(`${message}\n${stdout}\n${stderr}`, { cause: error });
  }
}

/** The script that is npm: what runs this test, or else the one in PATH. */
export function npmScript(): string {
  if (process.env.npm_execpath) return process.env.npm_execpath;
  for (const directory of (process.env.PATH ?? '').split(delimiter)) {
    const candidate = join(directory, 'npm');
    if (existsSync(candidate)) return realpathSync(candidate);
  }
  throw new Error('npm is not in PATH');
}
