import { addon } from '../addon.js';
import { checkBoolean, checkBytes, checkInteger, checkOptions, checkSignal, wrongType } from '../arguments.js';
import type { ValueCodec } from '../codec/codec.js';
import { toCodec } from '../codec/encoding.js';
import { newError } from '../errors.js';
import type { OpenFlags } from '../options.js';
import type { NativeOpenOptions } from './native.js';
import { Progress } from './progress.js';

/** Kept in the file: encoding and maxBytes (another one at a later open: ERR_FORMAT). The rest holds per open. */
export interface StoreOptions extends OpenFlags {
  /**
   * The file may reach this many bytes: 8 MiB … 64 TiB. Default 1 TiB for a new store, and whatever an existing one
   * has. It is address space, not memory. A store that is full answers ERR_STORE_FULL, with nothing lost.
   */
  maxBytes?: number;
  /** What happens at maxBytes: ERR_STORE_FULL. */
  onFull?: 'error';
  /**
   * What a write that has resolved survives. Stores in shared memory survive no restart of the machine, whatever is said
   * here.
   *
   * - 'process' (default): the death of any process, and after flush() also that of the machine.
   * - 'system': also that of the machine, a power cut included. Writes that wait at the same time share flushes; other
   *   operations, also those on the same key, do not wait for them. Where the flush fails the write rejects with its
   *   code, ERR_IO as a rule, though all processes may see what was written.
   * - `{ everyMs }`, 1 … 2,147,483,647 ms: resolves like 'process'; a flush begins at the latest that long after the
   *   first write of this Store that none covers has resolved, and with close(). Where such a flush fails with ERR_IO
   *   all later writes of this Store, and its flush() and close(), fail with that code: open it again. The wait keeps no
   *   process alive.
   */
  durability?: 'process' | 'system' | { everyMs: number };
  /** Bytes for in-process copies of hot values. Accepted, and unused so far. */
  hotBytes?: number;
  /** Lock the whole store into memory: always hot. ERR_MEMLOCK where the system refuses. Default false. */
  pin?: boolean;
  /**
   * How many of this process's libuv threads all stores and files together may hold: 1 … 1024, at most all of them.
   * Default half.
   */
  concurrency?: number;
  /** Allow a network filesystem, where one host alone uses the file: ERR_UNSUPPORTED otherwise. Default false. */
  allowRemote?: boolean;
  /**
   * Progress of a recovery: of a store that lived through a power cut, or that is a copy made while it was open. Called
   * some tens of times at most, with bytes looked at and bytes in all; at last with `done === total` where the recovery
   * succeeded. Never called where none is needed, or where somebody else does it. Called on the JavaScript thread, by
   * openSync() while it is under way. What it throws is what open rejects with, or openSync() throws, once the recovery
   * has ended; it is not called again then. What was recovered stays recovered.
   */
  onProgress?(done: number, total: number): void;
}

/** How a write is done. */
export interface WriteOptions {
  /** Milliseconds to live: Infinity, for none, is all there is so far (others: ERR_UNSUPPORTED). */
  ttl?: number;
  /** As at open, for this write. Default: what the store was opened with. */
  durability?: 'process' | 'system';
  /**
   * Rejects at once with the signal's reason. The write happened wholly or not at all; which of the two is not known.
   */
  signal?: AbortSignal;
}

export interface IterateOptions {
  /** Only keys that begin with these bytes. */
  prefix?: string | Uint8Array;
  /** At most so many entries. */
  limit?: number;
  /** Bytes read ahead at most, give or take an entry. Default 1 MiB. */
  highWaterMark?: number;
  /** Rejects at once with the signal's reason. */
  signal?: AbortSignal;
}

/** What the options of open() and openSync() come to. */
export interface OpenSettings {
  native: NativeOpenOptions;
  codec: ValueCodec;
  durability: Durability;
  progress: Progress;
}

/** 'process', 'system', or milliseconds between flushes. */
export type Durability = 'process' | 'system' | number;

/** What the options of a write come to. */
export interface WriteSettings {
  signal: AbortSignal | undefined;
  /** Where the write says so itself. */
  durability: 'process' | 'system' | undefined;
}

const defaultWriteSettings: WriteSettings = { signal: undefined, durability: undefined };
const maxEveryMs = 2 ** 31 - 1;

/** Checks the options of open() and openSync(); sets `concurrency` in passing. */
export function toOpenOptions(path: string, options: unknown): OpenSettings {
  checkOptions(options);
  const given = (options ?? {}) as StoreOptions & { encoding?: unknown };
  checkSignal(given.signal);
  refuseLater(given as Record<string, unknown>);
  const codec = toCodec(given.encoding);
  const { maxBytes, permissions = 0o600, concurrency, hotBytes } = given;
  if (hotBytes !== undefined) checkBytes('hotBytes', hotBytes);
  const durability = checkDurability(given.durability);
  const { onProgress } = given;
  if (onProgress !== undefined && typeof onProgress !== 'function') throw wrongType('onProgress', 'a function');
  const progress = new Progress(given);
  const native = {
    path,
    readOnly: checkBoolean('readOnly', given.readOnly, false),
    create: checkBoolean('create', given.create, true),
    exclusive: checkBoolean('exclusive', given.exclusive, false),
    permissions: checkInteger('permissions', permissions, 0, 0o7777),
    pin: checkBoolean('pin', given.pin, false),
    allowRemote: checkBoolean('allowRemote', given.allowRemote, false),
    maxBytes: maxBytes === undefined ? 0 : checkMaxBytes(maxBytes),
    codec: codec.name,
    onProgress: onProgress && progress.report,
  };
  if (concurrency !== undefined) addon.setConcurrency(checkInteger('concurrency', concurrency, 1, 1024));
  return { native, codec, durability, progress };
}

function checkMaxBytes(maxBytes: number): number {
  return checkInteger('maxBytes', maxBytes, addon.storeMinMaxBytes, addon.storeLargestMaxBytes);
}

/** Checks the options of a write. */
export function checkWriteOptions(options: WriteOptions | undefined): WriteSettings {
  if (options === undefined) return defaultWriteSettings;
  checkOptions(options);
  const { ttl, durability } = options as { ttl?: unknown; durability?: unknown };
  if (ttl !== undefined) {
    if (typeof ttl !== 'number') throw wrongType('ttl', 'a number');
    if (!(ttl > 0)) throw newError('ERR_OUT_OF_RANGE', `ttl must be more than 0 milliseconds, and is ${ttl}`);
    if (ttl !== Number.POSITIVE_INFINITY) throw notYet('ttl');
  }
  if (durability !== undefined && durability !== 'process' && durability !== 'system') {
    throw wrongDurability(durability, "'process' or 'system'");
  }
  return { signal: checkSignal(options.signal), durability };
}

/** The signal of options that have nothing else. */
export function checkReadOptions(options: { signal?: AbortSignal } | undefined): AbortSignal | undefined {
  if (options === undefined) return undefined;
  checkOptions(options);
  return checkSignal(options.signal);
}

/** Options that later releases implement: to ignore them would break what they promise. */
function refuseLater(options: Record<string, unknown>): void {
  const { onFull, fixed, uids, ttl, temporary } = options;
  if (onFull !== undefined && onFull !== 'error') {
    if (onFull === 'evict') throw notYet("onFull: 'evict'");
    throw newError('ERR_INVALID_ARG_VALUE', "onFull must be 'error' or 'evict'");
  }
  if (fixed !== undefined) throw notYet('fixed');
  if (uids !== undefined && checkBoolean('uids', uids as boolean, false)) throw notYet('uids');
  if (temporary !== undefined && checkBoolean('temporary', temporary as boolean, false)) throw notYet('temporary');
  if (ttl === undefined) return;
  if (typeof ttl !== 'number') throw wrongType('ttl', 'a number');
  if (ttl !== Number.POSITIVE_INFINITY) throw notYet('ttl');
}

function checkDurability(durability: unknown): Durability {
  if (durability === undefined) return 'process';
  if (durability === 'process' || durability === 'system') return durability;
  if (typeof durability !== 'object' || durability === null) {
    throw wrongDurability(durability, "'process', 'system' or { everyMs }");
  }
  const { everyMs } = durability as { everyMs?: unknown };
  return checkInteger('durability.everyMs', everyMs as number, 1, maxEveryMs);
}

function wrongDurability(durability: unknown, allowed: string): Error {
  if (typeof durability !== 'string') return wrongType('durability', allowed);
  return newError('ERR_INVALID_ARG_VALUE', `durability must be ${allowed}`);
}

function notYet(what: string): Error {
  return newError('ERR_UNSUPPORTED', `The option ${what} is not supported yet`);
}
