import { onAbort } from './abort.js';
import { addon } from './addon.js';
import { fromNative } from './errors.js';

/**
 * Starts a native job and answers its outcome; failures are FaultlessErrors.
 *
 * With a signal: rejects at once with its reason when it aborts. A job that still waits for a thread is removed, one
 * that runs is left to finish; what it then resolves to goes to `discard`.
 */
export function runJob<T>(
  start: () => Promise<T>,
  signal?: AbortSignal | undefined,
  discard?: ((value: T) => void) | undefined,
): Promise<T> {
  if (signal === undefined) return start().catch(rethrow);
  if (signal.aborted) return Promise.reject(signal.reason);
  const outcome = start();
  const id = addon.lastJobId();
  return new Promise((resolve, reject) => {
    let aborted = false;
    const forget = onAbort(signal, () => {
      aborted = true;
      addon.cancelJob(id);
      reject(signal.reason);
    });
    outcome.then(
      (value) => {
        forget();
        if (aborted) discard?.(value);
        resolve(value);
      },
      (thrown: unknown) => {
        forget();
        reject(fromNative(thrown));
      },
    );
  });
}

function rethrow(thrown: unknown): never {
  throw fromNative(thrown);
}
