import { addon } from '../addon.js';
import { runJob } from '../jobs.js';
import type { LongWork } from '../options.js';
import { runSteps } from './long-work.js';
import type { StoreHandle } from './native.js';

/** Copies the store to a file that has no name before all of it is there. */
export async function backup(handle: StoreHandle, path: string, work: LongWork): Promise<void> {
  const copy = addon.storeBackup(handle, path);
  try {
    await runSteps(() => addon.storeBackupStep(copy), work);
  } catch (error) {
    const removal = runJob(() => addon.storeBackupEnd(copy, false)).catch(() => {});
    // An abort does not wait for the step that still runs.
    if (!work.signal?.aborted) await removal;
    throw error;
  }
  await runJob(() => addon.storeBackupEnd(copy, true));
}
