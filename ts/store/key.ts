import { isUtf8 } from 'node:buffer';
import { wrongType } from '../arguments.js';
import { isWellFormed } from '../codec/text.js';
import { newError } from '../errors.js';

/** 1 … 65,535 bytes, any bytes; a string is its UTF-8 bytes (lone surrogates: ERR_INVALID_ARG_VALUE). */
export type Key = string | Uint8Array;

/** Bytes of a key at most. */
export const maxKeyBytes = 65_535;

/** Begins the name of a key that is no UTF-8. No string key has it: it is a lone surrogate. */
const binary = '\ud800';
const binaryUnit = 0xd800;

/** Checks everything about a key but a string's length in bytes: writeKey does that. */
export function checkKey(key: Key): void {
  checkKeyShape(key);
  if (typeof key === 'string' && !isWellFormed(key)) throw loneSurrogates();
}

/** Checks what writeKey does not: for keys that are written before anything else is done with them. */
export function checkKeyShape(key: Key): void {
  if (typeof key !== 'string' && !(key instanceof Uint8Array)) throw wrongType('key', 'a string or a Uint8Array');
  if (key.length === 0) throw newError('ERR_KEY_EMPTY', 'A key has at least one byte');
  if (key.length > maxKeyBytes) throw tooLong();
}

/**
 * Writes a key to `target` from `at` on, where 65,535 bytes or three per character must fit; answers its length. Throws
 * for what checkKeyShape leaves.
 */
export function writeKey(key: Key, target: Buffer, at: number): number {
  if (typeof key !== 'string') {
    target.set(key, at);
    return key.length;
  }
  const { length } = key;
  if (length <= 32) {
    let i = 0;
    for (; i < length; i++) {
      const unit = key.charCodeAt(i);
      if (unit >= 0x80) break;
      target[at + i] = unit;
    }
    if (i === length) return length;
  }
  if (!isWellFormed(key)) throw loneSurrogates();
  if (length > maxKeyBytes / 3 && Buffer.byteLength(key) > maxKeyBytes) throw tooLong();
  return target.write(key, at, 'utf8');
}

/** The same for keys of the same bytes, whether given as a string or as bytes; another for every other key. */
export function nameOf(key: Key): string {
  if (typeof key === 'string') {
    // It would be the name of another key's bytes.
    if (key.charCodeAt(0) === binaryUnit && !isWellFormed(key)) throw loneSurrogates();
    return key;
  }
  const bytes = Buffer.from(key.buffer, key.byteOffset, key.byteLength);
  return isUtf8(bytes) ? bytes.toString('utf8') : binary + bytes.toString('latin1');
}

function loneSurrogates(): Error {
  return newError('ERR_INVALID_ARG_VALUE', 'A key must not have lone surrogates');
}

export function tooLong(): Error {
  return newError('ERR_KEY_TOO_LONG', `A key has at most ${maxKeyBytes} bytes`);
}
