import type { Operation } from './operation.js';

/** Listens to the signals of operations under way: once per signal, however many operations share it. */
export class Aborts {
  readonly #abort: (operation: Operation, reason: unknown) => void;
  readonly #listening = new Map<AbortSignal, { operations: Set<Operation>; listener: () => void }>();

  constructor(abort: (operation: Operation, reason: unknown) => void) {
    this.#abort = abort;
  }

  /** Until `operation.unlisten` is called. */
  listen(operation: Operation, signal: AbortSignal): void {
    let entry = this.#listening.get(signal);
    if (entry === undefined) {
      const operations = new Set<Operation>();
      const listener = (): void => {
        this.#listening.delete(signal);
        for (const aborted of operations) this.#abort(aborted, signal.reason);
      };
      signal.addEventListener('abort', listener, { once: true });
      entry = { operations, listener };
      this.#listening.set(signal, entry);
    }
    const { operations, listener } = entry;
    operations.add(operation);
    operation.unlisten = () => {
      operations.delete(operation);
      if (operations.size > 0 || this.#listening.get(signal)?.operations !== operations) return;
      this.#listening.delete(signal);
      signal.removeEventListener('abort', listener);
    };
  }
}
