import { onAbort } from '../abort.js';
import { addon } from '../addon.js';
import { callNative, fromNative } from '../errors.js';

/** The native waits of one object that are not over: they reject when it closes. */
export class PendingWaits {
  readonly #ids = new Set<number>();

  /**
   * Starts a native wait and answers its outcome. With a signal: rejects at once with its reason when it aborts, and nothing is
   * waited for any more.
   */
  run<T>(start: () => T | Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    let outcome: T | Promise<T>;
    try {
      outcome = callNative(start);
    } catch (error) {
      return Promise.reject(error);
    }
    if (!(outcome instanceof Promise)) return Promise.resolve(outcome);
    const waited = outcome;
    const id = addon.ipcLastWait();
    this.#ids.add(id);
    return new Promise((resolve, reject) => {
      const forget =
        signal &&
        onAbort(signal, () => {
          if (addon.ipcCancelWait(id, false)) reject(signal.reason);
        });
      const over = () => {
        this.#ids.delete(id);
        forget?.();
      };
      waited.then(
        (value) => {
          over();
          resolve(value);
        },
        (thrown: unknown) => {
          over();
          // After an abort: the promise has its reason already.
          reject(fromNative(thrown));
        },
      );
    });
  }

  /** All of them reject with ERR_CLOSED, but for those that are over and have only not been told. */
  close(): void {
    for (const id of this.#ids) addon.ipcCancelWait(id, true);
  }
}
