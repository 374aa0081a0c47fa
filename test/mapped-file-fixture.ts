// What the suites of MappedFile share: a directory of their own, errors by code, child processes.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { type ErrorCode, FaultlessError } from 'faultless';

/** A directory that is gone after the suite. */
export const directory: string = mkdtempSync(join(tmpdir(), 'faultless-map-'));
after(() => rmSync(directory, { recursive: true, force: true }));

/** False where AddressSanitizer is preloaded (test:asan-addon): its mlock does nothing, and reports success. */
export const locksMemory: boolean = !process.env.LD_PRELOAD?.includes('libasan');

let files = 0;

/** The path of a new file with this content; undefined: there is no file yet. */
export function newFile(content?: string | Uint8Array): string {
  const path = join(directory, `file-${files++}`);
  if (content !== undefined) writeFileSync(path, content);
  return path;
}

/** Bytes without a short period, so that a wrong position shows. */
export function pattern(size: number): Buffer {
  const bytes = Buffer.allocUnsafe(size);
  for (let i = 0; i < size; i++) bytes[i] = (i * 7 + Math.floor(i / 251)) & 0xff;
  return bytes;
}

/** Values that are wrong on purpose. */
export const wrong = (value: unknown): never => value as never;

function checkError(error: unknown, code: ErrorCode, kind: typeof Error): true {
  assert.ok(error instanceof FaultlessError, `not a FaultlessError: ${error}`);
  assert.equal(error.code, code);
  assert.ok(error instanceof kind, `not a ${kind.name}`);
  return true;
}

/** The promise rejects with a FaultlessError of this code. */
export function rejects(promise: Promise<unknown>, code: ErrorCode, kind: typeof Error = Error): Promise<void> {
  return assert.rejects(promise, (error) => checkError(error, code, kind));
}

/** The call throws a FaultlessError of this code. */
export function throws(call: () => unknown, code: ErrorCode, kind: typeof Error = Error): void {
  assert.throws(call, (error) => checkError(error, code, kind));
}

export interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  output: string;
}

/**
 * Runs an ES module given as text in a Node of its own, with these arguments in process.argv from [1] on. `shell`: what a
 * shell does first, for limits.
 */
export function runScript(
  text: string,
  args: readonly string[] = [],
  flags: readonly string[] = [],
  shell = ':',
): Promise<Ended> {
  const node = [process.execPath, ...flags, '--input-type=module', '--eval', text, '--', ...args];
  const child = spawn('/bin/sh', ['-c', `${shell} && exec "$0" "$@"`, ...node], {
    cwd: import.meta.dirname,
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 60_000,
    killSignal: 'SIGKILL',
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (piece) => {
      output += piece;
    });
  }
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, output }));
  });
}

/** The script ends by itself with this exit code, by no signal; answers what it printed. */
export async function endsWith(
  expected: number,
  text: string,
  args?: readonly string[],
  flags?: readonly string[],
  shell?: string,
): Promise<string> {
  const { code, signal, output } = await runScript(text, args, flags, shell);
  assert.deepEqual({ code, signal }, { code: expected, signal: null }, output);
  return output;
}
