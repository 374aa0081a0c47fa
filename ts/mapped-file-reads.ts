// The reads of a MappedFile that are issued in one tick travel together: one crossing there and one back for dozens.
import { addon, type MapHandle } from './addon.js';
import { type ByteResults, resultAt } from './byte-results.js';
import { fromNative } from './errors.js';

/** A job carries as many reads, or bytes, at most: so that threads share what one tick asks for. */
const maxReads = 64;
const maxBytes = 256 * 1024;
/** In `indexes`: a read that failed. */
const failed = 0xffff_ffff;

/** Reads that have come to an end together: what `indexes` says of each result, and [index, descriptor, …]. */
export interface ReadPart {
  results: ByteResults;
  indexes: Uint32Array;
  failures: readonly unknown[];
}

interface Waiting {
  resolve: (bytes: Buffer) => void;
  reject: (reason: unknown) => void;
}

/**
 * Reads that have been issued and have no job yet. They get one when the tick is over, when there are enough of them, or
 * when something else is issued on the file, which must come after them: send().
 */
export class ReadGathering {
  readonly #handle: MapHandle;
  #waiting: Waiting[] = [];
  #ranges: number[] = [];
  #bytes = 0;

  constructor(handle: MapHandle) {
    this.#handle = handle;
  }

  read(position: number, length: number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      if (this.#waiting.length === 0) process.nextTick(() => this.send());
      this.#waiting.push({ resolve, reject });
      this.#ranges.push(position, length);
      this.#bytes += length;
      if (this.#waiting.length >= maxReads || this.#bytes >= maxBytes) this.send();
    });
  }

  /** Gives what has been gathered to a job. */
  send(): void {
    if (this.#waiting.length === 0) return;
    const waiting = this.#waiting;
    const ranges = Float64Array.from(this.#ranges);
    this.#waiting = [];
    this.#ranges = [];
    this.#bytes = 0;
    const settle = (part: ReadPart): void => settlePart(waiting, part);
    // A read that has been settled is not rejected any more.
    const rejectAll = (thrown: unknown): void => {
      for (const { reject } of waiting) reject(fromNative(thrown));
    };
    try {
      addon.mapReadEach(this.#handle, ranges, settle).then(settle, rejectAll);
    } catch (thrown) {
      rejectAll(thrown);
    }
  }
}

function settlePart(waiting: readonly Waiting[], { results, indexes, failures }: ReadPart): void {
  for (let i = 0; i < indexes.length; i++) {
    const index = indexes[i] as number;
    if (index !== failed) (waiting[index] as Waiting).resolve(resultAt(results, i) as Buffer);
  }
  for (let i = 0; i < failures.length; i += 2) {
    (waiting[failures[i] as number] as Waiting).reject(fromNative(failures[i + 1]));
  }
}
