// Runs system tools without ever waiting for one that cannot die, and without libuv's threadpool: with a paused disk all
// of its threads may be taken.
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';

export class CommandError extends Error {}

/** Tools of the administrator are not in everybody's PATH. */
export const toolPath = `${process.env.PATH ?? ''}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin`;

/**
 * Resolves with what the command wrote to stdout once it has exited with 0. Rejects (CommandError) otherwise, also when
 * `timeoutMs` is over: a process that waits for a device cannot be killed and is left behind, to die when the device
 * answers.
 */
export function run(command: string, args: readonly string[], timeoutMs = 60_000): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      env: { ...process.env, PATH: toolPath, LC_ALL: 'C' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    const fail = (what: string) => reject(new CommandError(`${[command, ...args].join(' ')}: ${what}\n${stderr}`));
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      child.stdout.destroy();
      child.stderr.destroy();
      child.unref();
      fail(`no end after ${timeoutMs} ms`);
    }, timeoutMs);
    child.once('error', (error) => {
      clearTimeout(timer);
      fail(error.message);
    });
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      if (code === 0) resolve(stdout);
      else fail(`ended with ${code ?? signal}`);
    });
  });
}

/** Resolves with true as soon as `condition` holds, with false if it does not within `timeoutMs`. */
export async function holdsWithin(timeoutMs: number, condition: () => boolean): Promise<boolean> {
  const end = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > end) return false;
    await sleep(10);
  }
  return true;
}
