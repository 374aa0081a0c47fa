/** The process that fills one store by setSync, each call timed. Started with --expose-gc. */
import { readFileSync } from 'node:fs';
import { answerParent } from '../answering.js';
import { keyBytes, makeKeys, Random, Values, valueBytes } from '../data.js';
import { storeOf } from '../systems/index.js';
import { need } from '../works/work.js';

export interface GrowthTask {
  directory: string;
  keys: number;
}

/** The sets that brought the store from one size to the next. */
export interface Stretch {
  from: number;
  to: number;
  meanNs: number;
  p50Ns: number;
  p999Ns: number;
  worstMs: number;
  /** Of the thousands of sets during which no thread of this process was put aside for another one. */
  worstUndisturbedMs: number;
  /** At the end of it, after a collection. */
  heapBytes: number;
  /** Memory of the process that is no file's. */
  anonymousBytes: number;
}

export interface GrowthAnswer {
  stretches: Stretch[];
  /** In the closed file, beyond key and value. */
  bytesPerEntry: number;
}

const batch = 1_000;
const smallest = 10_000;

async function perform({ directory, keys }: GrowthTask): Promise<GrowthAnswer> {
  const place = { medium: 'disk', directory, name: 'growing' } as const;
  const store = storeOf('faultless');
  const connection = await store.open(place, { values: 'strings', cache: false, pin: false });
  const setSync = need(connection.setSync, 'setSync');
  const values = new Values('strings');
  const stretches: Stretch[] = [];
  let from = 0;
  for (const to of sizesUpTo(keys)) {
    stretches.push({ ...grow(setSync, values, from, to), ...memory() });
    from = to;
  }
  const get = need(connection.get, 'get');
  const random = new Random(1);
  for (let i = 0; i < 10_000; i++) {
    const number = random.below(keys);
    values.check(number, await get(makeKeys(1, number)[0] as string));
  }
  await connection.close();
  const bytes = await store.allocatedBytes(place);
  return { stretches, bytesPerEntry: bytes / keys - keyBytes - valueBytes };
}

/** 10,000, then four sizes to each power of ten. */
function sizesUpTo(keys: number): number[] {
  const sizes: number[] = [];
  for (let i = 0; ; i++) {
    const size = Math.round((smallest * 10 ** (i / 4)) / batch) * batch;
    if (size >= keys) return [...sizes, keys];
    sizes.push(size);
  }
}

function grow(
  setSync: (key: string, value: string | Buffer) => void,
  values: Values,
  from: number,
  to: number,
): Omit<Stretch, 'heapBytes' | 'anonymousBytes'> {
  const times = new Times();
  let worst = 0;
  let worstUndisturbed = 0;
  for (let start = from; start < to; start += batch) {
    const keys = makeKeys(Math.min(batch, to - start), start);
    const before = process.resourceUsage().involuntaryContextSwitches;
    let slowest = 0;
    for (let i = 0; i < keys.length; i++) {
      const begin = performance.now();
      setSync(keys[i] as string, values.of(start + i));
      const took = performance.now() - begin;
      times.add(took * 1e6);
      if (took > slowest) slowest = took;
    }
    const disturbed = process.resourceUsage().involuntaryContextSwitches > before;
    worst = Math.max(worst, slowest);
    if (!disturbed) worstUndisturbed = Math.max(worstUndisturbed, slowest);
  }
  return {
    ...{ from, to, meanNs: times.mean, worstMs: worst, worstUndisturbedMs: worstUndisturbed },
    p50Ns: times.quantile(0.5),
    p999Ns: times.quantile(0.999),
  };
}

/** Times of any number of calls in memory that does not grow with it: what the process takes is a figure here. */
class Times {
  /** Sixteen buckets to each power of two: quantiles are up to 4 % too large. */
  readonly #buckets = new Float64Array(16 * 40);
  #count = 0;
  #sum = 0;

  add(ns: number): void {
    this.#count++;
    this.#sum += ns;
    const bucket = Math.min(this.#buckets.length - 1, Math.floor(16 * Math.log2(Math.max(1, ns))));
    this.#buckets[bucket] = (this.#buckets[bucket] as number) + 1;
  }

  get mean(): number {
    return this.#sum / this.#count;
  }

  quantile(share: number): number {
    let rest = share * this.#count;
    const bucket = this.#buckets.findIndex((count) => {
      rest -= count;
      return rest <= 0;
    });
    return 2 ** ((bucket + 1) / 16);
  }
}

function memory(): { heapBytes: number; anonymousBytes: number } {
  (globalThis as { gc?: () => void }).gc?.();
  const status = process.platform === 'linux' ? readFileSync('/proc/self/status', 'utf8') : '';
  const { heapUsed, external } = process.memoryUsage();
  return { heapBytes: heapUsed + external, anonymousBytes: 1024 * Number(/^RssAnon:\s*(\d+)/m.exec(status)?.[1]) };
}

await answerParent(perform);
