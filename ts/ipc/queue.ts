import { onAbort } from '../abort.js';
import { addon } from '../addon.js';
import { checkInteger, checkOptions, checkSignal, wrongType } from '../arguments.js';
import { callNative, FaultlessError, newError } from '../errors.js';
import type { ReadOptions } from '../options.js';
import type { ExchangeHandle } from './native.js';
import { PendingWaits } from './pending-waits.js';

/** While a stopped process keeps the queue's lock, take() tries again so often. */
const busyPauseMs = 50;
/** Elements that one pull takes for calls of take() that wait. */
const mostAtOnce = 64;

interface Taker {
  resolve(id: number): void;
  reject(reason: unknown): void;
}

/**
 * A named queue of an {@link Exchange}: numbers of elements, first in, first out, for any number of processes. What one process pushes
 * is pulled in that order.
 *
 * push and pull take some 100 ns; they wait for nothing but a process that is in the middle of the same, and give up after 0.1 s with
 * ERR_BUSY where that one has been stopped there. One that was killed there holds up nobody.
 */
export class Queue implements AsyncIterable<number> {
  /** In its exchange. */
  readonly name: string;
  readonly #handle: ExchangeHandle;
  readonly #index: number;
  readonly #elements: number;
  readonly #waits = new PendingWaits();
  /** In the order of the calls of take(). */
  readonly #takers = new Set<Taker>();
  #pump: AbortController | undefined;
  #closed = false;

  /** @internal */
  constructor(handle: ExchangeHandle, index: number, name: string, elements: number) {
    this.#handle = handle;
    this.#index = index;
    this.name = name;
    this.#elements = elements;
  }

  /**
   * Puts an element that this exchange has pulled, and so holds, at the end. From then on it is not this process's to write to.
   * false where the queue is full: that cannot be, as each queue has room for all elements.
   *
   * ERR_CLOSED; ERR_INVALID_ARG_VALUE where the element is not held; ERR_OUT_OF_RANGE, ERR_INVALID_ARG_TYPE, ERR_BUSY.
   */
  push(id: number): boolean {
    this.#checkOpen();
    checkInteger('id', id, 0, this.#elements - 1);
    callNative(() => addon.queuePush(this.#handle, this.#index, id));
    return true;
  }

  /** Takes the oldest element, which this exchange holds from then on; undefined where there is none. ERR_CLOSED, ERR_BUSY. */
  pull(): number | undefined {
    this.#checkOpen();
    const id = callNative(() => addon.queuePull(this.#handle, this.#index));
    return id < 0 ? undefined : id;
  }

  /** push() of all or none, in their order; answers how many that were. The errors of push(). */
  pushMany(ids: Uint32Array): number {
    this.#checkOpen();
    checkIds('ids', ids);
    callNative(() => addon.queuePushMany(this.#handle, this.#index, ids));
    return ids.length;
  }

  /** pull() of up to as many as `into` has room for; answers how many that were. */
  pullMany(into: Uint32Array): number {
    this.#checkOpen();
    checkIds('into', into);
    return callNative(() => addon.queuePullMany(this.#handle, this.#index, into));
  }

  /**
   * Takes the oldest element, and waits for one where there is none: asleep, without a thread of libuv's. Calls are served in their
   * order. A pending one keeps the process alive. Rejects with ERR_CLOSED when the exchange is closed, or with the signal's reason.
   */
  async take(options: ReadOptions = {}): Promise<number> {
    checkOptions(options);
    const signal = checkSignal(options.signal);
    signal?.throwIfAborted();
    this.#checkOpen();
    if (this.#takers.size === 0) {
      const id = this.#tryPull(1)[0];
      if (id !== undefined) return id;
    }
    return new Promise((resolve, reject) => {
      const taker: Taker = { resolve, reject };
      const forget =
        signal &&
        onAbort(signal, () => {
          this.#takers.delete(taker);
          if (this.#takers.size === 0) this.#pump?.abort();
          reject(signal.reason);
        });
      taker.resolve = (id) => {
        forget?.();
        resolve(id);
      };
      taker.reject = (reason) => {
        forget?.();
        reject(reason);
      };
      this.#takers.add(taker);
      if (this.#pump === undefined) void this.#serve();
    });
  }

  /** take() again and again; ends when this process closes the exchange. */
  async *[Symbol.asyncIterator](): AsyncIterableIterator<number> {
    while (!this.#closed) {
      let id: number;
      try {
        id = await this.take();
      } catch (error) {
        if (this.#closed) return;
        throw error;
      }
      yield id;
    }
  }

  /** How many elements are in it, at some moment. ERR_CLOSED. */
  get length(): number {
    this.#checkOpen();
    return addon.queueLength(this.#handle, this.#index);
  }

  /** @internal Everything that waits rejects with ERR_CLOSED. */
  close(): void {
    this.#closed = true;
    const error = newError('ERR_CLOSED', 'The exchange is closed');
    for (const taker of this.#takers) taker.reject(error);
    this.#takers.clear();
    this.#pump?.abort();
  }

  /** For as long as somebody waits: one native wait for all of them. */
  async #serve(): Promise<void> {
    while (this.#takers.size > 0) {
      this.#pump = new AbortController();
      const { signal } = this.#pump;
      try {
        // Announced before the last look: what is pushed after it moves the word that is waited on.
        const announced = addon.queueAnnounce(this.#handle, this.#index);
        this.#deal();
        if (this.#takers.size === 0) break;
        await this.#waits.run(() => addon.queueWait(this.#handle, this.#index, announced), signal);
        this.#deal();
      } catch (error) {
        // Nobody waits any more, or somebody new does since.
        if (signal.aborted) continue;
        if (error instanceof FaultlessError && error.code === 'ERR_BUSY') {
          await new Promise((resolve) => setTimeout(resolve, busyPauseMs));
          continue;
        }
        for (const taker of this.#takers) taker.reject(error);
        this.#takers.clear();
      }
    }
    this.#pump = undefined;
  }

  #deal(): void {
    while (this.#takers.size > 0) {
      const wanted = Math.min(this.#takers.size, mostAtOnce);
      const ids = this.#tryPull(wanted);
      for (const id of ids) {
        const [taker] = this.#takers;
        this.#takers.delete(taker as Taker);
        (taker as Taker).resolve(id);
      }
      if (ids.length < wanted) return;
    }
  }

  #tryPull(most: number): Uint32Array {
    const ids = new Uint32Array(most);
    return ids.subarray(
      0,
      callNative(() => addon.queuePullMany(this.#handle, this.#index, ids)),
    );
  }

  #checkOpen(): void {
    if (this.#closed) throw newError('ERR_CLOSED', 'The exchange is closed');
  }
}

function checkIds(name: string, ids: Uint32Array): void {
  if (!(ids instanceof Uint32Array)) throw wrongType(name, 'a Uint32Array');
}
