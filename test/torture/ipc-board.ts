// What all processes of an IPC torture run know: a segment of counters. A producer's and a writer's slot is used by one
// process after the other; each is a life of it.
import { Segment } from 'faultless';

export const slots = 4;
/** Numbers that one producer may give to elements, and writers lines, in one run. */
export const mostNumbers = 1 << 20;

const fields = [
  // producers: the latest number
  'next',
  // writers: the process that writes now, the lines that were taken of it, and of which one before it how many
  'life',
  'acknowledged',
  'earlierLife',
  'acknowledgedOfEarlier',
  // readers: of each writer
  'seenLife',
  'seen',
] as const;
export type Field = (typeof fields)[number];

export class IpcBoard {
  readonly #segment: Segment;
  readonly #words: Int32Array;
  readonly #marks: Int32Array;

  constructor(name: string) {
    const words = fields.length * slots;
    this.#segment = Segment.openSync(name, { size: 4 * (words + slots * mostNumbers) });
    this.#words = new Int32Array(this.#segment.buffer, 0, words);
    this.#marks = new Int32Array(this.#segment.buffer, 4 * words);
  }

  get(field: Field, slot: number): number {
    return Atomics.load(this.#words, fields.indexOf(field) * slots + slot);
  }

  set(field: Field, slot: number, value: number): void {
    Atomics.store(this.#words, fields.indexOf(field) * slots + slot, value);
  }

  /** Answers what it is then. */
  add(field: Field, slot: number): number {
    return Atomics.add(this.#words, fields.indexOf(field) * slots + slot, 1) + 1;
  }

  /** Element number `number` of the producer has been worked on once more: how often by then. */
  mark(slot: number, number: number): number {
    return Atomics.add(this.#marks, slot * mostNumbers + number, 1) + 1;
  }

  marks(slot: number, number: number): number {
    return Atomics.load(this.#marks, slot * mostNumbers + number);
  }

  close(): void {
    this.#segment.close();
  }
}
