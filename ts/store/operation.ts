import type { Lane } from './lane.js';
import type { Request } from './request.js';

/** OperationKind of csrc/binding/store_request.h. */
export const Kind = { skip: 0, get: 1, has: 2, set: 3, delete: 4, getMany: 5, clear: 6 } as const;
export type Kind = (typeof Kind)[keyof typeof Kind];

/** Answer of csrc/binding/store_request.h. */
export const Answer = { notYet: 0, ok: 1, absent: 2, failed: 3 } as const;

/** Whether it changes what others read. */
export function isWrite(kind: Kind): boolean {
  return kind === Kind.set || kind === Kind.delete || kind === Kind.clear;
}

/**
 * One call on its way: from the call until its promise is settled and it has taken effect. Also one key of a getMany
 * ({@link Operation.claims}): that is in its key's lane in the place of the whole.
 */
export class Operation {
  readonly kind: Kind;
  readonly request: Request;
  /** In the request: which operation, and where in its buffer. */
  readonly index: number;
  readonly position: number;

  /** The key's operations under way, in call order. */
  lane: Lane | undefined;
  previous: Operation | undefined;
  next: Operation | undefined;
  /** Of a getMany: one for each key. */
  claims: Operation[] | undefined;
  /** Requests that start only after this. */
  dependents: Request[] | undefined;

  /** It has taken effect, or never will: nothing waits for it any more. */
  over = false;
  /** It has succeeded, and its promise waits for a flush. */
  awaitsFlush = false;
  /** The promise is settled. */
  settled = false;
  /** The promise is to resolve only once a power cut cannot undo it. */
  readonly system: boolean;
  readonly resolve: ((value: any) => void) | undefined;
  readonly reject: ((reason: unknown) => void) | undefined;
  /** Takes the listener off the signal. */
  unlisten: (() => void) | undefined;

  constructor(
    kind: Kind,
    request: Request,
    index: number,
    position: number,
    resolve?: (value: any) => void,
    reject?: (reason: unknown) => void,
    system = false,
  ) {
    this.kind = kind;
    this.request = request;
    this.index = index;
    this.position = position;
    this.lane = undefined;
    this.previous = undefined;
    this.next = undefined;
    this.claims = undefined;
    this.dependents = undefined;
    this.resolve = resolve;
    this.reject = reject;
    this.system = system;
    this.unlisten = undefined;
  }
}
