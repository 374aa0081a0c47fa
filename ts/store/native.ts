import type { StoreStats } from './stats.js';

/** An open store of the native part: opaque. */
export interface StoreHandle {
  readonly __kind: 'store';
}

/** Operations handed to the native part: opaque. See csrc/binding/store_request.h. */
export interface NativeRequest {
  readonly __kind: 'request';
}

/** An iteration of the native part: opaque. */
export interface NativeScan {
  readonly __kind: 'scan';
}

/** A verification of the native part: opaque. */
export interface NativeVerification {
  readonly __kind: 'verification';
}

/** A watcher of the native part: opaque. */
export interface NativeWatch {
  readonly __kind: 'watch';
}

/** Keys that are brought into memory: opaque. */
export interface NativeWarming {
  readonly __kind: 'warming';
}

/** A compaction of the native part: opaque. */
export interface NativeCompaction {
  readonly __kind: 'compaction';
}

/** A backup of the native part: opaque. */
export interface NativeBackup {
  readonly __kind: 'backup';
}

export interface NativeOpenOptions {
  path: string;
  readOnly: boolean;
  create: boolean;
  exclusive: boolean;
  permissions: number;
  pin: boolean;
  salvage: boolean;
  allowRemote: boolean;
  temporary: boolean;
  /** 0: not given. */
  maxBytes: number;
  /** 0: not given, 1: 'error', 2: 'evict'. */
  onFull: 0 | 1 | 2;
  codec: string;
  /** Of a recovery; must not throw. */
  onProgress: ((done: number, total: number) => void) | undefined;
}

/** What a turn of a request left to say; undefined where all succeeded, with all values in the request's own answers. */
export interface Report {
  /** Where the values are that the answers in the headers point to; undefined: in the request's own answers. */
  slabs: (Buffer | undefined)[];
  /** index, descriptor, index, descriptor … */
  errors: unknown[] | undefined;
  /** Operations that need another turn. */
  left: number;
  /** Some of them because of a lock that is held: better after a pause. */
  blocked: boolean;
}

/**
 * A step of an iteration: six numbers per entry in `table`, slab, offset and size of its key and of its value. A slab that
 * is a string is ASCII.
 */
export interface ScanStep {
  count: number;
  table: Uint32Array;
  keySlabs: (string | Buffer)[];
  valueSlabs: (string | Buffer)[];
  done: boolean;
}

/**
 * What a step of a watcher found: seven numbers per change in `table`, its kind (see watch.ts) and slab, offset and size of
 * its key and of its value. A slab that is a string is ASCII.
 */
export interface ChangeStep {
  table: Uint32Array;
  keySlabs: (string | Buffer)[];
  valueSlabs: Buffer[];
  /** There was nothing (more): the next step is for when the bell is not `bell` any more, or `waitMs` have passed. */
  idle: boolean;
  bell: number;
  waitMs: number;
}

/** How far long work is after some steps. */
export interface WorkStep {
  done: number;
  total: number;
  over: boolean;
}

/** The last step of a verification has its outcome. */
export interface VerifyStep extends WorkStep {
  records?: number;
  bytes?: number;
  /** offset, reason, offset, reason … */
  damaged?: (number | string)[];
}

/** A step of a compaction; the last one has the outcome. */
export interface CompactStep extends WorkStep {
  freedBytes?: number;
}

/** The control region of a store, as 32-bit words that other processes change. Never written to. */
export interface NativeVersions {
  buffer: ArrayBuffer;
  /** Index of the word that moves on where all versions count for nothing any more. */
  epochWord: number;
  /** Index of version slot 0. */
  firstSlotWord: number;
}

/**
 * Calls on one key of one store, on the calling thread: `keyBytes` of it at the start of the scratch buffer. Answers: a
 * value's size in the scratch buffer, or the value itself (text, or bytes of its own); -1: absent; -2: cold.
 */
export interface SyncCalls {
  get(keyBytes: number): number | string | Buffer;
  tryGet(keyBytes: number): number | string | Buffer;
  has(keyBytes: number): number;
  tryHas(keyBytes: number): number;
  set(keyBytes: number, value: number | Uint8Array): void;
  delete(keyBytes: number): boolean;
}

/** All but what JavaScript counts itself. */
export type NativeStoreStats = Omit<StoreStats, 'hot'>;

/** What csrc/binding/store_*.cc export. */
export interface StoreAddon {
  /** The range of maxBytes. */
  readonly storeMinMaxBytes: number;
  readonly storeLargestMaxBytes: number;

  storeOpen(options: NativeOpenOptions): Promise<StoreHandle>;
  storeOpenSync(options: NativeOpenOptions): StoreHandle;
  storeDestroy(path: string): Promise<void>;
  storeClose(handle: StoreHandle): Promise<void>;
  storeCloseSync(handle: StoreHandle): void;
  storeFlush(handle: StoreHandle): Promise<void>;
  storeFlushSync(handle: StoreHandle): void;
  storeResidency(handle: StoreHandle): Promise<number>;
  storeSize(handle: StoreHandle): number;
  storeStats(handle: StoreHandle): NativeStoreStats;

  storeRequest(
    handle: StoreHandle,
    headers: Int32Array,
    bytes: Uint8Array,
    usedBytes: number,
    count: number,
    answers: Uint8Array | undefined,
    largeValues: readonly Uint8Array[] | undefined,
  ): NativeRequest;
  storeRun(request: NativeRequest): Promise<Report | undefined>;
  /** The header has the answer then; what else there is comes with a report. */
  storeFinish(request: NativeRequest, index: number): void;
  storeCancel(request: NativeRequest, index: number): boolean;
  storeIsDone(request: NativeRequest, index: number): boolean;
  /** Milliseconds in which its turns had no thread, and had one. */
  storeTimes(request: NativeRequest): [waitedMs: number, workedMs: number];

  storeScan(handle: StoreHandle, prefix: Uint8Array, wantValues: boolean, textKeys: boolean): NativeScan;
  storeScanStep(scan: NativeScan, maxBytes: number, limit: number, textValues: boolean): Promise<ScanStep>;
  storeScanStepSync(scan: NativeScan, maxBytes: number, limit: number, textValues: boolean): ScanStep;
  storeScanEnd(scan: NativeScan): void;

  storeVerification(handle: StoreHandle): NativeVerification;
  storeVerifyStep(verification: NativeVerification): Promise<VerifyStep>;

  storeWarming(handle: StoreHandle, packed: Uint8Array): NativeWarming;
  storeWarmStep(warming: NativeWarming): Promise<WorkStep>;

  storeCompaction(handle: StoreHandle): NativeCompaction;
  storeCompactStep(compaction: NativeCompaction): Promise<CompactStep>;
  storeBackup(handle: StoreHandle, path: string): NativeBackup;
  storeBackupStep(backup: NativeBackup): Promise<WorkStep>;
  storeBackupEnd(backup: NativeBackup, publish: boolean): Promise<void>;

  storeWatch(handle: StoreHandle, prefix: Uint8Array): NativeWatch;
  storeWatchRead(watch: NativeWatch): Promise<ChangeStep>;
  storeWatchWait(watch: NativeWatch, bell: number, waitMs: number): Promise<void>;

  /** Whether uses are to be told: the store evicts and is writable. */
  storeCountsUses(handle: StoreHandle): boolean;
  /** Values with these tags have been used; and what tryGet has answered since the last call. */
  storeCarryUses(handle: StoreHandle, tags: Uint32Array): Promise<void>;
  storeVersions(handle: StoreHandle): NativeVersions | undefined;
  storeForgetVersions(buffer: ArrayBuffer): void;

  storeSync(handle: StoreHandle, scratch: Uint8Array, textMark: number): SyncCalls;
  storeClearSync(handle: StoreHandle): void;

  storeSetTtlSync(handle: StoreHandle, key: Uint8Array, value: Uint8Array, ttl: number, keepTtl: boolean): void;
  storeCompareAndSetSync(
    handle: StoreHandle,
    key: Uint8Array,
    expected: Uint8Array | undefined,
    value: Uint8Array | undefined,
    ttl: number,
    keepTtl: boolean,
  ): boolean;
  storeIncrementSync(handle: StoreHandle, key: Uint8Array, by: number, ttl: number, keepTtl: boolean): number;
  storeReadSync(handle: StoreHandle, key: Uint8Array): Buffer | undefined;
  /** The store's clock, milliseconds since 1970. Never waits. */
  storeNow(handle: StoreHandle): number;
}
