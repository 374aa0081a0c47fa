/** Works that overwrite random keys of a full store. What they leave there is checked with the clock stopped. */
import { makeKeys, Random, type Values } from '../data.js';
import type { Connection, Stored } from '../systems/system.js';
import { writeAll } from './filling.js';
import { inFlight, measure, operationsOf, warmUpOf } from './timing.js';
import { type Measurement, need, type Round, type Work } from './work.js';

/** Writes to keys, and what each of them must hold afterwards. */
export class Writes {
  readonly operations: number;
  readonly #keys: string[];
  readonly #picks: Uint32Array;
  readonly #values: Values;
  readonly #versions: Uint32Array;

  /** To keys whose number leaves `share` when divided by `of`. */
  constructor({ scale, seed, values }: Round, most: number, share = 0, of = 1) {
    this.operations = operationsOf(most, scale);
    this.#keys = makeKeys(scale.keys);
    this.#values = values;
    this.#versions = new Uint32Array(scale.keys);
    const count = this.operations + warmUpOf(this.operations);
    this.#picks = new Random(seed + share).list(count, Math.floor(scale.keys / of)).map((pick) => pick * of + share);
  }

  readonly keyOf = (i: number): string => this.#keys[this.#picks[i] as number] as string;

  /** The next value of the key of write `i`; it counts as written. */
  readonly valueFor = (i: number): Stored => {
    const number = this.#picks[i] as number;
    const version = (this.#versions[number] as number) + 1;
    this.#versions[number] = version;
    return this.#values.of(number, version);
  };

  /** Throws unless every key holds what it was given last. */
  async check(connection: Connection): Promise<void> {
    const get = need(connection.get, 'get');
    const numbers = [...new Set(this.#picks)];
    await inFlight(
      0,
      numbers.length,
      1_024,
      (i) => get(this.#keys[numbers[i] as number] as string),
      (i, value) => this.#values.check(numbers[i] as number, value, this.#versions[numbers[i] as number]),
    );
  }
}

/** `writer` makes what does the writes `from` … `to` − 1. */
function overwrite(
  most: number,
  writer: (connection: Connection, writes: Writes) => (from: number, to: number) => Promise<void> | void,
): Work['run'] {
  return async (round) => {
    const writes = new Writes(round, most);
    const connection = await round.open();
    const measured = await measure(writes.operations, writer(connection, writes));
    await writes.check(connection);
    await connection.close();
    return measured;
  };
}

export const setInFlight: Work = {
  name: 'set-in-flight',
  title: 'set, 1,024 in flight (classic-level: batches of 1,024)',
  unit: 'ns',
  store: { medium: 'disk', values: 'strings', filled: 'each round' },
  goals: { lmdb: 3, 'classic-level': 2 },
  run: overwrite(
    200_000,
    (connection, writes) => (from, to) => writeAll(connection, from, to, writes.keyOf, writes.valueFor),
  ),
};

export const setSyncRam: Work = {
  name: 'set-sync-ram',
  title: 'setSync, RAM store',
  unit: 'ns',
  store: { medium: 'ram', values: 'strings', filled: 'each round' },
  goals: { lmdb: 1.2 },
  run: overwrite(100_000, (connection, writes) => {
    const setSync = need(connection.setSync, 'setSync');
    return (from, to) => {
      for (let i = from; i < to; i++) setSync(writes.keyOf(i), writes.valueFor(i));
    };
  }),
};

/** When a process wrote: on the clock that all processes of the machine share. */
interface Span {
  startMs: number;
  endMs: number;
}

const writers = 2;

/** One of the writers, each with keys of its own: so what every key must hold is known. */
async function write(round: Round, share: number, ready: () => Promise<void>): Promise<Span> {
  const writes = new Writes(round, 100_000, share, writers);
  const connection = await round.open();
  const total = writes.operations + warmUpOf(writes.operations);
  const begin = warmUpOf(writes.operations);
  await writeAll(connection, 0, begin, writes.keyOf, writes.valueFor);
  await ready();
  const startMs = performance.timeOrigin + performance.now();
  await writeAll(connection, begin, total, writes.keyOf, writes.valueFor);
  const endMs = performance.timeOrigin + performance.now();
  await writes.check(connection);
  await connection.close();
  return { startMs, endMs };
}

async function twoWritersRound(round: Round): Promise<Measurement> {
  const helper = await round.fork();
  const ours = await write(round, 0, async () => helper.go());
  const theirs = (await helper.result) as Span;
  const operations = writers * new Writes(round, 100_000).operations;
  const spanMs = Math.max(ours.endMs, theirs.endMs) - Math.min(ours.startMs, theirs.startMs);
  return { value: (spanMs * 1e6) / operations, operations };
}

export const twoWriters: Work = {
  name: 'two-writers',
  title: 'two processes writing, 1,024 in flight each, as one total',
  unit: 'ns',
  store: { medium: 'disk', values: 'strings', filled: 'each round' },
  goals: { lmdb: 5 },
  run: twoWritersRound,
  helper: (round, ready) => write(round, 1, ready),
};
