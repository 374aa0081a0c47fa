import { getSystemErrorName } from 'node:util';

/** What `code` of a {@link FaultlessError} may be. The code is the contract, the message is not. */
export type ErrorCode =
  | 'ERR_CLOSED'
  | 'ERR_READ_ONLY'
  | 'ERR_INVALID_ARG_TYPE'
  | 'ERR_INVALID_ARG_VALUE'
  | 'ERR_OUT_OF_RANGE'
  | 'ERR_KEY_EMPTY'
  | 'ERR_KEY_TOO_LONG'
  | 'ERR_VALUE_TOO_LARGE'
  | 'ERR_NOT_A_NUMBER'
  | 'ERR_NOT_FOUND'
  | 'ERR_EXISTS'
  | 'ERR_ACCESS'
  | 'ERR_FORMAT'
  | 'ERR_CORRUPT'
  | 'ERR_IO'
  | 'ERR_NO_SPACE'
  | 'ERR_STORE_FULL'
  | 'ERR_MEMLOCK'
  | 'ERR_UNSUPPORTED'
  | 'ERR_BUSY';

/** What is known about a failure beside its code. */
export interface ErrorDetails {
  /** Negative, as everywhere in Node. */
  errno?: number;
  /** The system call that failed. */
  syscall?: string;
  path?: string;
  /** In the file, bytes. */
  offset?: number;
  cause?: unknown;
}

const brand = Symbol('FaultlessError');

/**
 * Every error that this package makes. `instanceof FaultlessError` also holds for its argument errors, which are
 * real TypeErrors and RangeErrors, as Node's own are.
 */
export class FaultlessError extends Error {
  declare readonly code: ErrorCode;
  /** Negative, as everywhere in Node; where known. */
  declare readonly errno?: number;
  /** The system call that failed, where known. */
  declare readonly syscall?: string;
  declare readonly path?: string;
  /** In the file, bytes; where known. */
  declare readonly offset?: number;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, 'cause' in details ? { cause: details.cause } : undefined);
    describe(this, 'FaultlessError', code, details);
  }

  static override [Symbol.hasInstance](value: unknown): value is FaultlessError {
    // A subclass that somebody derives has instances of its own only.
    // biome-ignore lint/complexity/noThisInStatic: the class on the right of instanceof, which may be a derived one
    if (this !== FaultlessError) return Function.prototype[Symbol.hasInstance].call(this, value);
    return typeof value === 'object' && value !== null && brand in value;
  }
}

class ArgumentTypeError extends TypeError {
  constructor(code: ErrorCode, message: string, details: ErrorDetails) {
    super(message, 'cause' in details ? { cause: details.cause } : undefined);
    describe(this, 'TypeError', code, details);
  }
}

class ArgumentRangeError extends RangeError {
  constructor(code: ErrorCode, message: string, details: ErrorDetails) {
    super(message, 'cause' in details ? { cause: details.cause } : undefined);
    describe(this, 'RangeError', code, details);
  }
}

function describe(error: Error, name: string, code: ErrorCode, details: ErrorDetails): void {
  const hidden = (value: unknown): PropertyDescriptor => ({ value, configurable: true, writable: true });
  Object.defineProperty(error, brand, hidden(true));
  Object.defineProperty(error, 'name', hidden(name));
  const { errno, syscall, path, offset } = details;
  Object.assign(error, { code });
  if (errno !== undefined) Object.assign(error, { errno });
  if (syscall !== undefined) Object.assign(error, { syscall });
  if (path !== undefined) Object.assign(error, { path });
  if (offset !== undefined) Object.assign(error, { offset });
}

/** The error of this code: a TypeError or RangeError where Node's fs would throw one. */
export function newError(code: ErrorCode, message: string, details: ErrorDetails = {}): FaultlessError {
  switch (code) {
    case 'ERR_INVALID_ARG_TYPE':
    case 'ERR_INVALID_ARG_VALUE':
      return new ArgumentTypeError(code, message, details) as FaultlessError;
    case 'ERR_OUT_OF_RANGE':
      return new ArgumentRangeError(code, message, details) as FaultlessError;
    default:
      return new FaultlessError(code, message, details);
  }
}

/** What the native part rejects with or throws: see StatusToJs in csrc/binding/convert.h. */
interface Descriptor {
  code: ErrorCode;
  message?: string;
  errno?: number;
  syscall?: string;
  path?: string;
  offset?: number;
}

const meanings: Partial<Record<ErrorCode, string>> = {
  ERR_CLOSED: 'it is closed',
  ERR_READ_ONLY: 'it is open for reading only',
  ERR_OUT_OF_RANGE: 'out of range',
  ERR_NOT_FOUND: 'there is no such file',
  ERR_EXISTS: 'the file is there already',
  ERR_ACCESS: 'permission denied',
  ERR_IO: 'reading or writing failed',
  ERR_NO_SPACE: 'there is no space left',
  ERR_STORE_FULL: 'the store has reached maxBytes',
  ERR_MEMLOCK: 'the system refuses to lock so much memory',
  ERR_UNSUPPORTED: 'not supported here',
  ERR_BUSY: 'a lock is held by a process that does not let go',
  ERR_KEY_EMPTY: 'a key has at least one byte',
  ERR_KEY_TOO_LONG: 'a key has at most 65535 bytes',
  ERR_VALUE_TOO_LARGE: 'the value is too large',
};

/** Makes a FaultlessError of what the native part threw or rejected with; anything else is passed on as it is. */
export function fromNative(thrown: unknown): unknown {
  if (typeof thrown !== 'object' || thrown === null || thrown instanceof Error || !('code' in thrown)) return thrown;
  const { code, message, errno, syscall, path, offset } = thrown as Descriptor;
  const details: ErrorDetails = {};
  let text = message ?? meanings[code] ?? code;
  if (errno !== undefined) {
    const name = getSystemErrorName(errno);
    details.errno = errno;
    details.cause = Object.assign(new Error(`${name}${syscall === undefined ? '' : `: ${syscall}`}`), {
      code: name,
      errno,
    });
    text += ` (${name})`;
  }
  if (syscall !== undefined) {
    details.syscall = syscall;
    text += `, ${syscall}`;
  }
  if (offset !== undefined) {
    details.offset = offset;
    text += `, offset ${offset}`;
  }
  if (path !== undefined) {
    details.path = path;
    text += ` '${path}'`;
  }
  return newError(code, text, details);
}

/** Runs a synchronous call into the native part. */
export function callNative<T>(call: () => T): T {
  try {
    return call();
  } catch (thrown) {
    throw fromNative(thrown);
  }
}
