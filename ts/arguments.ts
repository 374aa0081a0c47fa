import { newError } from './errors.js';

// Checks of what callers hand in. Each throws ERR_INVALID_ARG_TYPE (a TypeError) or ERR_OUT_OF_RANGE (a RangeError).

/** An options object; nothing where it was left out. */
export function checkOptions(options: unknown): void {
  if (options === undefined || (typeof options === 'object' && options !== null)) return;
  throw wrongType('options', 'an object');
}

/** The boolean, or `fallback` where it was left out. */
export function checkBoolean(name: string, value: boolean | undefined, fallback: boolean): boolean {
  if (value === undefined) return fallback;
  if (typeof value !== 'boolean') throw wrongType(name, 'a boolean');
  return value;
}

/** A safe integer from `lowest` to `highest`. */
export function checkInteger(name: string, value: number, lowest: number, highest: number): number {
  if (typeof value !== 'number') throw wrongType(name, 'a number');
  if (Number.isSafeInteger(value) && value >= lowest && value <= highest) return value;
  throw newError('ERR_OUT_OF_RANGE', `${name} must be an integer from ${lowest} to ${highest}, and is ${value}`);
}

/** A position, length or size in bytes: a safe integer >= 0. */
export function checkBytes(name: string, value: number): number {
  return checkInteger(name, value, 0, Number.MAX_SAFE_INTEGER);
}

/** The signal of `options`, if it has one. */
export function checkSignal(signal: AbortSignal | undefined): AbortSignal | undefined {
  if (signal === undefined || signal instanceof AbortSignal) return signal;
  throw wrongType('signal', 'an AbortSignal');
}

/** Any view of bytes: Uint8Array or Buffer. */
export function checkUint8Array(name: string, value: Uint8Array): Uint8Array {
  if (value instanceof Uint8Array) return value;
  throw wrongType(name, 'a Uint8Array');
}

/** Something to iterate over. */
export function checkIterable<T>(name: string, value: Iterable<T>): Iterable<T> {
  if (typeof value === 'object' && value !== null && typeof value[Symbol.iterator] === 'function') return value;
  throw wrongType(name, 'an iterable object');
}

/** The error for a value of another type than asked for. */
export function wrongType(name: string, expected: string): Error {
  return newError('ERR_INVALID_ARG_TYPE', `${name} must be ${expected}`);
}
