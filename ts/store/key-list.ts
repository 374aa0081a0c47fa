import { checkKeyShape, type Key, maxKeyBytes, writeKey } from './key.js';

/** Keys as one list of bytes: each with its size before it, in 16 bits. Throws where one is none. */
export function toKeyList(keys: readonly Key[]): Buffer {
  let room = 0;
  for (const key of keys) {
    checkKeyShape(key);
    room += 2 + Math.min(maxKeyBytes, typeof key === 'string' ? 3 * key.length : key.length);
  }
  const list = Buffer.allocUnsafeSlow(room);
  let at = 0;
  for (const key of keys) {
    const size = writeKey(key, list, at + 2);
    list[at] = size;
    list[at + 1] = size >>> 8;
    at += 2 + size;
  }
  return list.subarray(0, at);
}
