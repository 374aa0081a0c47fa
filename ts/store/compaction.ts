import { addon } from '../addon.js';
import type { LongWork } from '../options.js';
import { runSteps } from './long-work.js';
import type { StoreHandle } from './native.js';

/** Gives back what no live record needs. */
export async function compact(handle: StoreHandle, work: LongWork): Promise<{ freedBytes: number }> {
  const compaction = addon.storeCompaction(handle);
  const { freedBytes = 0 } = await runSteps(() => addon.storeCompactStep(compaction), work);
  return { freedBytes };
}
