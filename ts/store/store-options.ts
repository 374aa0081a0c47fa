import { addon } from '../addon.js';
import { checkBoolean, checkInteger, checkOptions, checkSignal, wrongType } from '../arguments.js';
import type { ValueCodec } from '../codec/codec.js';
import { toCodec } from '../codec/encoding.js';
import { newError } from '../errors.js';
import { describeLocation, type Location, toPath } from '../location.js';
import type { OpenFlags } from '../options.js';
import type { NativeOpenOptions } from './native.js';
import { Progress } from './progress.js';

/** Kept in the file: encoding, maxBytes and onFull (another one at a later open: ERR_FORMAT). The rest holds per open. */
export interface StoreOptions extends OpenFlags {
  /**
   * The file may reach this many bytes: 8 MiB … 64 TiB. Default 1 TiB for a new store, and whatever an existing one
   * has. It is address space, not memory.
   */
  maxBytes?: number;
  /**
   * What happens at maxBytes, and where the device is full. Default 'error' for a new store, and whatever an existing one
   * has.
   *
   * - 'error': writes that find no room are ERR_STORE_FULL (ERR_NO_SPACE), with nothing lost.
   * - 'evict': a cache that all its processes share. Entries that have expired go first, then those that have not been
   *   read for long; so an entry may be absent at any time. Reads of values count, by whichever method and process,
   *   answers out of hot copies among them; those of read-only Stores do not, nor do has() and iteration. Writes do not
   *   fail for want of space; on a device they may wait for a flush that gives some back. A value that takes more than
   *   half of what the store can hold is ERR_STORE_FULL, and nothing is evicted for it.
   */
  onFull?: 'error' | 'evict';
  /**
   * Milliseconds to live for writes of this Store that say nothing of it, more than 0; default Infinity: without end.
   * Expired entries are absent to every process, whatever the wall clock does: where it is set back they stay so. Their
   * space comes back with later writes.
   */
  ttl?: number;
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
  /**
   * Bytes, about, for copies of hot values in this process, 0 … 2⁴⁰; 0: none. Default 8 MiB. They are coherent with
   * every process: a get or tryGet that starts after a write has resolved anywhere never answers an older value.
   * Strings and other primitives are answered as they are; Buffers, arrays, objects and Dates are made anew for each
   * caller.
   */
  hotBytes?: number;
  /**
   * The store is gone when the last process that has it open is gone, also by SIGKILL: its file has no name. The name is
   * that of a small file, by which others find the store; the last to close the store removes it. Where the last one was
   * killed that small file may stay behind: it is as good as absent (ERR_NOT_FOUND without `create`, a new store with
   * it). Who opens a temporary store shares it, whatever is said here; ERR_FORMAT where another kind of store is there.
   * Only for processes of one user and one PID namespace: ERR_ACCESS, ERR_UNSUPPORTED. On a disk it is flushed to
   * nothing: flush() promises nothing. Default false.
   */
  temporary?: boolean;
  /** Lock the whole store into memory: always hot. ERR_MEMLOCK where the system refuses. Default false. */
  pin?: boolean;
  /**
   * With `readOnly`: reads what is sound of a store in which verify() has found damage. Nothing but superblock, tables and
   * records is believed; each record that is whole is delivered, large values only where all of them is there. A key
   * whose deletion, or whose last value, is lost with a damaged record may come back as it was before. The file stays as
   * it is, and is ERR_BUSY for writers meanwhile, as it is here while they have it open. Takes the time of a recovery,
   * and memory of this process for the index, some 20 bytes a key. Default false: then only the parts of a store that had
   * to be recovered, and was found damaged, are read like this.
   */
  salvage?: boolean;
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
  /**
   * Milliseconds to live, more than 0 (parts of one count as one), from when the write takes effect; Infinity: without
   * end. By default set, setMany and compareAndSet apply what the store was opened with, and clear an earlier end;
   * increment and update keep it. ERR_OUT_OF_RANGE.
   */
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
  /** As Store.location. */
  location: string;
  native: NativeOpenOptions;
  codec: ValueCodec;
  durability: Durability;
  progress: Progress;
  hotBytes: number;
  /** Milliseconds; 0: without end. */
  ttl: number;
}

/** 'process', 'system', or milliseconds between flushes. */
export type Durability = 'process' | 'system' | number;

/** What the options of a write come to. */
export interface WriteSettings {
  signal: AbortSignal | undefined;
  /** Where the write says so itself. */
  durability: 'process' | 'system' | undefined;
  /** Milliseconds, 0: without end; where the write says so itself. */
  ttl: number | undefined;
}

const defaultWriteSettings: WriteSettings = { signal: undefined, durability: undefined, ttl: undefined };
const maxEveryMs = 2 ** 31 - 1;
const defaultHotBytes = 8 * 2 ** 20;

/** Checks the options of open() and openSync(); sets `concurrency` in passing. */
export function toOpenOptions(location: Location, options: unknown): OpenSettings {
  const path = toPath(location);
  const described = describeLocation(location, path);
  checkOptions(options);
  const given = (options ?? {}) as StoreOptions & { encoding?: unknown };
  checkSignal(given.signal);
  refuseLater(given as Record<string, unknown>);
  const codec = toCodec(given.encoding);
  const { maxBytes, permissions = 0o600, concurrency, hotBytes = defaultHotBytes } = given;
  const durability = checkDurability(given.durability);
  const { onProgress } = given;
  if (onProgress !== undefined && typeof onProgress !== 'function') throw wrongType('onProgress', 'a function');
  const progress = new Progress(given, described);
  const readOnly = checkBoolean('readOnly', given.readOnly, false);
  const salvage = checkBoolean('salvage', given.salvage, false);
  if (salvage && !readOnly) throw newError('ERR_INVALID_ARG_VALUE', 'salvage is for stores that are opened readOnly');
  const native = {
    path,
    readOnly,
    create: checkBoolean('create', given.create, true),
    exclusive: checkBoolean('exclusive', given.exclusive, false),
    permissions: checkInteger('permissions', permissions, 0, 0o7777),
    pin: checkBoolean('pin', given.pin, false),
    salvage,
    allowRemote: checkBoolean('allowRemote', given.allowRemote, false),
    temporary: checkBoolean('temporary', given.temporary, false),
    maxBytes: maxBytes === undefined ? 0 : checkMaxBytes(maxBytes),
    onFull: checkOnFull(given.onFull),
    codec: codec.name,
    onProgress: progress.isWanted ? progress.report : undefined,
  };
  if (concurrency !== undefined) addon.setConcurrency(checkInteger('concurrency', concurrency, 1, 1024));
  const ttl = given.ttl === undefined ? 0 : checkTtl(given.ttl);
  return {
    location: described,
    native,
    codec,
    durability,
    progress,
    hotBytes: checkInteger('hotBytes', hotBytes, 0, 2 ** 40),
    ttl,
  };
}

function checkMaxBytes(maxBytes: number): number {
  return checkInteger('maxBytes', maxBytes, addon.storeMinMaxBytes, addon.storeLargestMaxBytes);
}

/** As NativeOpenOptions has it. */
function checkOnFull(onFull: unknown): 0 | 1 | 2 {
  if (onFull === undefined) return 0;
  if (onFull === 'error') return 1;
  if (onFull === 'evict') return 2;
  if (typeof onFull !== 'string') throw wrongType('onFull', "'error' or 'evict'");
  throw newError('ERR_INVALID_ARG_VALUE', "onFull must be 'error' or 'evict'");
}

/** Checks the options of a write. */
export function checkWriteOptions(options: WriteOptions | undefined): WriteSettings {
  if (options === undefined) return defaultWriteSettings;
  checkOptions(options);
  const { ttl, durability } = options as { ttl?: unknown; durability?: unknown };
  if (durability !== undefined && durability !== 'process' && durability !== 'system') {
    throw wrongDurability(durability, "'process' or 'system'");
  }
  return { signal: checkSignal(options.signal), durability, ttl: ttl === undefined ? undefined : checkTtl(ttl) };
}

/** Milliseconds to live; 0: without end. */
export function checkTtl(ttl: unknown): number {
  if (typeof ttl !== 'number') throw wrongType('ttl', 'a number');
  if (!(ttl > 0)) throw newError('ERR_OUT_OF_RANGE', `ttl must be more than 0 milliseconds, and is ${ttl}`);
  return ttl === Number.POSITIVE_INFINITY ? 0 : ttl;
}

/** The signal of options that have nothing else. */
export function checkReadOptions(options: { signal?: AbortSignal } | undefined): AbortSignal | undefined {
  if (options === undefined) return undefined;
  checkOptions(options);
  return checkSignal(options.signal);
}

/** Options that later releases implement: to ignore them would break what they promise. */
function refuseLater(options: Record<string, unknown>): void {
  const { fixed, uids } = options;
  if (fixed !== undefined) throw notYet('fixed');
  if (uids !== undefined && checkBoolean('uids', uids as boolean, false)) throw notYet('uids');
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
