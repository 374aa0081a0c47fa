/** What is measured on the slow disk, and what a process is told and answers. */
import type { Distribution } from '../report/latencies.js';
import type { SystemName } from '../systems/system.js';
import type { LoopReport } from './loop-monitor.js';

export type Kind = 'store' | 'pages' | 'idle';

export interface Subject {
  readonly name: string;
  readonly kind: Kind;
  readonly system: SystemName | undefined;
  /** Answers on the calling thread: one read per turn of the event loop. */
  readonly sync?: boolean;
  /** libuv's. Default 4. */
  readonly threads?: number;
}

export const idle: Subject = { name: 'idle process', kind: 'idle', system: undefined };

export const subjects = {
  ours: { name: 'faultless get', kind: 'store', system: 'faultless' },
  lmdbAsync: { name: 'lmdb getAsync', kind: 'store', system: 'lmdb' },
  lmdbSync: { name: 'lmdb get', kind: 'store', system: 'lmdb', sync: true },
  level: { name: 'classic-level get', kind: 'store', system: 'classic-level' },
  mapped: { name: 'MappedFile.read', kind: 'pages', system: 'faultless' },
  handle: { name: 'FileHandle.read', kind: 'pages', system: 'fs' },
  device: { name: 'fs.read, 64 threads', kind: 'pages', system: 'fs', threads: 64 },
} as const satisfies Record<string, Subject>;

export interface DiskTask {
  what: 'fill' | 'measure';
  subject: Subject;
  /** Where store or file lie: one that is not cold, to warm up with, and the one on the slow disk. */
  near: string;
  far: string;
  /** Name of the store or file in both. */
  name: string;
  /** Of the store. */
  keys: number;
  pages: number;
  /** Reads to be made, and when to stop all the same. */
  reads: number;
  seconds: number;
  seed: number;
}

export interface DiskAnswer {
  reads: number;
  seconds: number;
  latencies: Distribution;
  loop: LoopReport;
}

export interface IdleAnswer {
  loop: LoopReport;
}

export const width = 64;
export const valueBytes = 1_500;
