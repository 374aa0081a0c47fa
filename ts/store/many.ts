import { wrongType } from '../arguments.js';
import type { ValueCodec } from '../codec/codec.js';
import { encodeValue } from '../codec/encoding.js';
import { Gathering } from './gathering.js';
import type { Key } from './key.js';
import { Kind } from './operation.js';
import type { Lifetime } from './request.js';
import type { Scheduler } from './scheduler.js';

type Entries = Iterable<readonly [Key, unknown]> | AsyncIterable<readonly [Key, unknown]>;

/** Rejects at once when the signal aborts, whatever is pending. */
function orAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason);
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

/**
 * Sets all entries. What an iterable gives is taken during the call; what an async iterable gives as it comes, with a
 * bounded number of sets pending.
 */
export function setMany(
  scheduler: Scheduler,
  codec: ValueCodec,
  entries: Entries,
  signal: AbortSignal | undefined,
  system: boolean,
  lifetime: Lifetime | undefined,
): Promise<void> {
  const gathering = new Gathering();
  const set = (entry: readonly [Key, unknown], counted: boolean): void => {
    if (!Array.isArray(entry)) throw wrongType('each entry', 'an array of key and value');
    const [key, value] = entry as readonly [Key, unknown];
    const encoded = encodeValue(codec, value);
    const bytes = counted ? encoded.data.length : 0;
    const { resolve, reject } = gathering.begin(bytes);
    try {
      scheduler.submit(Kind.set, key, encoded, resolve, reject, signal, system, lifetime);
    } catch (error) {
      gathering.refuse(bytes);
      throw error;
    }
  };
  if (typeof entries === 'object' && entries !== null && Symbol.iterator in entries) {
    try {
      // All of them are taken in whatever they weigh.
      for (const entry of entries) set(entry, false);
    } catch (error) {
      gathering.fail(error);
    }
    return orAborted(gathering.all(), signal);
  }
  if (typeof entries !== 'object' || entries === null || !(Symbol.asyncIterator in entries)) {
    throw wrongType('entries', 'an iterable or async iterable object');
  }
  return orAborted(setAsThey(entries, set, gathering, signal), signal);
}

async function setAsThey(
  entries: AsyncIterable<readonly [Key, unknown]>,
  set: (entry: readonly [Key, unknown], counted: boolean) => void,
  gathering: Gathering,
  signal: AbortSignal | undefined,
): Promise<void> {
  try {
    for await (const entry of entries) {
      if (signal?.aborted || gathering.failed) break;
      set(entry, true);
      await gathering.room();
    }
  } catch (error) {
    gathering.fail(error);
  }
  await gathering.all();
}

/** Deletes all keys, taken during the call; answers how many were there. */
export function deleteMany(
  scheduler: Scheduler,
  keys: Iterable<Key>,
  signal: AbortSignal | undefined,
  system: boolean,
): Promise<number> {
  const gathering = new Gathering();
  let count = 0;
  const { resolve, reject } = gathering.settling;
  const counted = (existed: unknown): void => {
    if (existed === true) count++;
    resolve();
  };
  try {
    for (const key of keys) {
      gathering.begin(0);
      try {
        scheduler.submit(Kind.delete, key, undefined, counted, reject, signal, system);
      } catch (error) {
        gathering.refuse(0);
        throw error;
      }
    }
  } catch (error) {
    gathering.fail(error);
  }
  return orAborted(
    gathering.all().then(() => count),
    signal,
  );
}
