import { addon } from '../addon.js';
import type { LongWork } from '../options.js';
import { compacting } from './diagnostics.js';
import { runSteps } from './long-work.js';
import type { StoreHandle } from './native.js';

/** Gives back what no live record needs. */
export async function compact(
  handle: StoreHandle,
  location: string,
  { signal, onProgress }: LongWork,
): Promise<{ freedBytes: number }> {
  const compaction = addon.storeCompaction(handle);
  const { freedBytes = 0 } = await runSteps(() => addon.storeCompactStep(compaction), {
    ...(signal && { signal }),
    onProgress(done, total) {
      if (compacting.isHeard) compacting.publish({ location, done, total });
      onProgress?.(done, total);
    },
  });
  return { freedBytes };
}
