/** Times of single operations, and what is told of them. */

const shares = [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999, 1] as const;

export interface Distribution {
  count: number;
  /** [share of the operations, milliseconds that they took at most]. */
  quantiles: [share: number, ms: number][];
}

/** Of at least one number. Sorts them. */
export function distributionOf(ms: Float64Array | number[]): Distribution {
  const sorted = Float64Array.from(ms).sort();
  const quantiles = shares.map((share): [number, number] => [
    share,
    sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] as number,
  ]);
  return { count: sorted.length, quantiles };
}

/** Milliseconds that this share of the operations took at most; one of those that are kept. */
export function quantile({ quantiles }: Distribution, share: (typeof shares)[number]): number {
  return (quantiles.find(([kept]) => kept === share) as [number, number])[1];
}
