import diagnostics, { type Channel } from 'node:diagnostics_channel';
import { addon } from '../addon.js';
import { FaultlessError } from '../errors.js';
import type { StoreHandle } from './native.js';
import { Kind } from './operation.js';
import type { Request } from './request.js';

/** What each message on a channel of node:diagnostics_channel has. */
export interface StoreMessage {
  /** As Store.location. */
  location: string;
}
/** `faultless:store:open`, `faultless:store:close`: a Store has been opened, or closed. */
export interface StoreOpenMessage extends StoreMessage {
  readOnly: boolean;
  /** From the call to its end. */
  durationMs: number;
}
/** `faultless:store:recovery`, `faultless:store:compaction`: how far that is. Bytes. */
export interface StoreProgressMessage extends StoreMessage {
  done: number;
  total: number;
}
/** `faultless:store:growth`: seen after a write of this Store, whichever process let the file grow. */
export interface StoreGrowthMessage extends StoreMessage {
  fileBytes: number;
  previousFileBytes: number;
}
/** `faultless:store:slow`: operations that travelled together took 100 ms or more. */
export interface StoreSlowMessage extends StoreMessage {
  /** What kinds they were of, each once: 'get', 'set', … */
  kinds: string[];
  operations: number;
  /** From the first call to the last answer. */
  durationMs: number;
  /** Of that without a thread: behind other requests, or behind a lock that is held. */
  waitedMs: number;
  /** Of that on a thread: what the device took, mostly. */
  workedMs: number;
}
/** `faultless:store:error`: an operation has failed, in a way that is no mistake in its arguments. */
export interface StoreErrorMessage extends StoreMessage {
  /** 'get', 'set', …, 'open', 'flush'. */
  operation: string;
  error: FaultlessError;
}

/** What tells of itself. */
interface Described {
  readonly location: string;
  readonly readOnly: boolean;
}

const slowMs = 100;

/** The kinds by name. */
const kindNames = Object.fromEntries(Object.entries(Kind).map(([name, kind]) => [kind, name]));

class MessageChannel<Message extends StoreMessage> {
  readonly #channel: Channel;

  constructor(name: string) {
    this.#channel = diagnostics.channel(`faultless:store:${name}`);
  }
  get isHeard(): boolean {
    return this.#channel.hasSubscribers;
  }
  publish(message: Message): void {
    this.#channel.publish(message);
  }
}

const opened = new MessageChannel<StoreOpenMessage>('open');
const closed = new MessageChannel<StoreOpenMessage>('close');
export const recovering: MessageChannel<StoreProgressMessage> = new MessageChannel<StoreProgressMessage>('recovery');
export const compacting: MessageChannel<StoreProgressMessage> = new MessageChannel<StoreProgressMessage>('compaction');
const grown = new MessageChannel<StoreGrowthMessage>('growth');
const slow = new MessageChannel<StoreSlowMessage>('slow');
const failed = new MessageChannel<StoreErrorMessage>('error');

/** What is no FaultlessError was thrown by a caller's own function, or is a signal's reason. */
export function tellError(location: string, operation: string, error: unknown): void {
  if (failed.isHeard && error instanceof FaultlessError) failed.publish({ location, operation, error });
}

/** `start`: when the call came, of performance.now(). */
export function tellOpened({ location, readOnly }: Described, start: number): void {
  if (opened.isHeard) opened.publish({ location, readOnly, durationMs: performance.now() - start });
}

export function tellClosed({ location, readOnly }: Described, start: number): void {
  if (closed.isHeard) closed.publish({ location, readOnly, durationMs: performance.now() - start });
}

/** Now, where somebody wants to know how long a request takes; else 0. */
export function startTime(): number {
  return slow.isHeard ? performance.now() : 0;
}

/** What one Store's operations tell. Costs a look at whether anybody listens. */
export class OperationDiagnostics {
  readonly #handle: StoreHandle;
  readonly #location: string;
  #fileBytes = 0;

  constructor(handle: StoreHandle, location: string) {
    this.#handle = handle;
    this.#location = location;
    if (grown.isHeard) this.wrote();
  }

  failed(operation: Kind | 'flush', error: unknown): void {
    tellError(this.#location, typeof operation === 'string' ? operation : (kindNames[operation] ?? ''), error);
  }

  /** All of a request has an answer. */
  ended(request: Request): void {
    if (request.startTime === 0 || !slow.isHeard) return;
    const durationMs = performance.now() - request.startTime;
    if (durationMs < slowMs) return;
    const { operations, native } = request;
    const [waitedMs = 0, workedMs = 0] = native === undefined ? [] : addon.storeTimes(native);
    const kinds = [...new Set(operations.map(({ kind }) => kindNames[kind] ?? ''))];
    slow.publish({
      location: this.#location,
      kinds,
      operations: operations.length,
      durationMs,
      waitedMs,
      workedMs,
    });
  }

  /** Something was written. */
  wrote(): void {
    if (!grown.isHeard) return;
    const { fileBytes } = addon.storeStats(this.#handle);
    const previousFileBytes = this.#fileBytes;
    this.#fileBytes = fileBytes;
    if (previousFileBytes === 0 || fileBytes <= previousFileBytes) return;
    grown.publish({ location: this.#location, fileBytes, previousFileBytes });
  }
}
