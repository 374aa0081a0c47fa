import type { Measurement, Scale } from './work.js';

/** Before anything counts: for compilers, caches and first pages. */
const warmUpShare = 0.25;

/**
 * Runs `body` for numbers `from` … `to` − 1: first those of the warm-up, which do not count, then `operations` that do.
 * `body` is given the range so that what it calls is compiled once for both.
 */
export async function measure(
  operations: number,
  body: (from: number, to: number) => Promise<void> | void,
): Promise<Measurement> {
  const warmUp = warmUpOf(operations);
  await body(0, warmUp);
  const cpuStart = process.cpuUsage();
  const start = process.hrtime.bigint();
  await body(warmUp, warmUp + operations);
  const ns = Number(process.hrtime.bigint() - start);
  const { user, system } = process.cpuUsage(cpuStart);
  return { value: ns / operations, cpuNs: ((user + system) * 1000) / operations, operations };
}

/** Operations of a round, of a work that has `most` in a whole one; the warm-up not counted. */
export function operationsOf(most: number, { effort }: Scale): number {
  return Math.max(1_000, Math.round(most * effort));
}

export function warmUpOf(operations: number): number {
  return Math.ceil(operations * warmUpShare);
}

/**
 * Starts `start(i)` for `from` … `to` − 1, `width` of them at any time in flight, and hands each answer to `check`.
 */
export async function inFlight<T>(
  from: number,
  to: number,
  width: number,
  start: (i: number) => Promise<T>,
  check: (i: number, answer: T) => void,
): Promise<void> {
  let next = from;
  const lane = async (): Promise<void> => {
    while (next < to) {
      const i = next++;
      check(i, await start(i));
    }
  };
  await Promise.all(Array.from({ length: Math.min(width, to - from) }, lane));
}
