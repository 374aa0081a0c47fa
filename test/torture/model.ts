// What processes that may be killed at any moment tell each other about the one store that all of them use, and which
// answers of the store it allows.
//
// Each writer has keys of its own, which take the values 1, 2, 3, …, some of which are deletes, and all writers write the
// shared keys. On the board a write is begun before it is called and acknowledged after it has resolved. A read may
// answer what was acknowledged when it was called, or anything that had been begun when it returned; never something
// older, and nothing that is not whole. One writer clears the store now and then: what was acknowledged before a clear
// began is gone once the clear is acknowledged, and may be gone at any time in between.
import assert from 'node:assert/strict';
import type { Board } from '../fixtures/board.js';
import { sizeFrom, stamped, stampOf } from '../fixtures/stamped-values.js';

export const writers = 4;
export const ownKeys = 120;
export const sharedKeys = 24;

export const ownKey = (writer: number, index: number): string => `own-${writer}-${index}`;
export const sharedKey = (index: number): string => `shared-${index}`;

/** Every ninth write of an own key is a delete. */
export const isDelete = (sequence: number): boolean => sequence % 9 === 0;

/** Of some keys all values have runs of their own, of few they are very large. */
function sizeOf(index: number, sequence: number): number {
  if (index % 60 === 7) return sizeFrom(sequence, 300_000, 2_500_000);
  if (index % 20 === 3) return sizeFrom(sequence, 66_000, 200_000);
  return sizeFrom(sequence + index, 16, 4000);
}

export function makeValue(key: string, index: number, writer: number, sequence: number): Buffer {
  return stamped(key, { writer, sequence }, sizeOf(index, sequence));
}

/** What each process counts; its successors go on with the same words. */
export const counters = [
  'writes',
  'largeWrites',
  'systemWrites',
  'reads',
  'iterations',
  'cold',
  'clears',
  'opens',
  'verifications',
  'flushes',
  'busy',
  'full',
] as const;
export type Counter = (typeof counters)[number];

/** Places on the board. */
const word = {
  clearsBegun: 0,
  clearsAcknowledged: 1,
  /** While somebody is stopped for so long that locks may be refused: 1 … */
  longStops: 2,
  counters: 64,
  own: 2048,
};
const countersOfSlot = 16;
const ownWords = 4;
const shared = word.own + writers * ownKeys * ownWords;
const sharedWords = 3;
/** The words of an own key, in the order in which they are written. */
const own = { begun: 0, clearsAfter: 1, acknowledged: 2, clearsBefore: 3 };
const ofShared = { acknowledged: 0, clearsBefore: 1, begun: 2 };

/** What is known before a read is called. */
export interface Before {
  readonly acknowledged: number;
  /** Clears that were acknowledged before that write began: it took effect after them. */
  readonly clearsBefore: number;
  /** Clears that had begun when it was acknowledged: only later ones are sure to remove it. */
  readonly clearsAfter: number;
  readonly clearsAcknowledged: number;
}

export class Model {
  readonly #board: Board;

  constructor(board: Board) {
    this.#board = board;
  }

  // ───────────────────────────────────────────────────────────── figures

  count(slot: number, counter: Counter, by = 1): void {
    const at = word.counters + slot * countersOfSlot + counters.indexOf(counter);
    this.#board.set(at, this.#board.get(at) + by);
  }

  counts(slot: number): Record<Counter, number> {
    const at = word.counters + slot * countersOfSlot;
    return Object.fromEntries(counters.map((counter, i) => [counter, this.#board.get(at + i)])) as Record<
      Counter,
      number
    >;
  }

  /** Stops that are so long that locks may be refused: how many have begun. */
  get longStops(): number {
    return this.#board.get(word.longStops);
  }

  noteLongStop(): void {
    this.#board.set(word.longStops, this.longStops + 1);
  }

  // ───────────────────────────────────────────────────────────── writing

  /** The sequence of the next write of this key, which is begun by this. */
  begin(writer: number, index: number): { sequence: number; clears: number } {
    const at = word.own + (writer * ownKeys + index) * ownWords;
    const clears = this.#board.get(word.clearsAcknowledged);
    const sequence = this.#board.get(at + own.begun) + 1;
    this.#board.set(at + own.begun, sequence);
    return { sequence, clears };
  }

  acknowledge(writer: number, index: number, { sequence, clears }: { sequence: number; clears: number }): void {
    const at = word.own + (writer * ownKeys + index) * ownWords;
    // Whoever reads the words the other way round, or finds half of them written, expects less, never too much.
    this.#board.set(at + own.clearsAfter, this.#board.get(word.clearsBegun));
    this.#board.set(at + own.acknowledged, sequence);
    this.#board.set(at + own.clearsBefore, clears);
  }

  /** Whether the key is known to be there, or not to be there; undefined: neither. For its writer alone. */
  isThere(writer: number, index: number): boolean | undefined {
    const at = word.own + (writer * ownKeys + index) * ownWords;
    const { acknowledged, clearsBefore } = this.before(writer, index);
    if (this.#board.get(at + own.begun) !== acknowledged) return undefined;
    if (acknowledged === 0 || isDelete(acknowledged)) return false;
    return this.#board.get(word.clearsBegun) > clearsBefore ? undefined : true;
  }

  beginShared(writer: number, index: number): { sequence: number; clears: number } {
    const at = shared + (writer * sharedKeys + index) * sharedWords;
    const clears = this.#board.get(word.clearsAcknowledged);
    const sequence = this.#board.get(at + ofShared.begun) + 1;
    this.#board.set(at + ofShared.begun, sequence);
    return { sequence, clears };
  }

  acknowledgeShared(writer: number, index: number, { sequence, clears }: { sequence: number; clears: number }): void {
    const at = shared + (writer * sharedKeys + index) * sharedWords;
    this.#board.set(at + ofShared.acknowledged, sequence);
    this.#board.set(at + ofShared.clearsBefore, clears);
  }

  /** Clears begun so far. */
  get clearsBegun(): number {
    return this.#board.get(word.clearsBegun);
  }

  beginClear(): number {
    const clear = this.#board.get(word.clearsBegun) + 1;
    this.#board.set(word.clearsBegun, clear);
    return clear;
  }

  acknowledgeClear(clear: number): void {
    this.#board.set(word.clearsAcknowledged, clear);
  }

  /** A clear was begun by somebody who died in it: it may have happened in part, and is to be done again. */
  get isClearUnfinished(): boolean {
    return this.#board.get(word.clearsBegun) > this.#board.get(word.clearsAcknowledged);
  }

  // ───────────────────────────────────────────────────────────── reading

  before(writer: number, index: number): Before {
    const at = word.own + (writer * ownKeys + index) * ownWords;
    const clearsBefore = this.#board.get(at + own.clearsBefore);
    const acknowledged = this.#board.get(at + own.acknowledged);
    const clearsAfter = this.#board.get(at + own.clearsAfter);
    return { acknowledged, clearsBefore, clearsAfter, clearsAcknowledged: this.#board.get(word.clearsAcknowledged) };
  }

  /** Throws where what was read since `before` cannot be. Answers the sequence; 0: absent. */
  check(writer: number, index: number, before: Before, value: Buffer | undefined): number {
    const key = ownKey(writer, index);
    const known = JSON.stringify(before);
    const begun = this.#board.get(word.own + (writer * ownKeys + index) * ownWords + own.begun);
    if (value === undefined) {
      assert.ok(!this.mustBeThere(writer, index, before), `${key} is lost: ${known}, begun ${begun}`);
      return 0;
    }
    const stamp = stampOf(key, value);
    assert.equal(stamp.writer, writer, key);
    const { sequence } = stamp;
    const what = `${key}: value ${sequence}, ${known}, begun ${begun}`;
    assert.ok(sequence >= before.acknowledged && sequence <= begun, what);
    assert.ok(!isDelete(sequence), `${what}: a delete`);
    if (sequence === before.acknowledged) {
      assert.ok(before.clearsAcknowledged <= before.clearsAfter, `${what}: it was cleared`);
    }
    return sequence;
  }

  /** Whether the key was there all the time since `before`. */
  mustBeThere(writer: number, index: number, before: Before): boolean {
    const begun = this.#board.get(word.own + (writer * ownKeys + index) * ownWords + own.begun);
    const { acknowledged, clearsBefore } = before;
    if (acknowledged === 0 || Math.floor(begun / 9) * 9 >= acknowledged) return false;
    return this.#board.get(word.clearsBegun) <= clearsBefore;
  }

  beforeShared(index: number): { acknowledged: number; clearsBefore: number }[] {
    return Array.from({ length: writers }, (_, writer) => {
      const at = shared + (writer * sharedKeys + index) * sharedWords;
      const clearsBefore = this.#board.get(at + ofShared.clearsBefore);
      return { clearsBefore, acknowledged: this.#board.get(at + ofShared.acknowledged) };
    });
  }

  checkShared(
    index: number,
    before: readonly { acknowledged: number; clearsBefore: number }[],
    value: Buffer | undefined,
  ): void {
    const key = sharedKey(index);
    if (value === undefined) {
      const clears = this.#board.get(word.clearsBegun);
      const lost = before.some(({ acknowledged, clearsBefore }) => acknowledged > 0 && clears <= clearsBefore);
      assert.ok(!lost, `${key} is lost: ${JSON.stringify(before)}, clears ${clears}`);
      return;
    }
    const { writer, sequence } = stampOf(key, value);
    const at = shared + (writer * sharedKeys + index) * sharedWords;
    const begun = this.#board.get(at + ofShared.begun);
    const acknowledged = before[writer]?.acknowledged ?? 0;
    assert.ok(
      sequence >= acknowledged && sequence <= begun,
      `${key}: value ${sequence} of writer ${writer}, acknowledged ${acknowledged}, begun ${begun}`,
    );
  }
}
