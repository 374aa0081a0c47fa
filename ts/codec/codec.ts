/**
 * How values become bytes, and bytes values again, for `encoding` of Store.open. The name (1 … 63 bytes, none of the
 * built-in ones) is kept in the file: opening it later with a codec of another name fails with ERR_FORMAT.
 *
 * `encode` is called during the call of the method that takes the value; what it answers is copied at once. `decode`
 * gets bytes that are its own to keep. Where one of them throws, that call alone fails: ERR_INVALID_ARG_VALUE from
 * `encode`, ERR_CORRUPT from `decode`, with the thrown thing as `cause` (a FaultlessError is passed on as it is).
 */
export interface Codec<V> {
  readonly name: string;
  encode(value: V): Uint8Array | string;
  decode(bytes: Buffer): V;
}

/** A value on its way into a request: one optional byte, then text as UTF-8 or bytes. */
export interface EncodedValue {
  /** The byte before the rest; -1: none. */
  readonly prefix: number;
  readonly data: string | Uint8Array;
  /** `data` is bytes that nobody else will change or use again: they need no copy. */
  readonly owned: boolean;
}

/** What a store works with: a built-in encoding, or a {@link Codec} wrapped. */
export interface ValueCodec {
  readonly name: string;
  /** Its functions are somebody else's. */
  readonly custom?: boolean;
  /** Nearly every value that it decodes keeps a view of the bytes, so that bytes of their own save a copy. */
  readonly keepsBytes?: boolean;
  /** Throws whatever it likes. What it answers is used before anything else is encoded. */
  encode(value: unknown): EncodedValue;
  /**
   * Decodes bytes[start … end). owned: nobody else will use these bytes, so that the value may keep a view of them.
   * Throws whatever it likes.
   */
  decode(bytes: Buffer, start: number, end: number, owned: boolean): unknown;
  /** The byte before values that are UTF-8 text up to their end; -1: all are, and no byte comes before. */
  readonly textMark?: number;
}

/** The bytes as a Buffer of their own. */
export function viewOf(bytes: Buffer, start: number, end: number, owned: boolean): Buffer {
  const view = bytes.subarray(start, end);
  return owned ? view : Buffer.from(view);
}
