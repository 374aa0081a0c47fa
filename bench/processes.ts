/** Processes that measure: each does one task and ends. */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/**
 * What a child tells: `paused`, that it waits for 'go'; and at last an answer of its task, or an error. `refused`: the
 * machine does not allow what the task needs.
 */
export type FromChild = { paused: true } | { answer: unknown } | { error: string; refused: boolean };

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
  readonly pid: number;
  /** Resolves once it waits for go(), for the first time or again. Rejects where it ends before. */
  paused(): Promise<void>;
  /** Resolves once the process has ended. Rejects where its task failed. */
  readonly answer: Promise<unknown>;
  go(): void;
  /** Ends it, and its helper with it. */
  kill(): void;
}

export interface ChildOptions {
  /** For messages. */
  name: string;
  /** Added to this process's environment. */
  env?: Record<string, string>;
  /** Of Node itself. */
  execArgv?: string[];
}

/** Starts the script, which answers by answerParent(). */
export function startChild(script: URL, task: object, { name, env = {}, execArgv = [] }: ChildOptions): RunningChild {
  const child = fork(fileURLToPath(script), [JSON.stringify(task)], {
    execArgv,
    serialization: 'advanced',
    env: { ...process.env, ...env },
  });
  let last: FromChild | undefined;
  let pauses = 0;
  let notify: (() => void) | undefined;
  const answer = new Promise<unknown>((resolve, reject) => {
    child.on('error', reject);
    child.on('message', (message: FromChild) => {
      last = message;
      if ('paused' in message) pauses++;
      notify?.();
    });
    child.on('close', (code, signal) => {
      if (last !== undefined && 'answer' in last && code === 0) resolve(last.answer);
      else if (last !== undefined && 'error' in last) reject(new TaskError(last.error, last.refused));
      else reject(new Error(`the process of ${name} ended by ${signal ?? `exit code ${code}`}`));
    });
  });
  answer.catch(() => {}); // Whoever waits for paused() alone hears of it there.
  const ended = answer.then(() => {
    throw new Error(`the process of ${name} ended without waiting`);
  });
  ended.catch(() => {});
  const paused = async (): Promise<void> => {
    while (pauses === 0) {
      const told = new Promise<void>((resolve) => {
        notify = resolve;
      });
      await Promise.race([told, ended]);
    }
    pauses--;
  };
  return {
    pid: child.pid ?? 0,
    paused,
    answer,
    go: () => void child.send('go'),
    kill: () => void child.kill('SIGKILL'),
  };
}
