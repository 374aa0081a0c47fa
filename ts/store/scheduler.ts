import pLimit, { type LimitFunction } from 'p-limit';
import { addon } from '../addon.js';
import type { EncodedValue } from '../codec/codec.js';
import { fromNative } from '../errors.js';
import { Aborts } from './aborts.js';
import type { OperationDiagnostics } from './diagnostics.js';
import type { GroupCommit } from './group-commit.js';
import { checkKeyShape, type Key, nameOf } from './key.js';
import { toKeyList } from './key-list.js';
import { hashOf, KeyTable } from './key-table.js';
import type { Report, StoreHandle } from './native.js';
import { Answer, isWrite, Kind, Operation } from './operation.js';
import { type Condition, type Lifetime, Request } from './request.js';
import type { Steps } from './steps.js';

/** What an operation answered, for those that have a value: where it is. */
export type Settle = (operation: Operation, answer: number, slabs: readonly (Buffer | undefined)[]) => void;

/** Pause before operations behind a held lock are tried again, milliseconds. The native part gives up after 5 s. */
const blockedPauseMs = 5;

/**
 * The operations of one Store, from the call to the promise.
 *
 * Calls of one tick travel in one request, as far as it is not full; requests run side by side, at most twice as many
 * as the process may hold threads. Operations on one key take effect in call order: an operation that must come after
 * another one either follows it in the same request, or goes into a request that starts when the other one is over.
 * Reads of one key do not wait for each other. clear comes after everything before it and before everything after it.
 *
 * Two requests at most are open for further operations: one of operations that wait for nothing, and one of those that
 * do. The first kind never waits for others. The second kind is closed before anything else waits for it: what a
 * request waits for was closed before it or waits for nothing, so that nothing waits in a circle.
 */
export class Scheduler {
  readonly #handle: StoreHandle;
  readonly #settleWithValue: Settle;
  readonly #commit: GroupCommit;
  readonly #diagnostics: OperationDiagnostics;
  readonly #limit: LimitFunction = pLimit(Math.max(2, 2 * addon.gate().limit));
  readonly #shareAnswers: boolean;
  readonly #keys = new KeyTable();
  readonly #unfinished = new Set<Request>();
  #free: Request | undefined;
  #dependent: Request | undefined;
  /** The last clear, while it is under way. */
  #barrier: Request | undefined;
  #tickEnds = false;
  readonly #aborts = new Aborts((operation, reason) => this.#abort(operation, reason));

  /** shareAnswers: nothing that `settleWithValue` makes of an answer keeps a view of its bytes in {@link Request.answers}. */
  constructor(
    handle: StoreHandle,
    commit: GroupCommit,
    diagnostics: OperationDiagnostics,
    shareAnswers: boolean,
    settleWithValue: Settle,
  ) {
    this.#handle = handle;
    this.#diagnostics = diagnostics;
    this.#commit = commit;
    this.#shareAnswers = shareAnswers;
    this.#settleWithValue = settleWithValue;
  }

  /**
   * Queues an operation on one key; with `system` its promise waits for a flush, though nothing else waits for that.
   * Throws for wrong keys and values, with nothing queued then.
   */
  submit(
    kind: Kind,
    key: Key,
    value: EncodedValue | undefined,
    resolve: (value: any) => void,
    reject: (reason: unknown) => void,
    signal?: AbortSignal | undefined,
    system = false,
    condition?: Condition | Lifetime,
  ): void {
    // The rest of the check is in writeKey: a name that is none holds up nobody.
    checkKeyShape(key);
    const name = nameOf(key);
    const hash = hashOf(name);
    const write = isWrite(kind);
    let request: Request;
    let conflicts: Operation[] | undefined;
    if (this.#barrier === undefined && !this.#keys.holdsUp(name, hash, write)) {
      request = this.#openFree();
    } else {
      conflicts = this.#keys.conflicts(name, hash, write);
      request = this.#follow(conflicts) ?? this.#openDependent();
    }
    const ordered = conflicts !== undefined;
    const operation = request.append(kind, key, name, hash, value, ordered, resolve, reject, system, condition);
    if (system) this.#commit.owe();
    if (conflicts !== undefined && request === this.#dependent) this.#await(request, conflicts);
    this.#keys.add(operation);
    if (request.full) this.#close(request);
    if (signal !== undefined) this.#aborts.listen(operation, signal);
  }

  /**
   * Queues a read of several keys as one view of all of them. The answer's place is that of a list: see
   * csrc/binding/store_request.h.
   */
  submitMany(
    keys: readonly Key[],
    resolve: (value: any) => void,
    reject: (reason: unknown) => void,
    signal: AbortSignal | undefined,
  ): void {
    const list = toKeyList(keys);
    const request = new Request();
    const operation = request.appendMany(list, resolve, reject);
    if (this.#barrier !== undefined) this.#awaitRequest(request, this.#barrier);
    request.claims = [];
    for (const key of keys) {
      const name = nameOf(key);
      const hash = hashOf(name);
      const lastWrite = this.#keys.lastWrite(name, hash);
      const claim = new Operation(Kind.getMany, request, operation.index, name, hash, undefined, undefined, false);
      request.claims.push(claim);
      if (lastWrite !== undefined) {
        // What it takes from now on could have to wait for this getMany.
        if (lastWrite.request === this.#dependent) this.#close(this.#dependent);
        this.#awaitOperation(request, lastWrite);
      }
      this.#keys.add(claim);
    }
    this.#unfinished.add(request);
    this.#close(request);
    if (signal !== undefined) this.#aborts.listen(operation, signal);
  }

  /**
   * Queues a batch: after everything under way on the keys that it writes, and after the writes of those that it only
   * checks. `names`: of its keys, whether it writes them; `entries`: see csrc/binding/store_batch.h.
   */
  submitBatch(
    names: ReadonlyMap<string, boolean>,
    entries: Buffer,
    resolve: (value: any) => void,
    reject: (reason: unknown) => void,
    signal: AbortSignal | undefined,
    system: boolean,
  ): void {
    const request = new Request();
    const operation = request.appendBatch(entries, resolve, reject, system);
    if (system) this.#commit.owe();
    if (this.#barrier !== undefined) this.#awaitRequest(request, this.#barrier);
    request.claims = [];
    for (const [name, writes] of names) {
      const hash = hashOf(name);
      const kind = writes ? Kind.batch : Kind.getMany;
      const claim = new Operation(kind, request, operation.index, name, hash, undefined, undefined, false);
      request.claims.push(claim);
      for (const conflict of this.#keys.conflicts(name, hash, writes)) {
        // What it takes from now on could have to wait for this batch.
        if (conflict.request === this.#dependent) this.#close(this.#dependent);
        this.#awaitOperation(request, conflict);
      }
      this.#keys.add(claim);
    }
    this.#unfinished.add(request);
    this.#close(request);
    if (signal !== undefined) this.#aborts.listen(operation, signal);
  }

  /** Queues an update: nothing else on the key begins before it is over. */
  submitSteps(
    key: Key,
    steps: Steps,
    resolve: (value: any) => void,
    reject: (reason: unknown) => void,
    signal: AbortSignal | undefined,
    system: boolean,
  ): void {
    const name = nameOf(key);
    const hash = hashOf(name);
    const request = new Request();
    request.steps = steps;
    const operation = request.append(Kind.update, key, name, hash, undefined, false, resolve, reject, system);
    if (system) this.#commit.owe();
    const conflicts = this.#keys.conflicts(name, hash, true);
    // What it takes from now on could have to wait for this update.
    if (this.#dependent !== undefined && conflicts.some((conflict) => conflict.request === this.#dependent)) {
      this.#close(this.#dependent);
    }
    this.#await(request, conflicts);
    this.#keys.add(operation);
    this.#unfinished.add(request);
    this.#close(request);
    if (signal !== undefined) this.#aborts.listen(operation, signal);
  }

  /** Queues a clear. */
  submitClear(
    resolve: (value: any) => void,
    reject: (reason: unknown) => void,
    signal: AbortSignal | undefined,
    system: boolean,
  ): void {
    this.#closeOpen();
    const request = new Request();
    const operation = request.append(Kind.clear, undefined, undefined, 0, undefined, false, resolve, reject, system);
    if (system) this.#commit.owe();
    for (const earlier of this.#unfinished) this.#awaitRequest(request, earlier);
    this.#unfinished.add(request);
    this.#barrier = request;
    this.#close(request);
    if (signal !== undefined) this.#aborts.listen(operation, signal);
  }

  /** Resolves when everything queued until now is over. */
  async idle(): Promise<void> {
    await Promise.all(Array.from(this.#unfinished, (request) => request.whenOver()));
  }

  /** Nothing is under way. */
  get isIdle(): boolean {
    return this.#unfinished.size === 0;
  }

  /**
   * May block: what is under way on this key and must come before a new operation has taken effect when this returns.
   */
  settleKey(key: Key, write: boolean): void {
    if (this.#unfinished.size === 0) return;
    if (this.#barrier !== undefined) this.#finishRequest(this.#barrier);
    const name = nameOf(key);
    for (const operation of this.#keys.before(name, hashOf(name), write)) {
      if (operation.over) continue;
      const { request } = operation;
      // Alone where nothing else has to come before it, else with all of its request.
      if (request.waiting === 0 && request.claims === undefined) this.#finishOperation(operation);
      else this.#finishRequest(request);
    }
  }

  /** May block: everything queued until now has taken effect when this returns. */
  settleAll(): void {
    for (const request of [...this.#unfinished]) this.#finishRequest(request);
  }

  /**
   * What is known of a key without waiting: the operation whose outcome a read would see, where one is under way.
   * 'none': ask the native part. 'unknown': it must wait.
   */
  pendingWrite(key: Key): Operation | 'none' | 'unknown' {
    if (this.#unfinished.size === 0) return 'none';
    const name = nameOf(key);
    const write = this.#keys.lastWrite(name, hashOf(name));
    const barrier = this.#barrier;
    if (write === undefined) return barrier === undefined ? 'none' : 'unknown';
    // Issued before the clear, or aborted in the middle: what will be there is not known.
    if (write.kind !== Kind.set && write.kind !== Kind.delete) return 'unknown';
    if (write.settled || (barrier !== undefined && !write.request.predecessors.includes(barrier))) return 'unknown';
    const { native } = write.request;
    // It has taken effect, though its promise does not know: others may have written since.
    if (native !== undefined && addon.storeIsDone(native, write.index)) return 'none';
    return write;
  }

  // ─────────────────────────────────────────────────────────── placing

  #openFree(): Request {
    if (this.#free?.open) return this.#free;
    this.#free = this.#newRequest();
    return this.#free;
  }

  #openDependent(): Request {
    if (this.#dependent?.open) return this.#dependent;
    this.#dependent = this.#newRequest();
    return this.#dependent;
  }

  #newRequest(): Request {
    const request = new Request();
    this.#unfinished.add(request);
    if (!this.#tickEnds) {
      this.#tickEnds = true;
      process.nextTick(this.#endTick);
    }
    return request;
  }

  /** The open request that holds all of these, where there is one. */
  #follow(conflicts: readonly Operation[]): Request | undefined {
    const common = conflicts[0]?.request;
    if (common === undefined || !common.open) return undefined;
    return conflicts.every(({ request }) => request === common) ? common : undefined;
  }

  /** The open request of those that wait comes after these, and after a clear. */
  #await(request: Request, conflicts: readonly Operation[]): void {
    if (this.#barrier !== undefined) this.#awaitRequest(request, this.#barrier);
    for (const conflict of conflicts) {
      if (conflict.request !== request) this.#awaitOperation(request, conflict);
    }
  }

  #awaitOperation(request: Request, earlier: Operation): void {
    earlier.dependents ??= [];
    // The last one in is the only one that can be there twice in a row.
    if (earlier.dependents.at(-1) === request) return;
    earlier.dependents.push(request);
    request.predecessors.push(earlier);
    request.waiting++;
  }

  #awaitRequest(request: Request, earlier: Request): void {
    earlier.dependents ??= [];
    if (earlier.dependents.at(-1) === request) return;
    earlier.dependents.push(request);
    request.predecessors.push(earlier);
    request.waiting++;
  }

  // ─────────────────────────────────────────────────────────── running

  readonly #endTick = (): void => {
    this.#tickEnds = false;
    if (this.#free !== undefined) this.#dispatchWhenReady(this.#free);
    if (this.#dependent !== undefined) this.#dispatchWhenReady(this.#dependent);
  };

  /** Takes no more operations. */
  #close(request: Request): void {
    request.open = false;
    if (request === this.#free) this.#free = undefined;
    if (request === this.#dependent) this.#dependent = undefined;
    this.#dispatchWhenReady(request);
  }

  #closeOpen(): void {
    if (this.#free !== undefined) this.#close(this.#free);
    if (this.#dependent !== undefined) this.#close(this.#dependent);
  }

  /**
   * Queues the request for a thread, unless it waits for others. One that waits for nothing stays open until it has a
   * thread.
   */
  #dispatchWhenReady(request: Request): void {
    if (request.dispatched || request.waiting > 0) return;
    if (request.operations.length === 0) {
      // What it was opened for was refused.
      if (!request.over) this.#finished(request);
      return;
    }
    if (request === this.#dependent) {
      this.#dependent = undefined;
      request.open = false;
    }
    request.dispatched = true;
    void this.#limit(this.#turn, request);
  }

  readonly #turn = async (request: Request): Promise<void> => {
    if (request === this.#free) this.#free = undefined;
    request.open = false;
    if (request.native === undefined && request.over) {
      request.recycle(); // all of it was aborted
      return;
    }
    if (request.steps !== undefined) {
      await request.steps.run();
      this.#settleSteps(request.operations[0] as Operation, request.steps);
      this.#diagnostics.ended(request);
      request.recycle();
      return;
    }
    let report: Report | undefined;
    try {
      report = await addon.storeRun(request.toNative(this.#handle, this.#shareAnswers));
    } catch (thrown) {
      this.#failAll(request, fromNative(thrown));
      return;
    }
    this.#settle(request, report);
    if (report === undefined || report.left === 0) {
      this.#diagnostics.ended(request);
      request.recycle();
    } else if (report.blocked) {
      setTimeout(() => void this.#limit(this.#turn, request), blockedPauseMs);
    } else {
      void this.#limit(this.#turn, request);
    }
  };

  #settle(request: Request, report: Report | undefined): void {
    const slabs = report?.slabs ?? noSlabs;
    const errors = report?.errors;
    let wrote = false;
    for (const operation of request.operations) {
      if (operation.over && (operation.settled || operation.awaitsFlush)) continue;
      const answer = request.answerOf(operation);
      if (answer === Answer.notYet) continue;
      this.#end(operation);
      if (answer === Answer.failed) {
        const error = fromNative(errorOf(errors, operation.index));
        this.#diagnostics.failed(operation.kind, error);
        this.#fail(operation, error);
        continue;
      }
      if (isWrite(operation.kind)) {
        this.#commit.wrote();
        wrote = true;
      }
      if (operation.settled) continue;
      if (operation.system && !isRefused(operation.kind, answer)) {
        // What it answers is in memory that others use by the time of the flush.
        const number = operation.kind === Kind.increment ? request.numberOf(operation) : undefined;
        this.#awaitFlush(operation, () => {
          if (number === undefined) this.#settleWithValue(operation, answer, []);
          else operation.resolve?.(number);
        });
      } else {
        this.#markSettled(operation);
        this.#settleWithValue(operation, answer, slabs);
      }
    }
    if (wrote) this.#diagnostics.wrote();
  }

  /** The operation has taken effect: once a flush that begins now has ended, its promise is settled by `resolve`. */
  #awaitFlush(operation: Operation, resolve: () => void): void {
    operation.awaitsFlush = true;
    this.#commit.add((failure) => {
      if (failure !== undefined) {
        this.#fail(operation, failure);
      } else if (!operation.settled) {
        this.#markSettled(operation);
        resolve();
      }
    });
  }

  /** An update is over, here or there: settles what is not settled. */
  #settleSteps(operation: Operation, { outcome }: Steps): void {
    this.#end(operation);
    if (operation.settled || operation.awaitsFlush || outcome === undefined) return;
    if (outcome.failed) {
      this.#diagnostics.failed(operation.kind, outcome.reason);
      this.#fail(operation, outcome.reason);
      return;
    }
    this.#commit.wrote();
    const { value } = outcome;
    if (operation.system) {
      this.#awaitFlush(operation, () => operation.resolve?.(value));
    } else {
      this.#markSettled(operation);
      operation.resolve?.(value);
    }
  }

  #fail(operation: Operation, reason: unknown): void {
    if (operation.settled) return;
    this.#markSettled(operation);
    operation.reject?.(reason);
  }

  /** Its promise is settled now. */
  #markSettled(operation: Operation): void {
    operation.settled = true;
    operation.unlisten?.();
    if (operation.system) this.#commit.paid();
  }

  #failAll(request: Request, reason: unknown): void {
    for (const operation of request.operations) {
      this.#end(operation);
      this.#fail(operation, reason);
    }
  }

  /** The operation has taken effect, or never will. */
  #end(operation: Operation): void {
    if (operation.over) return;
    operation.over = true;
    this.#leave(operation);
    const { request } = operation;
    if (request.claims !== undefined) {
      for (const claim of request.claims) {
        claim.over = true;
        this.#leave(claim);
      }
    }
    request.unfinished--;
    // An open request takes further operations: they end it.
    if (request.unfinished === 0 && !request.over) this.#finished(request);
  }

  #leave(operation: Operation): void {
    if (operation.name !== undefined) this.#keys.remove(operation);
    const { dependents } = operation;
    if (dependents === undefined) return;
    this.#release(dependents);
    operation.dependents = undefined;
  }

  #finished(request: Request): void {
    if (request === this.#free) this.#free = undefined;
    if (request === this.#dependent) this.#dependent = undefined;
    if (request === this.#barrier) this.#barrier = undefined;
    this.#unfinished.delete(request);
    request.finish();
    // Its promises are still to be settled where it went another way than by a turn.
    this.#dispatchWhenReady(request);
    if (request.dependents !== undefined) this.#release(request.dependents);
    request.dependents = undefined;
  }

  #release(dependents: readonly Request[]): void {
    for (const request of dependents) {
      request.waiting--;
      this.#dispatchWhenReady(request);
    }
  }

  // ─────────────────────────────────────────────────────────── aborting

  #abort(operation: Operation, reason: unknown): void {
    if (operation.settled) return;
    this.#fail(operation, reason);
    if (operation.over) return;
    const { request } = operation;
    if (request.steps !== undefined) {
      if (request.steps.stop()) this.#end(operation);
    } else if (request.native === undefined) {
      request.skip(operation);
      this.#end(operation);
    } else if (addon.storeCancel(request.native, operation.index)) {
      this.#end(operation);
    }
  }

  // ─────────────────────────────────────────────────────────── waiting on this thread

  #finishOperation(operation: Operation): void {
    const { request } = operation;
    if (operation.over) return;
    if (request.open) this.#close(request);
    if (request.steps !== undefined) {
      request.steps.finish();
      this.#settleSteps(operation, request.steps);
      return;
    }
    addon.storeFinish(request.toNative(this.#handle, this.#shareAnswers), operation.index);
    this.#end(operation);
  }

  /** With all that must come before it. */
  #finishRequest(request: Request): void {
    const stack = [request];
    while (stack.length > 0) {
      const top = stack[stack.length - 1] as Request;
      while (top.predecessors.at(-1)?.over) top.predecessors.pop();
      const earlier = top.predecessors.at(-1);
      if (earlier !== undefined) {
        stack.push(earlier instanceof Operation ? earlier.request : earlier);
        continue;
      }
      stack.pop();
      if (top.over) continue;
      if (top.open) this.#close(top);
      for (const operation of [...top.operations]) this.#finishOperation(operation);
    }
  }
}

/** It has changed nothing that a flush could cover. */
function isRefused(kind: Kind, answer: number): boolean {
  if (answer !== Answer.absent) return false;
  return kind === Kind.compareAndSet || kind === Kind.touch || kind === Kind.batch;
}

const noSlabs: readonly (Buffer | undefined)[] = [];

/** Why an operation failed: [index, reason, …] tells it. */
function errorOf(errors: readonly unknown[] | undefined, index: number): unknown {
  if (errors !== undefined) {
    for (let i = 0; i < errors.length; i += 2) if (errors[i] === index) return errors[i + 1];
  }
  return undefined;
}
