import type { ValueCodec } from '../codec/codec.js';
import { decodeValue } from '../codec/encoding.js';
import type { ScanStep } from './native.js';

/** What is handed out of each entry. */
export interface Shape {
  keys: boolean;
  values: boolean;
  keyEncoding: 'utf8' | 'buffer';
}

/** Numbers per entry in a step's table: slab, offset and size of the key, then of the value. */
const tableColumns = 6;

/**
 * The entries of one step, one after another. A slab that came as a string is ASCII, of which each character is a byte:
 * texts are cut out of it. That costs a fraction of making each of them out of bytes, which is a crossing into the runtime.
 */
export class StepEntries {
  readonly #step: ScanStep;
  readonly #shape: Shape;
  readonly #codec: ValueCodec;
  /** How many entries have not been taken yet. */
  left: number;
  #column = 0;

  constructor(step: ScanStep, shape: Shape, codec: ValueCodec) {
    this.#step = step;
    this.#shape = shape;
    this.#codec = codec;
    this.left = step.count;
  }

  /** No step comes after this one. */
  get isLast(): boolean {
    return this.#step.done;
  }

  /** Whether the values had better come as strings, to judge by the next one. */
  get areTexts(): boolean {
    const { textMark } = this.#codec;
    if (textMark === undefined || textMark < 0 || this.left === 0) return textMark !== undefined;
    const { table, valueSlabs } = this.#step;
    const slab = valueSlabs[table[this.#column + 3] as number] as string | Buffer;
    const start = table[this.#column + 4] as number;
    return (typeof slab === 'string' ? slab.charCodeAt(start) : slab[start]) === textMark;
  }

  /** The next entry in its shape; there must be one. */
  take(): unknown {
    const column = this.#column;
    const { keys, values } = this.#shape;
    this.#column = column + tableColumns;
    this.left--;
    const key = keys ? this.#keyAt(column) : undefined;
    if (!values) return key;
    const value = this.#valueAt(column + 3);
    return keys ? [key, value] : value;
  }

  #keyAt(column: number): string | Buffer {
    const { table, keySlabs } = this.#step;
    const slab = keySlabs[table[column] as number] as string | Buffer;
    const start = table[column + 1] as number;
    const end = start + (table[column + 2] as number);
    if (typeof slab === 'string') return slab.substring(start, end);
    return this.#shape.keyEncoding === 'utf8' ? slab.toString('utf8', start, end) : slab.subarray(start, end);
  }

  #valueAt(column: number): unknown {
    const { table, valueSlabs } = this.#step;
    const slab = valueSlabs[table[column] as number] as string | Buffer;
    const start = table[column + 1] as number;
    const end = start + (table[column + 2] as number);
    const codec = this.#codec;
    if (typeof slab !== 'string') return decodeValue(codec, slab, start, end, true);
    const { textMark = -1 } = codec;
    if (textMark < 0) return slab.substring(start, end);
    if (start < end && slab.charCodeAt(start) === textMark) return slab.substring(start + 1, end);
    const bytes = Buffer.from(slab.substring(start, end), 'latin1');
    return decodeValue(codec, bytes, 0, bytes.length, true);
  }
}
