import { recovering } from './diagnostics.js';
import type { StoreOptions } from './store-options.js';

/** Tells a caller, until it throws or has aborted, and node:diagnostics_channel how a recovery goes on. */
export class Progress {
  readonly #options: StoreOptions;
  readonly #location: string;
  #thrown: { reason: unknown } | undefined;

  /** location: as Store.location. */
  constructor(options: StoreOptions, location: string) {
    this.#options = options;
    this.#location = location;
  }

  get isWanted(): boolean {
    return this.#options.onProgress !== undefined || recovering.isHeard;
  }

  /** Never throws: the native part calls it. */
  readonly report = (done: number, total: number): void => {
    if (recovering.isHeard) recovering.publish({ location: this.#location, done, total });
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
