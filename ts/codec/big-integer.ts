/**
 * A sign byte (0, or 1: negative), then the magnitude, most significant byte first and none for 0n: one form per
 * number.
 */
export function encodeBigInt(value: bigint): Buffer {
  const negative = value < 0n;
  const digits = value === 0n ? '' : (negative ? -value : value).toString(16);
  return Buffer.from(`${negative ? '01' : '00'}${digits.length % 2 === 1 ? '0' : ''}${digits}`, 'hex');
}

export function decodeBigInt(bytes: Buffer, start: number, end: number): bigint {
  const magnitude = end === start + 1 ? 0n : BigInt(`0x${bytes.toString('hex', start + 1, end)}`);
  return bytes[start] === 1 ? -magnitude : magnitude;
}
