import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import type { ByteResults } from './byte-results.js';
import type { IpcAddon } from './ipc/native.js';
import type { ReadPart } from './mapped-file-reads.js';
import type { StoreAddon } from './store/native.js';

/** An open map of the native part: opaque. Closed by mapClose, or some time after it is collected. */
export interface MapHandle {
  readonly __kind: 'map';
}

/** How a map is opened; -1 where a size or length was not given. */
export type MapArguments = [
  readOnly: boolean,
  create: boolean,
  exclusive: boolean,
  permissions: number,
  size: number,
  offset: number,
  length: number,
  shared: boolean,
];

/** What the whole process holds of libuv's threads. */
export interface Gate {
  readonly threads: number;
  readonly limit: number;
  readonly running: number;
}

/** What one handle's jobs did, as in StoreStats.queue. */
export interface QueueStats {
  waiting: number;
  running: number;
  requests: number;
  operations: number;
  waitedMs: number;
  workedMs: number;
}

/**
 * What csrc/binding/ exports to JavaScript. It checks no more than that nothing crashes: ranges and types are checked
 * before. What it throws or rejects with is made an error by errors.ts.
 */
export interface Addon extends StoreAddon, IpcAddon {
  readonly version: string;

  lastJobId(): number;
  cancelJob(id: number): boolean;
  setConcurrency(threads: number): number;
  gate(): Gate;

  mapOpen(path: string, ...options: MapArguments): Promise<MapHandle>;
  mapAdopt(fd: number, ...options: MapArguments): Promise<MapHandle>;
  mapClose(handle: MapHandle): Promise<void>;
  mapSize(handle: MapHandle): number;
  mapRead(handle: MapHandle, ranges: Float64Array): Promise<ByteResults>;
  mapReadEach(handle: MapHandle, ranges: Float64Array, onPart: (part: ReadPart) => void): Promise<ReadPart>;
  mapTryRead(handle: MapHandle, target: Uint8Array, position: number): number;
  mapReadSync(handle: MapHandle, target: Uint8Array, position: number): number;
  mapWrite(handle: MapHandle, parts: readonly Uint8Array[], positions: Float64Array): Promise<void>;
  mapWriteSync(handle: MapHandle, data: Uint8Array, position: number): void;
  mapResize(handle: MapHandle, size: number): Promise<void>;
  mapFlush(handle: MapHandle, position: number, length: number): Promise<void>;
  mapLock(handle: MapHandle, position: number, length: number): Promise<void>;
  mapUnlock(handle: MapHandle, position: number, length: number): Promise<void>;
  mapResidency(handle: MapHandle, position: number, length: number): Promise<number>;
  mapAdvise(handle: MapHandle, position: number, length: number, advice: number): Promise<void>;
  mapQueue(handle: MapHandle): QueueStats;
}

const load = createRequire(import.meta.url)('node-gyp-build') as (directory: string) => Addon;

/** The native part: the prebuilt binary for this platform, or what was compiled at installation. */
export const addon: Addon = load(fileURLToPath(new URL('..', import.meta.url)));
