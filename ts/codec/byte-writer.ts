/** Bytes that grow at their end. */
export class ByteWriter {
  bytes: Buffer;
  length = 0;

  constructor(capacity: number) {
    this.bytes = Buffer.allocUnsafeSlow(capacity);
  }

  /** Makes room for `size` more bytes; answers where they go. */
  reserve(size: number): number {
    const needed = this.length + size;
    if (needed > this.bytes.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(needed, 2 * this.bytes.length));
      this.bytes.copy(larger, 0, 0, this.length);
      this.bytes = larger;
    }
    return this.length;
  }

  writeByte(value: number): void {
    const at = this.reserve(1);
    this.bytes[at] = value;
    this.length = at + 1;
  }

  /**
   * Text as UTF-8; answers how many bytes that was. Lone surrogates become U+FFFD: check for them where the answer is
   * not the text's length.
   */
  writeText(text: string): number {
    const size = text.length;
    const at = this.reserve(3 * size);
    const { bytes } = this;
    if (size <= 24) {
      let i = 0;
      for (; i < size; i++) {
        const unit = text.charCodeAt(i);
        if (unit >= 0x80) break;
        bytes[at + i] = unit;
      }
      if (i === size) {
        this.length = at + size;
        return size;
      }
    }
    const written = bytes.write(text, at, 'utf8');
    this.length = at + written;
    return written;
  }

  writeBytes(source: Uint8Array): void {
    const at = this.reserve(source.length);
    this.bytes.set(source, at);
    this.length = at + source.length;
  }
}
