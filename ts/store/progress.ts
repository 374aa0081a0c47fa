import type { StoreOptions } from './store-options.js';

/** Tells a caller how a recovery goes on, until it throws or has aborted. */
export class Progress {
  readonly #options: StoreOptions;
  #thrown: { reason: unknown } | undefined;

  constructor(options: StoreOptions) {
    this.#options = options;
  }

  /** Never throws: the native part calls it. */
  readonly report = (done: number, total: number): void => {
    if (this.#thrown !== undefined || this.#options.signal?.aborted) return;
    try {
      this.#options.onProgress?.(done, total);
    } catch (reason) {
      this.#thrown = { reason };
    }
  };

  /** What the caller threw. */
  get thrown(): { reason: unknown } | undefined {
    return this.#thrown;
  }
}
