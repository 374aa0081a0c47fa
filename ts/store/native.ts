import type { QueueStats } from '../addon.js';

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

export interface NativeOpenOptions {
  path: string;
  readOnly: boolean;
  create: boolean;
  exclusive: boolean;
  permissions: number;
  pin: boolean;
  allowRemote: boolean;
  /** 0: not given. */
  maxBytes: number;
  codec: string;
  /** Of a recovery; must not throw. */
  onProgress: ((done: number, total: number) => void) | undefined;
}

/** What a turn of a request left to say; undefined where all succeeded without a value. */
export interface Report {
  /** Where the values are that the answers in the request's buffer point to. */
  slabs: Buffer[];
  /** index, descriptor, index, descriptor … */
  errors: unknown[] | undefined;
  /** Operations that need another turn. */
  left: number;
  /** Some of them because of a lock that is held: better after a pause. */
  blocked: boolean;
}

/** A step of an iteration: six numbers per entry in `table`, slab, offset and size of its key and of its value. */
export interface ScanStep {
  count: number;
  table: Uint32Array;
  slabs: Buffer[];
  done: boolean;
}

/** A step of a verification; the last one has the outcome. */
export interface VerifyStep {
  done: number;
  total: number;
  records?: number;
  bytes?: number;
  /** offset, reason, offset, reason … */
  damaged?: (number | string)[];
}

export interface NativeStoreStats {
  keys: number;
  liveBytes: number;
  garbageBytes: number;
  fileBytes: number;
  freeBytes: number;
  maxBytes: number;
  shards: number;
  buckets: number;
  maxBuckets: number;
  loadFactor: number;
  maxLoadFactor: number;
  queue: QueueStats;
  lockedBytes: number;
  fastPath: boolean;
}

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
    buffer: Uint8Array,
    count: number,
    largeValues: readonly Uint8Array[] | undefined,
  ): NativeRequest;
  storeRun(request: NativeRequest): Promise<Report | undefined>;
  storeFinish(request: NativeRequest, index: number): void;
  storeCancel(request: NativeRequest, index: number): boolean;
  storeIsDone(request: NativeRequest, index: number): boolean;

  storeScan(handle: StoreHandle, prefix: Uint8Array, wantValues: boolean): NativeScan;
  storeScanStep(scan: NativeScan, maxBytes: number, limit: number): Promise<ScanStep>;
  storeScanStepSync(scan: NativeScan, maxBytes: number, limit: number): ScanStep;

  storeVerification(handle: StoreHandle): NativeVerification;
  storeVerifyStep(verification: NativeVerification): Promise<VerifyStep>;

  storeGetSync(handle: StoreHandle, scratch: Uint8Array, keyBytes: number): number | Buffer;
  storeTryGet(handle: StoreHandle, scratch: Uint8Array, keyBytes: number): number | Buffer;
  storeHasSync(handle: StoreHandle, scratch: Uint8Array, keyBytes: number): number;
  storeTryHas(handle: StoreHandle, scratch: Uint8Array, keyBytes: number): number;
  storeSetSync(handle: StoreHandle, scratch: Uint8Array, keyBytes: number, value: number | Uint8Array): void;
  storeDeleteSync(handle: StoreHandle, scratch: Uint8Array, keyBytes: number): boolean;
  storeClearSync(handle: StoreHandle): void;
}
