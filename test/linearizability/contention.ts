// What the processes of the history test do to one store: a few keys that all of them write and read, and others that make
// records move, extents and segments change their owners, and the file grow.
import { sizeFrom, stamped, stampOf } from '../fixtures/stamped-values.js';

export const contendedKeys = 6;
export const contendedKey = (number: number): string => `hot-${String(number).padStart(8, '0')}`;
/** Keys of a store of their own, behind the others in a history: numbers, which are only ever incremented and read. */
export const counterKeys = 2;
export const countersOf = (file: string): string => `${file}-counters`;
export const fillerKey = (process: number, number: number): string => `filler-${process}-${number}`;

/**
 * An extent of 64 KiB holds four of these, so it soon belongs to another shard, and as they all have the same size, another
 * key's record is then where one was: a reader that is late finds a sound record, but not the one it looked for.
 */
const usualBytes = 15_900;

/** Of one key's values some are small, of another one's all are so large that they have runs of their own. */
function sizeOf(key: number, number: number): number {
  if (key === contendedKeys - 1) return sizeFrom(number, 66_000, 150_000);
  return key === contendedKeys - 2 ? sizeFrom(number, 16, 3000) : usualBytes;
}

export const maxSequence = 2 ** 24 - 1;

/** What the checker knows a value by: who wrote it, as his how-manieth. */
export const numberOf = (writer: number, sequence: number): number => writer * 2 ** 24 + sequence;

export function makeValue(key: number, writer: number, sequence: number): Buffer {
  return stamped(contendedKey(key), { writer, sequence }, sizeOf(key, sequence));
}

/** Throws where these are not the bytes of one value of this key. */
export function numberIn(key: number, value: Buffer | undefined): number {
  if (value === undefined) return 0;
  const { writer, sequence } = stampOf(contendedKey(key), value);
  return numberOf(writer, sequence);
}

export const fillerValue = (key: string, sequence: number): Buffer => stamped(key, { writer: 0, sequence }, 40);
