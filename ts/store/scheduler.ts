import pLimit, { type LimitFunction } from 'p-limit';
import { addon } from '../addon.js';
import type { EncodedValue } from '../codec/codec.js';
import { fromNative } from '../errors.js';
import { Aborts } from './aborts.js';
import type { GroupCommit } from './group-commit.js';
import { checkKey, type Key, maxKeyBytes, nameOf, writeKey } from './key.js';
import { Lane } from './lane.js';
import type { Report, StoreHandle } from './native.js';
import { Answer, isWrite, Kind, Operation } from './operation.js';
import { Request } from './request.js';

/** What an operation answered, for those that have a value: where it is. */
export type Settle = (operation: Operation, answer: number, slabs: readonly Buffer[]) => void;

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
  readonly #limit: LimitFunction = pLimit(Math.max(2, 2 * addon.gate().limit));
  readonly #lanes = new Map<string, Lane>();
  readonly #unfinished = new Set<Request>();
  #free: Request | undefined;
  #dependent: Request | undefined;
  /** The last clear, while it is under way. */
  #barrier: Request | undefined;
  #tickEnds = false;
  readonly #aborts = new Aborts((operation, reason) => this.#abort(operation, reason));

  constructor(handle: StoreHandle, commit: GroupCommit, settleWithValue: Settle) {
    this.#handle = handle;
    this.#commit = commit;
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
  ): void {
    checkKey(key);
    const name = nameOf(key);
    const lane = this.#lanes.get(name);
    const write = isWrite(kind);
    let request: Request;
    let ordered = false;
    if (this.#barrier === undefined && (lane === undefined || !lane.holdsUp(write))) {
      request = this.#openFree();
    } else {
      ordered = true;
      request = this.#follow(lane, write) ?? this.#openDependent();
    }
    const operation = request.append(kind, key, value, ordered, resolve, reject, system);
    if (system) this.#commit.owe();
    if (request === this.#dependent) this.#await(request, lane, write);
    this.#push(name, lane, operation);
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
    const list = toList(keys);
    const request = new Request();
    const operation = request.appendMany(list, resolve, reject);
    if (this.#barrier !== undefined) this.#awaitRequest(request, this.#barrier);
    const names = new Set(keys.map(nameOf));
    operation.claims = [];
    for (const name of names) {
      const lane = this.#lanes.get(name);
      const claim = new Operation(Kind.getMany, request, operation.index, operation.position);
      operation.claims.push(claim);
      if (lane?.lastWrite !== undefined) {
        // What it takes from now on could have to wait for this getMany.
        if (lane.lastWrite.request === this.#dependent) this.#close(this.#dependent);
        this.#awaitOperation(request, lane.lastWrite);
      }
      this.#push(name, lane, claim);
    }
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
    const operation = request.append(Kind.clear, undefined, undefined, false, resolve, reject, system);
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
    const lane = this.#lanes.get(nameOf(key));
    if (lane === undefined || !lane.holdsUp(write)) return;
    const until = write ? lane.last : lane.lastWrite;
    for (let operation = lane.first; operation !== undefined; ) {
      const { next } = operation;
      const { request } = operation;
      // Alone where nothing else has to come before it, else with all of its request.
      if (request.waiting === 0 && operation.kind !== Kind.getMany) this.#finishOperation(operation);
      else this.#finishRequest(request);
      if (operation === until) return;
      // All of a request may be over now: the lane tells what is left of it.
      operation = next?.over ? lane.first : next;
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
    const write = this.#lanes.get(nameOf(key))?.lastWrite;
    const barrier = this.#barrier;
    if (write === undefined) return barrier === undefined ? 'none' : 'unknown';
    // Issued before the clear, or aborted in the middle: what will be there is not known.
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

  /** The open request that holds all that a new operation must come after, where there is one. */
  #follow(lane: Lane | undefined, write: boolean): Request | undefined {
    let common: Request | undefined;
    if (lane === undefined) return undefined;
    for (const { request } of lane.conflicts(write)) {
      if (!request.open || (common !== undefined && common !== request)) return undefined;
      common = request;
    }
    return common;
  }

  /** The open request of those that wait comes after all that its newest operation must come after. */
  #await(request: Request, lane: Lane | undefined, write: boolean): void {
    if (this.#barrier !== undefined) this.#awaitRequest(request, this.#barrier);
    if (lane === undefined) return;
    for (const conflict of lane.conflicts(write)) {
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

  #push(name: string, found: Lane | undefined, operation: Operation): void {
    let lane = found;
    if (lane === undefined) {
      lane = new Lane(name);
      this.#lanes.set(name, lane);
    }
    lane.push(operation);
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
    let report: Report | undefined;
    try {
      report = await addon.storeRun(request.toNative(this.#handle));
    } catch (thrown) {
      this.#failAll(request, fromNative(thrown));
      return;
    }
    this.#settle(request, report);
    if (report === undefined || report.left === 0) {
      request.recycle();
    } else if (report.blocked) {
      setTimeout(() => void this.#limit(this.#turn, request), blockedPauseMs);
    } else {
      void this.#limit(this.#turn, request);
    }
  };

  #settle(request: Request, report: Report | undefined): void {
    const errors = new Map<number, unknown>();
    const listed = report?.errors ?? [];
    for (let i = 0; i < listed.length; i += 2) errors.set(listed[i] as number, listed[i + 1]);
    const slabs = report?.slabs ?? [];
    for (const operation of request.operations) {
      if (operation.over && (operation.settled || operation.awaitsFlush)) continue;
      const answer = request.answerOf(operation);
      if (answer === Answer.notYet) continue;
      this.#end(operation);
      if (answer === Answer.failed) {
        this.#fail(operation, fromNative(errors.get(operation.index)));
        continue;
      }
      if (isWrite(operation.kind)) this.#commit.wrote();
      if (operation.settled) continue;
      if (operation.system) {
        operation.awaitsFlush = true;
        this.#commit.add((failure) => this.#flushed(operation, answer, failure));
      } else {
        this.#markSettled(operation);
        this.#settleWithValue(operation, answer, slabs);
      }
    }
  }

  /** A flush that began after this write has ended. */
  #flushed(operation: Operation, answer: number, failure: unknown): void {
    if (failure !== undefined) {
      this.#fail(operation, failure);
    } else if (!operation.settled) {
      this.#markSettled(operation);
      this.#settleWithValue(operation, answer, []);
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
    if (operation.claims !== undefined) {
      for (const claim of operation.claims) {
        claim.over = true;
        this.#leave(claim);
      }
    }
    const { request } = operation;
    request.unfinished--;
    // An open request takes further operations: they end it.
    if (request.unfinished === 0 && !request.over) this.#finished(request);
  }

  #leave(operation: Operation): void {
    const { lane, dependents } = operation;
    if (lane !== undefined) {
      lane.remove(operation);
      if (lane.first === undefined) this.#lanes.delete(lane.name);
    }
    if (dependents !== undefined) this.#release(dependents);
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
    if (request.native === undefined) {
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
    addon.storeFinish(request.toNative(this.#handle), operation.index);
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

/** The list of keys of a getMany. */
function toList(keys: readonly Key[]): Buffer {
  let room = 0;
  for (const key of keys) {
    checkKey(key);
    room += 2 + Math.min(maxKeyBytes, typeof key === 'string' ? 3 * key.length : key.length);
  }
  const list = Buffer.allocUnsafeSlow(room);
  let at = 0;
  for (const key of keys) {
    const size = writeKey(key, list, at + 2);
    list.writeUInt16LE(size, at);
    at += 2 + size;
  }
  return list.subarray(0, at);
}
