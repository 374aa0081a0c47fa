import { constants } from 'node:buffer';
import { addon } from '../addon.js';
import { checkBoolean, checkInteger, checkOptions, checkSignal, wrongType } from '../arguments.js';
import { callNative, newError } from '../errors.js';
import { runJob } from '../jobs.js';
import type { Location } from '../location.js';
import type { OpenFlags } from '../options.js';
import type { SegmentArguments, SegmentHandle } from './native.js';
import { PendingWaits } from './pending-waits.js';
import { toSharedPath } from './shared-location.js';

/** How {@link Segment.open} opens a segment. */
export interface SegmentOptions extends OpenFlags {
  /** Bytes: 1 … buffer.constants.MAX_LENGTH. Needed to create it; where it is there already it must be this: else ERR_FORMAT. */
  size?: number;
}

/** How {@link Segment.wait} waits. */
export interface WaitOptions {
  /** Milliseconds >= 0, fractions count. Default: Infinity. */
  timeout?: number;
  /** Rejects at once with the signal's reason. */
  signal?: AbortSignal;
}

/** As Atomics.wait tells. */
export type WaitOutcome = 'ok' | 'not-equal' | 'timed-out';

const outcomes: readonly WaitOutcome[] = ['ok', 'not-equal', 'timed-out'];

/**
 * Memory that processes of this host share, seen in place: `new Int32Array(segment.buffer)`. What one of them writes the
 * others read, and Atomics.* hold across all of them; Atomics.wait and Atomics.notify do not (the buffer is no
 * SharedArrayBuffer): use {@link wait} and {@link notify}. It lies in RAM, at `shm:NAME`, until it is destroyed or the machine restarts.
 *
 * Its space is reserved when it is created: touching it never fails.
 */
export class Segment implements Disposable {
  readonly #handle: SegmentHandle;
  readonly #buffer: ArrayBuffer;
  readonly #size: number;
  readonly #created: boolean;
  readonly #waits: PendingWaits = new PendingWaits();
  #closed = false;

  private constructor(handle: SegmentHandle) {
    this.#handle = handle;
    [this.#size, this.#created] = addon.segmentInfo(handle);
    try {
      checkLength(this.#size);
      this.#buffer = callNative(() => addon.segmentBuffer(handle));
    } catch (error) {
      addon.segmentClose(handle, undefined);
      throw error;
    }
  }

  /**
   * Opens a segment, or creates it, zeros, where there is none (and not `create: false`).
   *
   * With `readOnly` what this process writes into the buffer stays in this process, and hides what others write to the same page;
   * wait() and notify() are ERR_READ_ONLY.
   *
   * ERR_INVALID_ARG_VALUE: the location is not shm:NAME. ERR_NOT_FOUND: it is not there, and is not to be created or no size was
   * given. ERR_EXISTS (`exclusive`), ERR_ACCESS, ERR_NO_SPACE, ERR_FORMAT (another size, or no segment), ERR_OUT_OF_RANGE,
   * ERR_BUSY (512 have it open), ERR_UNSUPPORTED where this runtime refuses ArrayBuffers over memory of others, as Electron does.
   */
  static async open(location: Location, options: SegmentOptions = {}): Promise<Segment> {
    const path = toSharedPath(location);
    const native = toArguments(options);
    const close = (handle: SegmentHandle) => addon.segmentClose(handle, undefined);
    return new Segment(await runJob(() => addon.segmentOpen(path, ...native), options.signal, close));
  }

  /** Like open(). May block: while memory is reserved, some 0.3 s for each GiB that is created. */
  static openSync(location: Location, options: SegmentOptions = {}): Segment {
    const path = toSharedPath(location);
    const native = toArguments(options);
    options.signal?.throwIfAborted();
    return new Segment(callNative(() => addon.segmentOpenSync(path, ...native)));
  }

  /** Takes the name away. Whoever has it open goes on with it. ERR_NOT_FOUND; ERR_FORMAT for what is no segment: it is left alone. */
  static async destroy(location: Location): Promise<void> {
    const path = toSharedPath(location);
    return runJob(() => addon.segmentDestroy(path));
  }

  /** The memory itself. After close() it is detached: its views are empty, and Atomics on them throw a TypeError. */
  get buffer(): ArrayBuffer {
    return this.#buffer;
  }

  /** Bytes; 0 once it is closed. */
  get size(): number {
    return this.#closed ? 0 : this.#size;
  }

  /** Whether this open created it. */
  get created(): boolean {
    return this.#created;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Like Atomics.waitAsync, but across processes: resolves to 'not-equal' where the element is not `value` (an integer of 32
   * bits), otherwise to 'ok' once a notify() of any process wakes it, or to 'timed-out'. `view` is a view of this buffer.
   * Never blocks: all waits of a process share one thread, which sleeps. A pending wait keeps the process alive.
   *
   * ERR_CLOSED, also when the segment is closed meanwhile; ERR_READ_ONLY; ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE (a view of
   * something else), ERR_OUT_OF_RANGE; ERR_BUSY where 16,384 waits on this segment are pending, ERR_NO_SPACE.
   */
  async wait(view: Int32Array, index: number, value: number, options: WaitOptions = {}): Promise<WaitOutcome> {
    const place = this.#placeOf(view, index);
    checkInteger('value', value, -(2 ** 31), 2 ** 31 - 1);
    checkOptions(options);
    const timeoutMs = toTimeout(options.timeout);
    const signal = checkSignal(options.signal);
    const outcome = await this.#waits.run(() => addon.segmentWait(this.#handle, place, value, timeoutMs), signal);
    return outcomes[outcome] as WaitOutcome;
  }

  /**
   * Ends up to `count` (default: all) waits on the element, those that have waited longest first, and answers how many. Never
   * blocks. ERR_CLOSED, ERR_READ_ONLY, ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE, ERR_OUT_OF_RANGE.
   */
  notify(view: Int32Array, index: number, count: number = Number.POSITIVE_INFINITY): number {
    const place = this.#placeOf(view, index);
    const most = count === Number.POSITIVE_INFINITY ? 2 ** 32 - 1 : checkInteger('count', count, 0, 2 ** 32 - 1);
    return callNative(() => addon.segmentNotify(this.#handle, place, most));
  }

  /** Detaches the buffer: every view of it is empty from now on. Pending waits reject with ERR_CLOSED. Again: harmless. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#waits.close();
    addon.segmentClose(this.#handle, this.#buffer);
  }

  /** close(). */
  [Symbol.dispose](): void {
    this.close();
  }

  #placeOf(view: Int32Array, index: number): number {
    if (!(view instanceof Int32Array)) throw wrongType('view', 'an Int32Array');
    if (this.#closed) throw newError('ERR_CLOSED', 'The segment is closed');
    if (view.buffer !== this.#buffer) throw newError('ERR_INVALID_ARG_VALUE', 'view is not a view of this segment');
    checkInteger('index', index, 0, view.length - 1);
    return view.byteOffset + index * Int32Array.BYTES_PER_ELEMENT;
  }
}

function toArguments(options: SegmentOptions): SegmentArguments {
  checkOptions(options);
  checkSignal(options.signal);
  const { permissions = 0o600, size } = options;
  return [
    checkBoolean('readOnly', options.readOnly, false),
    checkBoolean('create', options.create, true),
    checkBoolean('exclusive', options.exclusive, false),
    checkInteger('permissions', permissions, 0, 0o7777),
    size === undefined ? -1 : checkInteger('size', size, 1, constants.MAX_LENGTH),
  ];
}

/** What somebody else's runtime has made may be too large for this one. */
function checkLength(size: number): void {
  if (size <= constants.MAX_LENGTH) return;
  throw newError('ERR_OUT_OF_RANGE', `An ArrayBuffer has at most ${constants.MAX_LENGTH} bytes here, not ${size}`);
}

function toTimeout(timeout: number | undefined): number {
  if (timeout === undefined) return -1;
  if (typeof timeout !== 'number') throw wrongType('timeout', 'a number');
  if (!(timeout >= 0)) throw newError('ERR_OUT_OF_RANGE', `timeout must be milliseconds >= 0, and is ${timeout}`);
  return timeout === Number.POSITIVE_INFINITY ? -1 : timeout;
}
