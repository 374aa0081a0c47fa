import { addon } from '../addon.js';
import type { LongWork } from '../options.js';
import { checkKey, type Key, maxKeyBytes, tooLong } from './key.js';
import { runSteps } from './long-work.js';
import type { StoreHandle } from './native.js';

const lengthBytes = 4;

/** Of each key its length in four bytes, then its bytes: csrc/binding/store_warm.cc. Throws for what is no key. */
export function packKeys(keys: Iterable<Key>): Buffer {
  let packed = Buffer.allocUnsafe(4096);
  let used = 0;
  for (const key of keys) {
    checkKey(key);
    const size = typeof key === 'string' ? Buffer.byteLength(key) : key.length;
    // The engine says so as well, but only when it comes to it.
    if (size > maxKeyBytes) throw tooLong();
    if (used + lengthBytes + size > packed.length) {
      const larger = Buffer.allocUnsafe(2 * packed.length + size);
      packed.copy(larger, 0, 0, used);
      packed = larger;
    }
    used = packed.writeUInt32LE(size, used);
    if (typeof key === 'string') packed.write(key, used, 'utf8');
    else packed.set(key, used);
    used += size;
  }
  return packed.subarray(0, used);
}

/** Brings keys into memory. */
export async function warm(handle: StoreHandle, packed: Buffer, work: LongWork): Promise<void> {
  if (packed.length === 0) return;
  const warming = addon.storeWarming(handle, packed);
  await runSteps(() => addon.storeWarmStep(warming), work);
}
