/** Many writes at a time, however the system takes them best. */
import { makeKeys, type Values } from '../data.js';
import type { Connection, Stored } from '../systems/system.js';
import { inFlight } from './timing.js';

const width = 1_024;

/**
 * Writes for `from` … `to` − 1: 1,024 sets in flight, or batches of as many where the system has no quick set.
 */
export async function writeAll(
  connection: Connection,
  from: number,
  to: number,
  keyOf: (i: number) => string,
  valueFor: (i: number) => Stored,
): Promise<void> {
  const { set, setBatch } = connection;
  if (set !== undefined) {
    await inFlight(
      from,
      to,
      width,
      (i) => set(keyOf(i), valueFor(i)),
      () => {},
    );
    return;
  }
  if (setBatch === undefined) throw new Error('nothing to write with');
  for (let i = from; i < to; i += width) {
    const numbers = Array.from({ length: Math.min(width, to - i) }, (_, j) => i + j);
    await setBatch(numbers.map(keyOf), numbers.map(valueFor));
  }
}

/** Version 0 of keys number 0 … `count` − 1. Keys are made some at a time: they may be more than memory is to hold. */
export async function fillStore(connection: Connection, count: number, values: Values): Promise<void> {
  const some = 2 ** 18;
  for (let from = 0; from < count; from += some) {
    const keys = makeKeys(Math.min(some, count - from), from);
    await writeAll(
      connection,
      0,
      keys.length,
      (i) => keys[i] as string,
      (i) => values.of(from + i),
    );
  }
}
