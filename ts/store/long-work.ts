import { checkOptions, checkSignal, wrongType } from '../arguments.js';
import { runJob } from '../jobs.js';
import type { LongWork } from '../options.js';
import type { WorkStep } from './native.js';

/** Throws where the options of long work are none. */
export function checkLongWork(options: LongWork | undefined): LongWork {
  checkOptions(options);
  checkSignal(options?.signal);
  const { onProgress } = options ?? {};
  if (onProgress !== undefined && typeof onProgress !== 'function') throw wrongType('onProgress', 'a function');
  return options ?? {};
}

/** One step after another, to the last one: between them the signal counts and progress is told. */
export async function runSteps<T extends WorkStep>(step: () => Promise<T>, work: LongWork): Promise<T> {
  const { signal, onProgress } = work;
  while (true) {
    const stepped = await runJob(step, signal);
    onProgress?.(stepped.done, stepped.total);
    signal?.throwIfAborted();
    if (stepped.over) return stepped;
  }
}
