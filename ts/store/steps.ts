import { addon } from '../addon.js';
import type { EncodedValue } from '../codec/codec.js';
import { callNative, fromNative, newError } from '../errors.js';
import type { Report, StoreHandle } from './native.js';
import { Answer, Kind, type Operation } from './operation.js';
import { type Condition, type Lifetime, Request } from './request.js';

/** Pause before a step behind a held lock is tried again, milliseconds. The native part gives up after 5 s. */
const blockedPauseMs = 5;

/** What an update makes of a value. */
export interface Change {
  /**
   * The value to be written, of the one that is there (undefined: none); undefined: there is to be none. What it throws
   * ends the update. Both are encoded.
   */
  next(current: Buffer | undefined): Uint8Array | undefined;
  /** What the update answers once that has been written. */
  answer(written: Uint8Array | undefined): unknown;
}

/** How an update ended. */
export type Outcome =
  | { readonly failed: true; readonly reason: unknown }
  | { readonly failed: false; readonly value: unknown; readonly wrote: boolean };

/** One of its steps on its way: a read, or a compareAndSet. */
interface Step {
  readonly request: Request;
  readonly operation: Operation;
  readonly writes: boolean;
  readonly wanted: Uint8Array | undefined;
}

function ignore(): void {}

/**
 * An update: reads the value, changes it, and writes it where the key still holds what was read; else all again.
 * Somebody has written each time, so of all updates of a key one gets on. It goes by steps on pool threads, or is finished
 * on this thread where a Sync method must come after it.
 */
export class Steps {
  readonly #handle: StoreHandle;
  readonly #key: Uint8Array;
  readonly #change: Change;
  readonly #lifetime: Lifetime;
  #step: Step | undefined;
  #stopped = false;
  /** In the caller's own code. */
  #changing = false;
  #outcome: Outcome | undefined;

  constructor(handle: StoreHandle, key: Uint8Array, change: Change, lifetime: Lifetime) {
    this.#handle = handle;
    this.#key = key;
    this.#change = change;
    this.#lifetime = lifetime;
  }

  /** undefined: it is not at its end, or was stopped before anything was written. */
  get outcome(): Outcome | undefined {
    return this.#outcome;
  }

  /** Takes step after step. Never rejects. */
  async run(): Promise<void> {
    try {
      this.#step ??= this.#newStep(Kind.get, undefined, undefined);
      while (this.#outcome === undefined && !this.#stopped) {
        const step = this.#step as Step;
        const report = await this.#turn(step);
        // A Sync method may have gone on meanwhile.
        if (this.#outcome === undefined && this.#step === step && !this.#stopped) this.#take(step, report);
      }
    } catch (reason) {
      this.#outcome ??= { failed: true, reason: fromNative(reason) };
    }
  }

  /** May block: goes on to the end on this thread, unless a step has failed: then run() has yet to tell why. */
  finish(): void {
    if (this.#changing) throw newError('ERR_BUSY', 'This key is being updated: `change` must not use it');
    const step = this.#step;
    const { native } = step?.request ?? {};
    if (step !== undefined && native !== undefined && !addon.storeCancel(native, step.operation.index)) {
      addon.storeFinish(native, step.operation.index);
      const answer = step.request.answerOf(step.operation);
      if (answer === Answer.failed) return;
      if (step.writes && answer === Answer.ok) this.#wrote(step.wanted);
    }
    while (this.#outcome === undefined) this.#tryNow();
  }

  /** Nothing more is begun. True where nothing is under way either. */
  stop(): boolean {
    this.#stopped = true;
    const { native } = this.#step?.request ?? {};
    return native === undefined || addon.storeCancel(native, 0);
  }

  #tryNow(): void {
    const { ttl, keep } = this.#lifetime;
    try {
      const current = callNative(() => addon.storeReadSync(this.#handle, this.#key));
      const wanted = this.#next(current);
      const written = callNative(() =>
        addon.storeCompareAndSetSync(this.#handle, this.#key, current, wanted, ttl, keep),
      );
      if (written) this.#wrote(wanted);
    } catch (reason) {
      this.#outcome ??= { failed: true, reason };
    }
  }

  #next(current: Buffer | undefined): Uint8Array | undefined {
    this.#changing = true;
    try {
      return this.#change.next(current);
    } finally {
      this.#changing = false;
    }
  }

  #newStep(kind: Kind, wanted: Uint8Array | undefined, condition: Condition | undefined): Step {
    const request = new Request();
    const value: EncodedValue | undefined = wanted && { prefix: -1, data: wanted, owned: true };
    const operation = request.append(kind, this.#key, undefined, 0, value, false, ignore, ignore, false, condition);
    return { request, operation, writes: kind === Kind.compareAndSet, wanted };
  }

  async #turn({ request }: Step): Promise<Report | undefined> {
    for (;;) {
      const report = await addon.storeRun(request.toNative(this.#handle, false));
      if (report === undefined || report.left === 0 || this.#outcome !== undefined || this.#stopped) return report;
      if (report.blocked) await new Promise((resolve) => setTimeout(resolve, blockedPauseMs));
    }
  }

  #take({ request, operation, writes, wanted }: Step, report: Report | undefined): void {
    const answer = request.answerOf(operation);
    if (answer === Answer.failed) throw report?.errors?.[1];
    if (writes) {
      if (answer === Answer.ok) this.#wrote(wanted);
      else this.#step = this.#newStep(Kind.get, undefined, undefined);
    } else {
      let current: Buffer | undefined;
      if (answer === Answer.ok) {
        const start = request.offsetOf(operation);
        const slab = report?.slabs[request.slabOf(operation)] as Buffer;
        current = slab.subarray(start, start + request.sizeOf(operation));
      }
      const condition = { ...this.#lifetime, expected: current };
      this.#step = this.#newStep(Kind.compareAndSet, this.#next(current), condition);
    }
    request.recycle();
  }

  #wrote(written: Uint8Array | undefined): void {
    this.#outcome = { failed: false, value: this.#change.answer(written), wrote: true };
  }
}
