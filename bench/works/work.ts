/** What a work is, and what it gets to do it with. */
import type { Values } from '../data.js';
import type { Distribution } from '../report/latencies.js';
import type { Connection, OpenOptions, Place, SystemName } from '../systems/system.js';

/** How much a round does. */
export interface Scale {
  /** In the store. */
  keys: number;
  /** Part of a work's usual number of operations: more than 0, at most 1. */
  effort: number;
}

export interface Measurement {
  /** Nanoseconds per operation, or bytes per entry: the less the better. */
  value: number;
  /** Processor time of all threads of this process, nanoseconds per operation. */
  cpuNs?: number;
  operations: number;
  /** Of single operations, where the work takes their times. */
  latencies?: Distribution;
  /** What else was counted. */
  details?: Record<string, number>;
}

/** One round of one work with one system, in a process of its own. */
export interface Round {
  readonly system: SystemName;
  readonly scale: Scale;
  /** Differs from round to round, and is the same for all systems of one. */
  readonly seed: number;
  readonly place: Place;
  readonly values: Values;
  open(options?: Partial<OpenOptions>): Promise<Connection>;
  /** Starts the work's `helper` in another process. */
  fork(): Promise<Helper>;
}

/** Another process that does a share of a round. */
export interface Helper {
  /** It is ready: now it is to begin; or, where it waits again, to go on. */
  go(): void;
  /** What it answered. */
  readonly result: Promise<unknown>;
}

export interface StoreNeeds {
  medium: Place['medium'];
  values: Values['kind'];
  /** With version 0 of all keys: once for all rounds, which only read then; for each round anew; or not at all. */
  filled: 'once' | 'each round' | 'no';
}

export interface Work {
  /** For --only. */
  readonly name: string;
  readonly title: string;
  readonly unit: 'ns' | 'bytes';
  /** undefined: it works on no store. */
  readonly store: StoreNeeds | undefined;
  /** Where more rounds would tell nothing new. */
  readonly maxRounds?: number;
  /** The peers. Ours is to be at least that many times as fast; undefined: no goal, only shown. */
  readonly goals: Partial<Record<SystemName, number | undefined>>;
  /** Ours is to be at most this, whatever the peers'. */
  readonly limit?: number;
  run(round: Round): Promise<Measurement>;
  /** What fork() runs: calls `ready` once it could begin, and goes on when that resolves; each go() resolves one. */
  readonly helper?: (round: Round, ready: () => Promise<void>) => Promise<unknown>;
}

/** The method of a connection, which must be there. */
export function need<T>(method: T | undefined, name: string): T {
  if (method === undefined) throw new Error(`there is no ${name} in this system`);
  return method;
}
