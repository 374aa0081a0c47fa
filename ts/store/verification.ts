import { addon } from '../addon.js';
import type { LongWork } from '../options.js';
import { runSteps } from './long-work.js';
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

/** Looks through the whole store. */
export async function verify(handle: StoreHandle, work: LongWork): Promise<VerifyReport> {
  const verification = addon.storeVerification(handle);
  const { records = 0, bytes = 0, damaged = [] } = await runSteps(() => addon.storeVerifyStep(verification), work);
  const places: VerifyReport['damaged'] = [];
  for (let i = 0; i < damaged.length; i += 2) {
    places.push({ offset: damaged[i] as number, reason: damaged[i + 1] as string });
  }
  return { records, bytes, damaged: places };
}
