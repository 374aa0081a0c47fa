/** Processes that measure: each does one task and ends. */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { FromChild, Task } from './messages.js';

const program = fileURLToPath(new URL('./child.js', import.meta.url));

/** What a task failed with. */
export class TaskError extends Error {
  /** The machine does not allow it: no fault of anybody. */
  readonly refused: boolean;

  constructor(message: string, refused: boolean) {
    super(message);
    this.refused = refused;
  }
}

export interface RunningChild {
  /** Of a helper: it waits for go(). Rejects where it fails before. */
  readonly ready: Promise<void>;
  /** Resolves once the process has ended. Rejects where its task failed. */
  readonly answer: Promise<unknown>;
  go(): void;
  /** Ends it, and its helper with it. */
  kill(): void;
}

export function startChild(task: Task): RunningChild {
  const child = fork(program, [JSON.stringify(task)], { execArgv: [], serialization: 'advanced' });
  let last: FromChild | undefined;
  const answer = new Promise<unknown>((resolve, reject) => {
    child.on('error', reject);
    child.on('message', (message: FromChild) => {
      last = message;
    });
    child.on('close', (code, signal) => {
      if (last !== undefined && 'answer' in last && code === 0) resolve(last.answer);
      else if (last !== undefined && 'error' in last) reject(new TaskError(last.error, last.refused));
      else
        reject(new Error(`the process of ${task.work} with ${task.system} ended by ${signal ?? `exit code ${code}`}`));
    });
  });
  answer.catch(() => {}); // Whoever waits for `ready` alone hears of it there.
  const ready = new Promise<void>((resolve, reject) => {
    child.on('message', (message: FromChild) => {
      if ('ready' in message) resolve();
    });
    answer.then(() => reject(new Error('the process ended without being ready')), reject);
  });
  ready.catch(() => {});
  return { ready, answer, go: () => void child.send('go'), kill: () => void child.kill('SIGKILL') };
}
