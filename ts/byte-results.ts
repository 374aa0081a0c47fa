/** How a job hands out bytes: see csrc/binding/byte_results.h. */
export type ByteResults = readonly [chunks: ArrayBuffer[], layout: Float64Array];

/** A result of a job as a Buffer; undefined where it is absent. */
export function resultAt([chunks, layout]: ByteResults, index: number): Buffer | undefined {
  const chunk = layout[3 * index] as number;
  if (chunk < 0) return undefined;
  return Buffer.from(chunks[chunk] as ArrayBuffer, layout[3 * index + 1] as number, layout[3 * index + 2] as number);
}

/** How many results there are. */
export function resultCount([, layout]: ByteResults): number {
  return layout.length / 3;
}
