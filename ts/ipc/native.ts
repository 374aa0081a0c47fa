/** An open segment of the native part: opaque. */
export interface SegmentHandle {
  readonly __kind: 'segment';
}

/** How a segment is opened; size -1 where it was not given. */
export type SegmentArguments = [
  readOnly: boolean,
  create: boolean,
  exclusive: boolean,
  permissions: number,
  size: number,
];

/** An open exchange of the native part: opaque. */
export interface ExchangeHandle {
  readonly __kind: 'exchange';
}

/** How an exchange is opened; 0, [] and '' where something was not given. */
export type ExchangeArguments = [
  readOnly: boolean,
  create: boolean,
  exclusive: boolean,
  permissions: number,
  elements: number,
  elementSize: number,
  queues: readonly string[],
  reclaimTo: string,
];

export interface ExchangeInfo {
  elements: number;
  elementSize: number;
  /** From one element to the next, bytes. */
  stride: number;
  queues: string[];
}

/** An open log of the native part: opaque. */
export interface LogHandle {
  readonly __kind: 'log';
}

/** What a log is waited for, in the order of Event in csrc/binding/ipc_log.cc. */
export const logEvents = { room: 0, lines: 1, reader: 2 } as const;

/** Lines: their bytes, their times, and five numbers for each: pid, thread, offset, length, position for logDone. */
export type LogLines = [bytes: Buffer, times: BigUint64Array, numbers: Float64Array];

/** What csrc/binding/ipc_*.cc export. As in addon.ts: ranges and types have been checked before. */
export interface IpcAddon {
  /** Of the wait begun last. */
  ipcLastWait(): number;
  /** Its promise rejects: with ERR_CLOSED, or as aborted. False where it is over. */
  ipcCancelWait(id: number, closed: boolean): boolean;

  segmentOpen(path: string, ...options: SegmentArguments): Promise<SegmentHandle>;
  segmentOpenSync(path: string, ...options: SegmentArguments): SegmentHandle;
  segmentDestroy(path: string): Promise<void>;
  segmentBuffer(handle: SegmentHandle): ArrayBuffer;
  segmentInfo(handle: SegmentHandle): [size: number, created: boolean];
  /** A number: what it comes to at once. 0 ok, 1 not equal, 2 timed out. */
  segmentWait(handle: SegmentHandle, place: number, value: number, timeoutMs: number): number | Promise<number>;
  segmentNotify(handle: SegmentHandle, place: number, count: number): number;
  segmentClose(handle: SegmentHandle, buffer: ArrayBuffer | undefined): void;

  exchangeOpen(path: string, ...options: ExchangeArguments): Promise<ExchangeHandle>;
  exchangeDestroy(path: string): Promise<void>;
  exchangeInfo(handle: ExchangeHandle): ExchangeInfo;
  exchangeBuffer(handle: ExchangeHandle): ArrayBuffer;
  exchangeReclaim(handle: ExchangeHandle): Promise<number>;
  exchangeClose(handle: ExchangeHandle, buffer: ArrayBuffer | undefined): Promise<void>;
  queuePush(handle: ExchangeHandle, queue: number, id: number): void;
  /** -1: it is empty. */
  queuePull(handle: ExchangeHandle, queue: number): number;
  queuePushMany(handle: ExchangeHandle, queue: number, ids: Uint32Array): void;
  queuePullMany(handle: ExchangeHandle, queue: number, into: Uint32Array): number;
  queueLength(handle: ExchangeHandle, queue: number): number;
  /** What queueWait is to be given, if a pull that comes after it finds nothing. */
  queueAnnounce(handle: ExchangeHandle, queue: number): number;
  queueWait(handle: ExchangeHandle, queue: number, announced: number): Promise<void>;

  /** capacity 0: not given. */
  logOpen(
    path: string,
    readOnly: boolean,
    create: boolean,
    exclusive: boolean,
    permissions: number,
    capacity: number,
    thread: number,
  ): Promise<LogHandle>;
  logDestroy(path: string): Promise<void>;
  /** -1: it is written; else how many bytes there is no room for. */
  logWrite(handle: LogHandle, line: string | Uint8Array): number;
  logCountDropped(handle: LogHandle, more: 0 | 1): void;
  logDropped(handle: LogHandle): number;
  logHasRoom(handle: LogHandle, bytes: number): boolean;
  logTryReading(handle: LogHandle): boolean;
  logStopReading(handle: LogHandle): void;
  /** What logWait is to be given, if a look that comes after it finds nothing. */
  logAnnounce(handle: LogHandle, event: number): number;
  logWait(handle: LogHandle, event: number, announced: number): Promise<void>;
  logRead(handle: LogHandle, from: number, mostBytes: number): LogLines | undefined;
  logDone(handle: LogHandle, position: number): void;
  logClose(handle: LogHandle): void;
}
