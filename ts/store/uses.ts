import { addon } from '../addon.js';
import { runJob } from '../jobs.js';
import type { StoreHandle } from './native.js';

/** Tags that can wait at a time: a later one may take the place of an earlier one, which costs a note of use. */
const places = 4096;
const carryEveryMs = 25;

/**
 * Uses of values that the event loop has answered, of a store that evicts: it never stores to the file, so they are
 * noted in memory, here those of hot copies and in the native part those of tryGet, and carried over by a libuv thread
 * a moment later. A note that is lost does no harm.
 */
export class Uses {
  readonly #handle: StoreHandle;
  readonly #track: (carry: () => Promise<void>) => Promise<void>;
  #tags = new Uint32Array(places);
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  /** undefined where uses do not count. `track` runs what close() must wait for. */
  static create(handle: StoreHandle, track: (carry: () => Promise<void>) => Promise<void>): Uses | undefined {
    return addon.storeCountsUses(handle) ? new Uses(handle, track) : undefined;
  }

  private constructor(handle: StoreHandle, track: (carry: () => Promise<void>) => Promise<void>) {
    this.#handle = handle;
    this.#track = track;
  }

  /** A hot copy of a value whose key has this tag has been answered. */
  note(tag: number): void {
    const place = tag & (places - 1);
    if (this.#tags[place] === tag) return;
    this.#tags[place] = tag;
    this.wake();
  }

  /** There is something to be carried over. */
  wake(): void {
    if (this.#timer !== undefined || this.#closed) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (this.#closed) return;
      const tags = this.#tags.filter((tag) => tag !== 0);
      this.#tags.fill(0);
      // What fails here fails elsewhere, too, where somebody waits for it.
      this.#track(() => runJob(() => addon.storeCarryUses(this.#handle, tags))).catch(() => {});
    }, carryEveryMs);
    // What the program does is over without it.
    this.#timer.unref();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
