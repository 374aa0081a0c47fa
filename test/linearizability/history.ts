// Histories that survive SIGKILL: each process appends to a file of its own. A write is noted before it is called, and
// again when it is answered: what has been written to the file is in the kernel's hands whatever becomes of the process,
// and a write of which only half a line is there was never called. A read is noted once it is answered, and some of the
// last reads of a killed process are missing: they explain nothing. Times are CLOCK_MONOTONIC's, one clock for all
// processes of the host.
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import type { Operation } from './checker.js';

/** By which method, for reports, and what kind of operation that is to the checker. */
export const methods = {
  set: 'set',
  setSync: 'set',
  delete: 'delete',
  deleteSync: 'delete',
  get: 'get',
  getSync: 'get',
  tryGet: 'get',
  getMany: 'get',
  has: 'has',
  hasSync: 'has',
  compareAndSet: 'swap',
  increment: 'add',
  incrementSync: 'add',
} as const satisfies Record<string, Operation['kind']>;

export type Method = keyof typeof methods;
const methodNames = Object.keys(methods) as Method[];

/** How a call ended. A write that failed may have happened. COLD is 'nothing'. */
export type Ending = 'answered' | 'nothing' | 'busy' | 'wrong';
const endings: readonly Ending[] = ['answered', 'nothing', 'busy', 'wrong'];
const called = 255;

const lineBytes = 32;
const bufferedLines = 64;

/** One line of the file. */
export interface Call {
  /** Of the process; each does one operation at a time. */
  readonly client: number;
  readonly method: Method;
  readonly key: number;
  /** set: what it writes, as in Operation. */
  readonly value: number;
  /** compareAndSet: likewise. */
  readonly expected: number;
  readonly invoked: bigint;
}

const isWrite = (method: Method): boolean => methods[method] !== 'get' && methods[method] !== 'has';

/** One process's file. */
export class HistoryLog implements Disposable {
  readonly #fd: number;
  readonly #buffer = Buffer.alloc(bufferedLines * lineBytes);
  #filled = 0;

  constructor(path: string) {
    this.#fd = openSync(path, 'a', 0o600);
  }

  /** To be called right before the call itself. */
  call(client: number, method: Method, key: number, value: number, expected = 0): Call {
    const call = { client, method, key, value, expected, invoked: process.hrtime.bigint() };
    if (isWrite(method)) {
      this.#append(called, call, value, 0n);
      this.#flush();
    }
    return call;
  }

  /** `returned` was taken right after the call. `answer`: as in Operation. */
  end(call: Call, ending: Ending, answer: number, returned: bigint): void {
    this.#append(endings.indexOf(ending), call, answer, returned);
    if (isWrite(call.method) || this.#filled === this.#buffer.length) this.#flush();
  }

  [Symbol.dispose](): void {
    this.#flush();
    closeSync(this.#fd);
  }

  #append(phase: number, call: Call, value: number, returned: bigint): void {
    const at = this.#filled;
    const buffer = this.#buffer;
    buffer[at] = phase;
    buffer[at + 1] = methodNames.indexOf(call.method);
    buffer.writeUInt16LE(call.client, at + 2);
    buffer.writeUInt32LE(call.key, at + 4);
    buffer.writeUInt32LE(value, at + 8);
    buffer.writeUInt32LE(call.expected, at + 12);
    buffer.writeBigUInt64LE(call.invoked, at + 16);
    buffer.writeBigUInt64LE(returned, at + 24);
    this.#filled = at + lineBytes;
  }

  #flush(): void {
    const length = this.#filled;
    this.#filled = 0;
    if (writeSync(this.#fd, this.#buffer, 0, length) !== length) throw new Error('the history was cut short');
  }
}

export interface History {
  /** Of each key. */
  readonly operations: ReadonlyMap<number, Operation[]>;
  /** Calls that ended in an error other than ERR_BUSY, or in a value that nobody made: none may. */
  readonly wrong: readonly string[];
  readonly counts: Readonly<Record<Method, number>>;
  /** Writes without an answer: their process was killed, or the answer was ERR_BUSY. */
  readonly unanswered: number;
}

/** A write that has been called. */
interface Written {
  readonly method: Method;
  readonly key: number;
  readonly value: number;
  readonly expected: number;
  readonly invoked: number;
}

/** What the processes that wrote these files did, those included that were killed. */
export function readHistory(paths: readonly string[]): History {
  const operations = new Map<number, Operation[]>();
  const wrong: string[] = [];
  const counts = Object.fromEntries(methodNames.map((name) => [name, 0])) as Record<Method, number>;
  let unanswered = 0;
  paths.forEach((path, number) => {
    const bytes = readFileSync(path);
    /** The write that each client has called and that has not ended. */
    const open = new Map<number, Written>();
    const add = (client: number, method: Method, key: number, rest: Omit<Operation, 'kind' | 'label'>) => {
      const label = `${method} of key ${key}, process ${number}, client ${client}`;
      const ofKey = operations.get(key) ?? [];
      ofKey.push({ kind: methods[method], label, ...rest });
      operations.set(key, ofKey);
      if (rest.returned === Infinity) unanswered++;
      else counts[method]++;
    };
    for (let at = 0; at + lineBytes <= bytes.length; at += lineBytes) {
      const phase = bytes.readUInt8(at);
      const method = methodNames[bytes.readUInt8(at + 1)] ?? 'get';
      const client = bytes.readUInt16LE(at + 2);
      const key = bytes.readUInt32LE(at + 4);
      const value = bytes.readUInt32LE(at + 8);
      const expected = bytes.readUInt32LE(at + 12);
      // Nanoseconds since the host started: exact in a number for a hundred days, and good to 4 ns for years.
      const invoked = Number(bytes.readBigUInt64LE(at + 16));
      const returned = Number(bytes.readBigUInt64LE(at + 24));
      if (phase === called) {
        open.set(client, { method, key, value, expected, invoked });
        continue;
      }
      const ending = endings[phase];
      const written = isWrite(method) ? open.get(client) : undefined;
      if (written !== undefined) open.delete(client);
      if (ending === 'wrong') wrong.push(`${method} of key ${key} by process ${number} at ${invoked} ns`);
      if (ending === 'answered') {
        const kind = methods[method];
        const answered = kind === 'set' || kind === 'swap' ? (written?.value ?? 0) : value;
        const swap = kind === 'swap' ? { expected, done: value === 1 } : {};
        add(client, method, key, { value: answered, invoked, returned, ...swap });
      } else if (written !== undefined) {
        add(client, method, key, { value: written.value, expected, invoked, returned: Infinity });
      }
    }
    for (const [client, { method, key, value, expected, invoked }] of open) {
      add(client, method, key, { value, expected, invoked, returned: Infinity });
    }
  });
  return { operations, wrong, counts, unanswered };
}
