import { addon } from './addon.js';

export type { QueueStats } from './addon.js';
export type { Codec } from './codec/codec.js';
export type { Value } from './codec/value.js';
export { COLD, type Cold } from './cold.js';
export { type ErrorCode, FaultlessError } from './errors.js';
export { Exchange, type ExchangeOptions } from './ipc/exchange.js';
export { Log, type LogLine, type LogOptions } from './ipc/log.js';
export type { Queue } from './ipc/queue.js';
export { Segment, type SegmentOptions, type WaitOptions, type WaitOutcome } from './ipc/segment.js';
export type { Location } from './location.js';
export { type Advice, type MapOptions, MappedFile } from './mapped-file.js';
export type { MapReadStreamOptions, MapWriteStreamOptions } from './mapped-file-streams.js';
export type { LongWork, OpenFlags, ReadOptions } from './options.js';
export type { Batch, CommitOptions } from './store/batch.js';
export type {
  StoreErrorMessage,
  StoreGrowthMessage,
  StoreMessage,
  StoreOpenMessage,
  StoreProgressMessage,
  StoreSlowMessage,
} from './store/diagnostics.js';
export type { Key } from './store/key.js';
export type { KeyValueStore } from './store/key-value-store.js';
export { asObject } from './store/object.js';
export type { StoreStats } from './store/stats.js';
export { Store } from './store/store.js';
export type { IterateOptions, StoreOptions, WriteOptions } from './store/store-options.js';
export type { VerifyReport } from './store/verification.js';
export type { Change, WatchOptions } from './store/watch.js';

/** The version of the native part. */
export const version: string = addon.version;
