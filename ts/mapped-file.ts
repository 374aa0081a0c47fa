import { constants } from 'node:buffer';
import type { Readable, Writable } from 'node:stream';
import { untilAbort } from './abort.js';
import { addon, type MapArguments, type MapHandle } from './addon.js';
import {
  checkBoolean,
  checkBytes,
  checkInteger,
  checkIterable,
  checkOptions,
  checkSignal,
  checkUint8Array,
  wrongType,
} from './arguments.js';
import { type ByteResults, resultAt, resultCount } from './byte-results.js';
import { COLD, type Cold } from './cold.js';
import { callNative, newError } from './errors.js';
import { runJob } from './jobs.js';
import { type Location, toPath } from './location.js';
import { ReadGathering } from './mapped-file-reads.js';
import {
  type MapReadStreamOptions,
  type MapWriteStreamOptions,
  newReadStream,
  newWriteStream,
} from './mapped-file-streams.js';
import type { OpenFlags, ReadOptions } from './options.js';

/** How {@link MappedFile.open} maps a file. Sizes and offsets in bytes: safe integers >= 0. */
export interface MapOptions extends OpenFlags {
  /** Of a file that is created, or grow to it. The space is reserved: ERR_NO_SPACE where there is not enough. */
  size?: number;
  /** Where the window starts in the file. Default 0; no page alignment asked. */
  offset?: number;
  /** Length of the window; it cannot be resized then. Default: up to the end of the file. */
  length?: number;
  /** Default true. false: writes stay private to this process. */
  shared?: boolean;
}

/** Kinds of advice, in the order of os::Advice of the native part. */
const advices = ['normal', 'sequential', 'random', 'willneed', 'dontneed'] as const;
export type Advice = (typeof advices)[number];

/** Reads of more than this are jobs of their own. */
const maxGatheredBytes = 64 * 1024;
/** Piece size of the asynchronous iteration, bytes. */
const iterationBytes = 64 * 1024;

/**
 * A file, or a window of one, mapped into memory: bytes at positions that count from the window's start.
 *
 * No promise method ever waits on the calling thread. All of them reject with a FaultlessError: ERR_CLOSED after close(),
 * ERR_INVALID_ARG_TYPE and ERR_OUT_OF_RANGE for what is no position, length or size, and ERR_IO where the device failed or
 * somebody cut the file short under the map. That concerns the one operation; the process and other operations go on.
 */
export class MappedFile implements AsyncIterable<Buffer>, AsyncDisposable {
  readonly #handle: MapHandle;
  readonly #readOnly: boolean;
  readonly #reads: ReadGathering;
  #closing: Promise<void> | undefined;

  private constructor(handle: MapHandle, readOnly: boolean) {
    this.#handle = handle;
    this.#readOnly = readOnly;
    this.#reads = new ReadGathering(handle);
  }

  /**
   * Opens and maps a file.
   *
   * ERR_NOT_FOUND (and not `create`), ERR_EXISTS (`exclusive`), ERR_ACCESS, ERR_UNSUPPORTED (a directory, device or pipe),
   * ERR_OUT_OF_RANGE (a window that is not within the file), ERR_READ_ONLY (growing to `size` by a read-only map),
   * ERR_NO_SPACE, ERR_IO, ERR_INVALID_ARG_VALUE (the location).
   */
  static async open(location: Location, options: MapOptions = {}): Promise<MappedFile> {
    const path = toPath(location);
    const native = toMapArguments(options);
    return MappedFile.#openBy(() => addon.mapOpen(path, ...native), native, options.signal);
  }

  /**
   * Maps what a FileHandle or numeric descriptor has open. It is duplicated during the call and stays the caller's, to be closed
   * at any time. `create` and `permissions` count for nothing.
   *
   * ERR_ACCESS where the descriptor is not open for reading, or for writing where that is asked for; ERR_INVALID_ARG_VALUE where it is
   * not open at all; otherwise as open().
   */
  static async fromHandle(handle: { fd: number } | number, options: MapOptions = {}): Promise<MappedFile> {
    const fd = typeof handle === 'object' && handle !== null ? handle.fd : handle;
    if (typeof fd !== 'number') throw wrongType('handle', 'a FileHandle or a file descriptor');
    checkInteger('fd', fd, 0, 2 ** 31 - 1);
    const native = toMapArguments(options);
    return MappedFile.#openBy(() => callNative(() => addon.mapAdopt(fd, ...native)), native, options.signal);
  }

  static async #openBy(
    start: () => Promise<MapHandle>,
    native: MapArguments,
    signal: AbortSignal | undefined,
  ): Promise<MappedFile> {
    const handle = await runJob(start, signal, (unheard) => void addon.mapClose(unheard));
    return new MappedFile(handle, native[0]);
  }

  /** A fresh Buffer; shorter than asked only at the end of the map. */
  read(position: number, length: number, options: ReadOptions = {}): Promise<Buffer> {
    try {
      this.#checkRange(position, length);
      checkOptions(options);
      const signal = checkSignal(options.signal);
      if (signal === undefined && length <= maxGatheredBytes) return this.#reads.read(position, length);
    } catch (error) {
      return Promise.reject(error);
    }
    return this.#readAlone(position, length, options);
  }

  /** By a job of its own: so that it can be taken out by itself, and others do not wait for what is large. */
  async #readAlone(position: number, length: number, options: ReadOptions): Promise<Buffer> {
    const results = await this.#readRanges(Float64Array.of(position, length), options);
    return resultAt(results, 0) as Buffer;
  }

  /**
   * Fills `target` from the position on and answers how many bytes that were: fewer than it holds only at the end of the map.
   * `target` changes when the promise resolves, not before.
   */
  async readInto(target: Uint8Array, position: number, options: ReadOptions = {}): Promise<number> {
    checkUint8Array('target', target);
    const bytes = await this.read(position, target.length, options);
    if (target.length < bytes.length) throw newError('ERR_INVALID_ARG_VALUE', 'target was made shorter meanwhile');
    target.set(bytes);
    return bytes.length;
  }

  /** All ranges in one job, the device told of all of them first. Rejects where any of them fails. */
  async readMany(
    ranges: Iterable<readonly [position: number, length: number]>,
    options: ReadOptions = {},
  ): Promise<Buffer[]> {
    const numbers: number[] = [];
    let total = 0;
    for (const range of checkIterable('ranges', ranges)) {
      if (!Array.isArray(range)) throw wrongType('each range', 'an array of position and length');
      const [position, length] = range as readonly [number, number];
      this.#checkRange(position, length);
      numbers.push(position, length);
      total += this.#clip(position, length);
    }
    this.#checkOpen();
    checkReadable(total);
    const results = await this.#readRanges(Float64Array.from(numbers), options);
    return Array.from({ length: resultCount(results) }, (_, index) => resultAt(results, index) as Buffer);
  }

  /**
   * Writes bytes, or a string as UTF-8, and answers how many bytes that were. The bytes are captured during the call.
   * Past the end: ERR_OUT_OF_RANGE, nothing is written (resize first). ERR_READ_ONLY, ERR_NO_SPACE.
   */
  async write(data: Uint8Array | string, position: number, options: { signal?: AbortSignal } = {}): Promise<number> {
    const bytes = toBytes(data);
    this.#checkWrite(position, bytes.length);
    const signal = toSignal(options);
    await this.#run(() => addon.mapWrite(this.#handle, [bytes], Float64Array.of(position)), signal);
    return bytes.length;
  }

  /**
   * All parts in one job, in their order. The bytes are captured during the call. Where any part reaches past the end none is
   * written (ERR_OUT_OF_RANGE); after other failures some may be.
   */
  async writeMany(
    parts: Iterable<readonly [position: number, data: Uint8Array]>,
    options?: ReadOptions,
  ): Promise<void> {
    const signal = toSignal(options);
    const all: Uint8Array[] = [];
    const positions: number[] = [];
    for (const part of checkIterable('parts', parts)) {
      if (!Array.isArray(part)) throw wrongType('each part', 'an array of position and data');
      const [position, data] = part as readonly [number, Uint8Array];
      checkUint8Array('data', data);
      this.#checkWrite(position, data.length);
      all.push(data);
      positions.push(position);
    }
    this.#checkWrite(0, 0);
    await this.#run(() => addon.mapWrite(this.#handle, all, Float64Array.from(positions)), signal);
  }

  /** Like read(), now: or COLD where some byte is not in memory for certain. Never waits. */
  tryRead(position: number, length: number): Buffer | Cold {
    this.#checkRange(position, length);
    const target = this.#newTarget(position, length);
    const got = callNative(() => addon.mapTryRead(this.#handle, target, position));
    return got < 0 ? COLD : shortened(target, got);
  }

  /** Like read(). May block. */
  readSync(position: number, length: number): Buffer {
    this.#checkRange(position, length);
    const target = this.#newTarget(position, length);
    return shortened(
      target,
      callNative(() => addon.mapReadSync(this.#handle, target, position)),
    );
  }

  /** Like write(). May block. */
  writeSync(data: Uint8Array | string, position: number): number {
    const bytes = toBytes(data);
    this.#checkWrite(position, bytes.length);
    callNative(() => addon.mapWriteSync(this.#handle, bytes, position));
    return bytes.length;
  }

  /**
   * Makes the map end at `size`, and the file with it: longer with the space reserved (ERR_NO_SPACE), or cut. A file that others made
   * longer is not cut by growing within it. Operations issued before finish first, later ones come after.
   * ERR_READ_ONLY; ERR_UNSUPPORTED with `shared: false` or a given `length`.
   */
  async resize(size: number, options?: ReadOptions): Promise<void> {
    checkBytes('size', size);
    const signal = toSignal(options);
    this.#checkOpen();
    await this.#run(() => addon.mapResize(this.#handle, size), signal);
  }

  /** Resolves once a power cut cannot undo what was written to the range (default: all) before the call. */
  async flush(position?: number, length?: number, options?: ReadOptions): Promise<void> {
    const range = this.#range(position, length);
    const signal = toSignal(options);
    await this.#run(() => addon.mapFlush(this.#handle, ...range), signal);
  }

  /** Tells the system how the range (default: all) will be used. ERR_INVALID_ARG_VALUE for another advice. */
  async advise(advice: Advice, position?: number, length?: number, options?: ReadOptions): Promise<void> {
    if (typeof advice !== 'string') throw wrongType('advice', 'a string');
    const index = advices.indexOf(advice);
    if (index < 0) throw newError('ERR_INVALID_ARG_VALUE', `advice must be one of ${advices.join(', ')}`);
    const range = this.#range(position, length);
    const signal = toSignal(options);
    await this.#run(() => addon.mapAdvise(this.#handle, ...range, index), signal);
  }

  /** Share of the range's pages (default: all) that is in memory now, 0 … 1; 1 for an empty range. ERR_UNSUPPORTED where it cannot be known. */
  async residency(position?: number, length?: number, options?: ReadOptions): Promise<number> {
    const range = this.#range(position, length);
    const signal = toSignal(options);
    return this.#run(() => addon.mapResidency(this.#handle, ...range), signal);
  }

  /** Locks the range (default: all) into memory: hot from then on. ERR_MEMLOCK where the system refuses. */
  async lock(position?: number, length?: number, options?: ReadOptions): Promise<void> {
    const range = this.#range(position, length);
    const signal = toSignal(options);
    await this.#run(() => addon.mapLock(this.#handle, ...range), signal);
  }

  /** Undoes lock(), also of a part; harmless where nothing is locked. */
  async unlock(position?: number, length?: number, options?: ReadOptions): Promise<void> {
    const range = this.#range(position, length);
    const signal = toSignal(options);
    await this.#run(() => addon.mapUnlock(this.#handle, ...range), signal);
  }

  /** The bytes from `start` (default 0) up to and with `end` (default: the end of the map), in pieces of `highWaterMark` (64 KiB). */
  createReadStream(options: MapReadStreamOptions = {}): Readable {
    this.#checkOpen();
    return newReadStream(this, options);
  }

  /** Writes from `start` (default 0) on. Past the end of the map it fails with ERR_OUT_OF_RANGE. */
  createWriteStream(options: MapWriteStreamOptions = {}): Writable {
    this.#checkWrite(0, 0);
    return newWriteStream(this, options);
  }

  /** The whole map in pieces of 64 KiB. */
  async *[Symbol.asyncIterator](): AsyncIterableIterator<Buffer> {
    for (let position = 0; ; ) {
      const piece = await this.read(position, iterationBytes);
      if (piece.length === 0) return;
      position += piece.length;
      yield piece;
    }
  }

  /** Bytes of the map; 0 once it is closed. */
  get size(): number {
    return this.closed ? 0 : addon.mapSize(this.#handle);
  }

  get readOnly(): boolean {
    return this.#readOnly;
  }

  /** True from the call of close() on. */
  get closed(): boolean {
    return this.#closing !== undefined;
  }

  /**
   * Unmaps and closes once everything issued before has finished. Again: harmless, and resolves when the first one does.
   * An abort ends the waiting alone: the file is closed all the same, as soon as the device lets it.
   */
  async close(options?: ReadOptions): Promise<void> {
    const signal = toSignal(options);
    this.#closing ??= this.#run(() => addon.mapClose(this.#handle));
    await untilAbort(this.#closing, signal);
  }

  /** close(). */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Starts a job; what was issued before it comes first. */
  #run<T>(start: () => Promise<T>, signal?: AbortSignal | undefined): Promise<T> {
    this.#reads.send();
    return runJob(start, signal);
  }

  #checkOpen(): void {
    if (this.#closing !== undefined) throw newError('ERR_CLOSED', 'The mapped file is closed');
  }

  #checkRange(position: number, length: number): void {
    checkBytes('position', position);
    checkBytes('length', length);
    this.#checkOpen();
    if (length > constants.MAX_LENGTH) checkReadable(this.#clip(position, length));
  }

  #checkWrite(position: number, length: number): void {
    checkBytes('position', position);
    this.#checkOpen();
    if (this.#readOnly) throw newError('ERR_READ_ONLY', 'The file is mapped for reading only');
    if (position + length > Number.MAX_SAFE_INTEGER) throw newError('ERR_OUT_OF_RANGE', 'Past the end of the map');
  }

  /** The range from `position` (default 0) of `length` (default: to the end). */
  #range(position: number | undefined, length: number | undefined): [position: number, length: number] {
    const start = position === undefined ? 0 : checkBytes('position', position);
    const bytes = length === undefined ? Number.MAX_SAFE_INTEGER : checkBytes('length', length);
    this.#checkOpen();
    return [start, bytes];
  }

  #clip(position: number, length: number): number {
    return Math.max(0, Math.min(length, this.size - position));
  }

  #newTarget(position: number, length: number): Buffer {
    return Buffer.allocUnsafe(this.#clip(position, length));
  }

  async #readRanges(ranges: Float64Array, options: ReadOptions): Promise<ByteResults> {
    const signal = toSignal(options);
    return this.#run(() => addon.mapRead(this.#handle, ranges), signal);
  }
}

function toSignal(options: ReadOptions | undefined): AbortSignal | undefined {
  checkOptions(options);
  return checkSignal(options?.signal);
}

function checkReadable(length: number): void {
  if (length <= constants.MAX_LENGTH) return;
  throw newError('ERR_OUT_OF_RANGE', `A Buffer holds at most ${constants.MAX_LENGTH} bytes: read it in pieces`);
}

function shortened(target: Buffer, length: number): Buffer {
  return length === target.length ? target : target.subarray(0, length);
}

function toBytes(data: Uint8Array | string): Uint8Array {
  if (typeof data === 'string') return Buffer.from(data);
  return checkUint8Array('data', data);
}

function toMapArguments(options: MapOptions): MapArguments {
  checkOptions(options);
  checkSignal(options.signal);
  const { permissions = 0o600, size, offset = 0, length } = options;
  return [
    checkBoolean('readOnly', options.readOnly, true),
    checkBoolean('create', options.create, false),
    checkBoolean('exclusive', options.exclusive, false),
    checkInteger('permissions', permissions, 0, 0o7777),
    size === undefined ? -1 : checkBytes('size', size),
    checkBytes('offset', offset),
    length === undefined ? -1 : checkBytes('length', length),
    checkBoolean('shared', options.shared, true),
  ];
}
