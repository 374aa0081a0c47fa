import { constants } from 'node:buffer';
import { addon } from '../addon.js';
import { checkBoolean, checkInteger, checkOptions, checkSignal, wrongType } from '../arguments.js';
import { callNative, newError } from '../errors.js';
import { runJob } from '../jobs.js';
import type { Location } from '../location.js';
import type { OpenFlags } from '../options.js';
import type { ExchangeArguments, ExchangeHandle, ExchangeInfo } from './native.js';
import { Queue } from './queue.js';
import { toSharedPath } from './shared-location.js';

const maxElements = 2 ** 24;
const maxElementSize = 2 ** 30;
const maxQueues = 256;
const maxNameBytes = 127;

/** How {@link Exchange.open} opens an exchange. Needed to create one; where it is there already they must be its own: else ERR_FORMAT. */
export interface ExchangeOptions extends OpenFlags {
  /** How many: 1 … 16,777,216. */
  elements?: number;
  /** Bytes of each: 1 … 2^30; all together at most buffer.constants.MAX_LENGTH. */
  elementSize?: number;
  /** Names, 1 … 256 of 1 to 127 bytes. All elements start in the first. */
  queues?: readonly string[];
  /** The queue that gets what dead processes held. Default: the first. */
  reclaimTo?: string;
}

/**
 * Elements of a fixed size in memory that processes of this host share, and named queues that hand them on by reference. Who has
 * pulled an element holds it: it alone reads and writes its bytes, until it pushes it to a queue. What a process holds when it closes the
 * exchange or dies goes to the queue `reclaimTo`, each element once; the others notice a death within 0.2 s.
 *
 * It lies in RAM, at `shm:NAME`, until it is destroyed or the machine restarts; elements stay in their queues when all processes have ended.
 */
export class Exchange implements AsyncDisposable {
  readonly #handle: ExchangeHandle;
  readonly #info: ExchangeInfo;
  readonly #buffer: ArrayBuffer;
  readonly #queues = new Map<string, Queue>();
  readonly #views: (Buffer | undefined)[] = [];
  #closing: Promise<void> | undefined;

  private constructor(handle: ExchangeHandle) {
    this.#handle = handle;
    this.#info = addon.exchangeInfo(handle);
    try {
      checkTotal(this.#info.elements, this.#info.stride);
      this.#buffer = callNative(() => addon.exchangeBuffer(handle));
    } catch (error) {
      void addon.exchangeClose(handle, undefined);
      throw error;
    }
    for (const [index, name] of this.#info.queues.entries()) {
      this.#queues.set(name, new Queue(handle, index, name, this.#info.elements));
    }
  }

  /**
   * Opens an exchange, or creates it where there is none (and not `create: false`).
   *
   * ERR_INVALID_ARG_VALUE: the location is not shm:NAME, or names are empty, too long or not unique. ERR_NOT_FOUND: it is not there, and
   * is not to be created or options are missing. ERR_EXISTS (`exclusive`), ERR_ACCESS, ERR_NO_SPACE, ERR_FORMAT (other options, or no
   * exchange), ERR_CORRUPT, ERR_OUT_OF_RANGE, ERR_BUSY (512 have it open), ERR_UNSUPPORTED (`readOnly`, or a runtime that refuses
   * ArrayBuffers over memory of others, as Electron does).
   */
  static async open(location: Location, options: ExchangeOptions = {}): Promise<Exchange> {
    const path = toSharedPath(location);
    const native = toArguments(options);
    const close = (handle: ExchangeHandle) => void addon.exchangeClose(handle, undefined);
    return new Exchange(await runJob(() => addon.exchangeOpen(path, ...native), options.signal, close));
  }

  /** Takes the name away. Whoever has it open goes on with it. ERR_NOT_FOUND; ERR_FORMAT for what is no exchange: it is left alone. */
  static async destroy(location: Location): Promise<void> {
    const path = toSharedPath(location);
    return runJob(() => addon.exchangeDestroy(path));
  }

  /** The queue of this name, always the same object. ERR_NOT_FOUND where there is none. */
  queue(name: string): Queue {
    if (typeof name !== 'string') throw wrongType('name', 'a string');
    const queue = this.#queues.get(name);
    if (queue === undefined) throw newError('ERR_NOT_FOUND', `There is no queue named ${name}`);
    return queue;
  }

  /**
   * The element itself, not a copy: always the same Buffer. Yours to write to as long as you hold the element. After close() it is
   * empty. ERR_CLOSED, ERR_OUT_OF_RANGE, ERR_INVALID_ARG_TYPE.
   */
  element(id: number): Buffer {
    const { elements, elementSize, stride } = this.#info;
    checkInteger('id', id, 0, elements - 1);
    if (this.closed) throw newError('ERR_CLOSED', 'The exchange is closed');
    let view = this.#views[id];
    if (view === undefined) {
      view = Buffer.from(this.#buffer, id * stride, elementSize);
      this.#views[id] = view;
    }
    return view;
  }

  /**
   * Gives back now what dead processes held, which also happens by itself. Resolves to how many elements this process has given back
   * since the last call. ERR_CLOSED; ERR_BUSY where a stopped process is in the middle of an operation on a queue.
   */
  async reclaim(): Promise<number> {
    if (this.closed) throw newError('ERR_CLOSED', 'The exchange is closed');
    return runJob(() => addon.exchangeReclaim(this.#handle));
  }

  get elements(): number {
    return this.#info.elements;
  }

  /** Bytes. */
  get elementSize(): number {
    return this.#info.elementSize;
  }

  /** True from the call of close() on. */
  get closed(): boolean {
    return this.#closing !== undefined;
  }

  /** Gives back what this exchange holds. Views of elements are empty at once; pending take() rejects with ERR_CLOSED. Again: harmless. */
  close(): Promise<void> {
    if (this.#closing === undefined) {
      for (const queue of this.#queues.values()) queue.close();
      this.#closing = runJob(() => addon.exchangeClose(this.#handle, this.#buffer));
    }
    return this.#closing;
  }

  /** close(). */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function toArguments(options: ExchangeOptions): ExchangeArguments {
  checkOptions(options);
  checkSignal(options.signal);
  const { permissions = 0o600, elements, elementSize, queues, reclaimTo } = options;
  const count = elements === undefined ? 0 : checkInteger('elements', elements, 1, maxElements);
  const size = elementSize === undefined ? 0 : checkInteger('elementSize', elementSize, 1, maxElementSize);
  if (count > 0 && size > 0) checkTotal(count, Math.ceil(size / 8) * 8);
  const names = queues === undefined ? [] : checkNames(queues);
  if (reclaimTo !== undefined) {
    if (typeof reclaimTo !== 'string') throw wrongType('reclaimTo', 'a string');
    if (names.length > 0 && !names.includes(reclaimTo)) {
      throw newError('ERR_INVALID_ARG_VALUE', `reclaimTo must be one of the queues, and is ${reclaimTo}`);
    }
  }
  return [
    checkBoolean('readOnly', options.readOnly, false),
    checkBoolean('create', options.create, true),
    checkBoolean('exclusive', options.exclusive, false),
    checkInteger('permissions', permissions, 0, 0o7777),
    count,
    size,
    names,
    reclaimTo ?? '',
  ];
}

function checkTotal(elements: number, stride: number): void {
  if (elements * stride <= constants.MAX_LENGTH) return;
  throw newError('ERR_OUT_OF_RANGE', `All elements together have at most ${constants.MAX_LENGTH} bytes`);
}

function checkNames(queues: readonly string[]): readonly string[] {
  if (!Array.isArray(queues)) throw wrongType('queues', 'an array of strings');
  checkInteger('the number of queues', queues.length, 1, maxQueues);
  for (const name of queues) {
    if (typeof name !== 'string') throw wrongType('each queue', 'a string');
    const bytes = Buffer.from(name);
    if (bytes.length < 1 || bytes.length > maxNameBytes || name.includes('\0') || bytes.toString() !== name) {
      throw newError('ERR_INVALID_ARG_VALUE', `A queue's name is 1 to ${maxNameBytes} bytes of text without NUL`);
    }
  }
  if (new Set(queues).size < queues.length) throw newError('ERR_INVALID_ARG_VALUE', 'Names of queues must be unique');
  return [...queues];
}
