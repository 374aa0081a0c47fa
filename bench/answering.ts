/** The child's side of processes.ts. */
import { once } from 'node:events';
import type { FromChild } from './processes.js';

/** Performs the task that the process was started with, and tells the parent what came of it. */
export async function answerParent<T>(perform: (task: T) => Promise<unknown>): Promise<void> {
  process.on('disconnect', () => process.exit(1)); // the parent is gone
  tell(await perform(JSON.parse(process.argv[2] ?? '')).then(toAnswer, toError));
  process.removeAllListeners('disconnect');
  process.disconnect?.();
}

/** Tells the parent that it waits, and goes on when the parent says so. */
export async function waitForGo(): Promise<void> {
  const go = once(process, 'message');
  tell({ paused: true });
  await go;
}

function tell(message: FromChild): void {
  process.send?.(message);
}

function toAnswer(answer: unknown): FromChild {
  return { answer };
}

function toError(error: unknown): FromChild {
  const refused = (error as { code?: unknown } | undefined)?.code === 'ERR_MEMLOCK';
  return { error: error instanceof Error ? (error.stack ?? error.message) : String(error), refused };
}
