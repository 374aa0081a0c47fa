// What counts as a number in each encoding, for increment. With 'auto' the native part knows (csrc/store/write_rule.h):
// its numbers are added to under the shard's lock. With every other one a value is decoded, and encoded anew.
import type { ValueCodec } from './codec.js';

/** The decimal text of a number has no more characters. */
const mostCharacters = 400;
const decimal = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?$/;

/** Whether the native part adds to numbers of this encoding. */
export function addsNatively({ name, custom }: ValueCodec): boolean {
  return name === 'auto' && custom !== true;
}

function isText({ name, custom }: ValueCodec): boolean {
  return (name === 'utf8' || name === 'buffer') && custom !== true;
}

/** The number that a decoded value is; undefined: none. */
export function toNumber(codec: ValueCodec, value: unknown): number | undefined {
  if (!isText(codec)) return typeof value === 'number' && !Number.isNaN(value) ? value : undefined;
  const { length } = value as string | Buffer;
  if (length > mostCharacters) return undefined;
  const text = typeof value === 'string' ? value : (value as Buffer).toString('latin1');
  return decimal.test(text) ? Number(text) : undefined;
}

/** What stands for a number, to be encoded. */
export function fromNumber(codec: ValueCodec, number: number): unknown {
  return isText(codec) ? String(number) : number;
}
