import type { Request } from './request.js';

/** OperationKind of csrc/binding/store_request.h. */
export const Kind = {
  skip: 0,
  get: 1,
  has: 2,
  set: 3,
  delete: 4,
  getMany: 5,
  clear: 6,
  entry: 7,
  ttl: 8,
  compareAndSet: 9,
  increment: 10,
  touch: 11,
  /** Of several steps (steps.ts): the native part never sees it. */
  update: 12,
  /** Of several keys: each one that it writes has a claim of this kind. */
  batch: 13,
} as const;
export type Kind = (typeof Kind)[keyof typeof Kind];

/** Answer of csrc/binding/store_request.h. */
export const Answer = { notYet: 0, ok: 1, absent: 2, failed: 3 } as const;

/** Whether it changes what others read. */
export function isWrite(kind: Kind): boolean {
  switch (kind) {
    case Kind.set:
    case Kind.delete:
    case Kind.clear:
    case Kind.compareAndSet:
    case Kind.increment:
    case Kind.touch:
    case Kind.update:
    case Kind.batch:
      return true;
    default:
      return false;
  }
}

/**
 * One call on its way: from the call until its promise is settled and it has taken effect. Also one key of a getMany
 * or batch ({@link Request.claims}): that is in the key table in the place of the whole.
 *
 * There is one of these per call and nothing else, so its size counts.
 */
export class Operation {
  readonly kind: Kind;
  readonly request: Request;
  /** Which operation of the request. */
  readonly index: number;

  /** Of its key; undefined where it has none. */
  readonly name: string | undefined;
  /** The rest of these belongs to the {@link KeyTable}. */
  readonly hash: number;
  order = 0;
  newer: Operation | undefined = undefined;
  older: Operation | undefined = undefined;

  /** Requests that start only after this. */
  dependents: Request[] | undefined = undefined;
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
  unlisten: (() => void) | undefined = undefined;

  constructor(
    kind: Kind,
    request: Request,
    index: number,
    name: string | undefined,
    hash: number,
    resolve: ((value: any) => void) | undefined,
    reject: ((reason: unknown) => void) | undefined,
    system: boolean,
  ) {
    this.kind = kind;
    this.request = request;
    this.index = index;
    this.name = name;
    this.hash = hash;
    this.resolve = resolve;
    this.reject = reject;
    this.system = system;
  }
}
