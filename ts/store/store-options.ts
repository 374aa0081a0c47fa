import { addon } from '../addon.js';
import { checkBoolean, checkBytes, checkInteger, checkOptions, checkSignal, wrongType } from '../arguments.js';
import type { ValueCodec } from '../codec/codec.js';
import { toCodec } from '../codec/encoding.js';
import { newError } from '../errors.js';
import type { OpenFlags } from '../options.js';
import type { NativeOpenOptions } from './native.js';

/** Kept in the file: encoding and maxBytes (another one at a later open: ERR_FORMAT). The rest holds per open. */
export interface StoreOptions extends OpenFlags {
  /**
   * The file may reach this many bytes: 8 MiB … 64 TiB. Default 1 TiB for a new store, and whatever an existing one
   * has. It is address space, not memory. A store that is full answers ERR_STORE_FULL, with nothing lost.
   */
  maxBytes?: number;
  /** What happens at maxBytes: ERR_STORE_FULL. */
  onFull?: 'error';
  /** What has resolved survives the death of any process, and after flush() also that of the machine. */
  durability?: 'process';
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
}

/** How a write is done. */
export interface WriteOptions {
  /** Milliseconds to live: Infinity, for none, is all there is so far (others: ERR_UNSUPPORTED). */
  ttl?: number;
  /** As at open: 'process' is all there is so far ('system': ERR_UNSUPPORTED). */
  durability?: 'process';
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

/** Checks the options of open() and openSync(); sets `concurrency` in passing. */
export function toOpenOptions(path: string, options: unknown): { native: NativeOpenOptions; codec: ValueCodec } {
  checkOptions(options);
  const given = (options ?? {}) as StoreOptions & { encoding?: unknown };
  checkSignal(given.signal);
  refuseLater(given as Record<string, unknown>);
  const codec = toCodec(given.encoding);
  const { maxBytes, permissions = 0o600, concurrency, hotBytes } = given;
  if (hotBytes !== undefined) checkBytes('hotBytes', hotBytes);
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
  };
  if (concurrency !== undefined) addon.setConcurrency(checkInteger('concurrency', concurrency, 1, 1024));
  return { native, codec };
}

function checkMaxBytes(maxBytes: number): number {
  return checkInteger('maxBytes', maxBytes, addon.storeMinMaxBytes, addon.storeLargestMaxBytes);
}

/** The signal of a write's options. */
export function checkWriteOptions(options: WriteOptions | undefined): AbortSignal | undefined {
  if (options === undefined) return undefined;
  checkOptions(options);
  const { ttl, durability } = options as { ttl?: unknown; durability?: unknown };
  if (ttl !== undefined) {
    if (typeof ttl !== 'number') throw wrongType('ttl', 'a number');
    if (!(ttl > 0)) throw newError('ERR_OUT_OF_RANGE', `ttl must be more than 0 milliseconds, and is ${ttl}`);
    if (ttl !== Number.POSITIVE_INFINITY) throw notYet('ttl');
  }
  if (durability !== undefined) checkDurability(durability);
  return checkSignal(options.signal);
}

/** The signal of options that have nothing else. */
export function checkReadOptions(options: { signal?: AbortSignal } | undefined): AbortSignal | undefined {
  if (options === undefined) return undefined;
  checkOptions(options);
  return checkSignal(options.signal);
}

/** Options that later releases implement: to ignore them would break what they promise. */
function refuseLater(options: Record<string, unknown>): void {
  const { onFull, fixed, uids, ttl, durability, temporary } = options;
  if (onFull !== undefined && onFull !== 'error') {
    if (onFull === 'evict') throw notYet("onFull: 'evict'");
    throw newError('ERR_INVALID_ARG_VALUE', "onFull must be 'error' or 'evict'");
  }
  if (fixed !== undefined) throw notYet('fixed');
  if (uids !== undefined && checkBoolean('uids', uids as boolean, false)) throw notYet('uids');
  if (temporary !== undefined && checkBoolean('temporary', temporary as boolean, false)) throw notYet('temporary');
  if (durability !== undefined) checkDurability(durability);
  if (ttl === undefined) return;
  if (typeof ttl !== 'number') throw wrongType('ttl', 'a number');
  if (ttl !== Number.POSITIVE_INFINITY) throw notYet('ttl');
}

function checkDurability(durability: unknown): void {
  if (durability === 'process') return;
  if (durability === 'system') throw notYet("durability: 'system'");
  if (typeof durability === 'object' && durability !== null) throw notYet('durability: { everyMs }');
  if (typeof durability !== 'string') throw wrongType('durability', 'a string');
  throw newError('ERR_INVALID_ARG_VALUE', "durability must be 'process'");
}

function notYet(what: string): Error {
  return newError('ERR_UNSUPPORTED', `The option ${what} is not supported yet`);
}
