import { addon } from '../addon.js';
import { checkOptions, checkSignal, wrongType } from '../arguments.js';
import { runJob } from '../jobs.js';
import type { LongWork } from '../options.js';
import type { StoreHandle } from './native.js';

/** What Store.verify() found. */
export interface VerifyReport {
  /** Records that were read, dead ones that are not yet cleaned away included. */
  records: number;
  /** Bytes of these records and of large values. */
  bytes: number;
  /** What is damaged, by place in the file (bytes), each place once; 10,000 places at most. Empty: all is sound. */
  damaged: { offset: number; reason: string }[];
}

/** Throws where the options of long work are none. */
export function checkLongWork(options: LongWork | undefined): LongWork {
  checkOptions(options);
  checkSignal(options?.signal);
  const { onProgress } = options ?? {};
  if (onProgress !== undefined && typeof onProgress !== 'function') throw wrongType('onProgress', 'a function');
  return options ?? {};
}

/** Looks through the whole store, one step after another: between them the signal counts and progress is told. */
export async function verify(handle: StoreHandle, { signal, onProgress }: LongWork): Promise<VerifyReport> {
  const verification = addon.storeVerification(handle);
  while (true) {
    const { done, total, records, bytes, damaged } = await runJob(() => addon.storeVerifyStep(verification), signal);
    onProgress?.(done, total);
    signal?.throwIfAborted();
    if (records === undefined || bytes === undefined || damaged === undefined) continue;
    const places: VerifyReport['damaged'] = [];
    for (let i = 0; i < damaged.length; i += 2) {
      places.push({ offset: damaged[i] as number, reason: damaged[i + 1] as string });
    }
    return { records, bytes, damaged: places };
  }
}
