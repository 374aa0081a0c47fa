import { threadId } from 'node:worker_threads';
import { addon } from '../addon.js';
import { checkBoolean, checkInteger, checkOptions, checkSignal, checkUint8Array } from '../arguments.js';
import { callNative, newError } from '../errors.js';
import { runJob } from '../jobs.js';
import type { Location } from '../location.js';
import type { OpenFlags, ReadOptions } from '../options.js';
import { type LogHandle, logEvents } from './native.js';
import { PendingWaits } from './pending-waits.js';
import { toSharedPath } from './shared-location.js';

const minCapacity = 4096;
const maxCapacity = 2 ** 40;
const numbersPerLine = 5;
/** Bytes of lines that are copied out of the log at a time. */
const batchBytes = 64 * 1024;

/** How {@link Log.open} opens a log. */
export interface LogOptions extends OpenFlags {
  /**
   * Bytes that lines may take which were not read yet, with 24 to 31 for each: 4,096 … 2^40, rounded up to 4,096. Default: 4 MiB. Where the log is
   * there already it must be this: else ERR_FORMAT.
   */
  capacity?: number;
}

/** A line that a process has written. */
export interface LogLine {
  /** When, by the wall clock: nanoseconds since 1970. */
  time: bigint;
  /** Of the process that wrote it, in its PID namespace. */
  pid: number;
  /** worker_threads' threadId there; 0: the main thread. */
  thread: number;
  /** Its bytes as they were written. */
  line: Buffer;
}

/**
 * Lines from many processes of this host, in one order, through memory that they share; one of the processes reads them out. Writing
 * takes a microsecond or less and never waits for a device, whatever becomes of the lines; it suits as a destination of pino: `pino({}, log)`.
 *
 * It lies in RAM, at `shm:NAME`, until it is destroyed or the machine restarts. A line is in it wholly or not at all, also where its writer is
 * killed, and stays until the reader is done with it, also when all processes have ended.
 */
export class Log implements AsyncDisposable {
  readonly #handle: LogHandle;
  readonly #waits: PendingWaits = new PendingWaits();
  /** The line that was refused last, and is counted as dropped unless it comes again. */
  #refused: string | Uint8Array | undefined;
  #refusedBytes = 0;
  #closed = false;

  private constructor(handle: LogHandle) {
    this.#handle = handle;
  }

  /**
   * Opens a log, or creates it where there is none (and not `create: false`).
   *
   * ERR_INVALID_ARG_VALUE: the location is not shm:NAME. ERR_NOT_FOUND, ERR_EXISTS (`exclusive`), ERR_ACCESS, ERR_NO_SPACE, ERR_FORMAT (another
   * capacity, or no log), ERR_CORRUPT, ERR_OUT_OF_RANGE, ERR_BUSY (512 have it open), ERR_UNSUPPORTED (`readOnly`).
   */
  static async open(location: Location, options: LogOptions = {}): Promise<Log> {
    const path = toSharedPath(location);
    checkOptions(options);
    const signal = checkSignal(options.signal);
    const readOnly = checkBoolean('readOnly', options.readOnly, false);
    const create = checkBoolean('create', options.create, true);
    const exclusive = checkBoolean('exclusive', options.exclusive, false);
    const { permissions = 0o600, capacity } = options;
    checkInteger('permissions', permissions, 0, 0o7777);
    const bytes = capacity === undefined ? 0 : checkInteger('capacity', capacity, minCapacity, maxCapacity);
    const open = () => addon.logOpen(path, readOnly, create, exclusive, permissions, bytes, threadId);
    return new Log(await runJob(open, signal, addon.logClose));
  }

  /** Takes the name away. Whoever has it open goes on with it. ERR_NOT_FOUND; ERR_FORMAT for what is no log: it is left alone. */
  static async destroy(location: Location): Promise<void> {
    const path = toSharedPath(location);
    return runJob(() => addon.logDestroy(path));
  }

  /**
   * Adds a line: a string as UTF-8, or bytes, with a newline of its own where it should have one. false: there is no room (or a process that is
   * stopped in the middle of writing holds the log up, for 0.1 s); the line counts as dropped, unless the next line that this Log writes is the same.
   *
   * ERR_CLOSED, ERR_INVALID_ARG_TYPE, ERR_VALUE_TOO_LARGE (longer than the log), ERR_CORRUPT.
   */
  write(line: string | Uint8Array): boolean {
    if (typeof line !== 'string') checkUint8Array('line', line);
    this.#checkOpen();
    const missing = callNative(() => addon.logWrite(this.#handle, line));
    const isRefusedOne = this.#refused === line;
    if (missing < 0) {
      if (isRefusedOne) addon.logCountDropped(this.#handle, 0);
      this.#refused = undefined;
      return true;
    }
    if (!isRefusedOne) addon.logCountDropped(this.#handle, 1);
    this.#refused = line;
    this.#refusedBytes = missing;
    return false;
  }

  /**
   * Resolves when there is room for the line that was refused last, or for any at all: asleep, until a reader makes room. Keeps the process alive.
   * Rejects with ERR_CLOSED when the log is closed, or with the signal's reason.
   */
  async ready(options: ReadOptions = {}): Promise<void> {
    checkOptions(options);
    const signal = checkSignal(options.signal);
    signal?.throwIfAborted();
    for (;;) {
      this.#checkOpen();
      const bytes = this.#refused === undefined ? 0 : this.#refusedBytes;
      const announced = addon.logAnnounce(this.#handle, logEvents.room);
      if (addon.logHasRoom(this.#handle, bytes)) return;
      await this.#waits.run(() => addon.logWait(this.#handle, logEvents.room, announced), signal);
    }
  }

  /**
   * The lines of all processes, oldest first, and then those to come: asleep in between. One reader at a time: where another process (or another
   * iteration) reads, this one waits until that ends or dies, and goes on within 0.2 s. A line is done with when the next one is asked for, or the
   * iteration is left: a reader that is killed before has its last line read once more by the next one, and none is lost.
   *
   * Ends when this Log is closed; throws the signal's reason; ERR_CORRUPT where somebody has overwritten the log: its lines have been skipped then.
   */
  async *lines(options: ReadOptions = {}): AsyncIterableIterator<LogLine> {
    checkOptions(options);
    const signal = checkSignal(options.signal);
    signal?.throwIfAborted();
    this.#checkOpen();
    if (!(await this.#becomeReader(signal))) return;
    let position = 0;
    try {
      while (!this.#closed) {
        const announced = addon.logAnnounce(this.#handle, logEvents.lines);
        const read = callNative(() => addon.logRead(this.#handle, position, batchBytes));
        if (read === undefined) {
          if (!(await this.#wait(logEvents.lines, announced, signal))) return;
          continue;
        }
        const [bytes, times, numbers] = read;
        for (let i = 0; i < times.length; i++) {
          const at = i * numbersPerLine;
          const offset = numbers[at + 2] as number;
          const line = bytes.subarray(offset, offset + (numbers[at + 3] as number));
          const end = numbers[at + 4] as number;
          position = end;
          try {
            yield { time: times[i] as bigint, pid: numbers[at] as number, thread: numbers[at + 1] as number, line };
          } finally {
            if (!this.#closed) addon.logDone(this.#handle, end);
          }
          if (this.#closed) return;
          signal?.throwIfAborted();
        }
      }
    } finally {
      if (!this.#closed) addon.logStopReading(this.#handle);
    }
  }

  /** Lines that all processes were refused and did not write since. 0 once it is closed. */
  get dropped(): number {
    return this.#closed ? 0 : addon.logDropped(this.#handle);
  }

  /** True from the call of close() on. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Pending ready() rejects with ERR_CLOSED, iterations end. Again: harmless. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#waits.close();
    addon.logClose(this.#handle);
  }

  /** close(). */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** False: the log has been closed meanwhile. */
  async #becomeReader(signal: AbortSignal | undefined): Promise<boolean> {
    for (;;) {
      const announced = addon.logAnnounce(this.#handle, logEvents.reader);
      if (callNative(() => addon.logTryReading(this.#handle))) return true;
      if (!(await this.#wait(logEvents.reader, announced, signal))) return false;
    }
  }

  async #wait(event: number, announced: number, signal: AbortSignal | undefined): Promise<boolean> {
    try {
      await this.#waits.run(() => addon.logWait(this.#handle, event, announced), signal);
    } catch (error) {
      if (!this.#closed || signal?.aborted) throw error;
    }
    return !this.#closed;
  }

  #checkOpen(): void {
    if (this.#closed) throw newError('ERR_CLOSED', 'The log is closed');
  }
}
