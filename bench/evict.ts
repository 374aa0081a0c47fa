/**
 * `npm run bench:evict -- [MIB] [REQUESTS] [KEYS]`: how often a store that evicts (onFull: 'evict') has what is asked for,
 * beside lru-cache. Requests follow Zipf's law; what is not there is set. Three traces: these requests alone; with one of a
 * key that is never asked for again after each of them; and with ten scans of such keys, each twice as long as the cache.
 * Only requests of the Zipf trace count. lru-cache may hold as many entries as the store did at the end of the trace; or,
 * what is harder for the store, as many bytes of keys and values as the store may have for all it is.
 */
import { Store } from 'faultless';
import { keyBytes, valueBytes, Zipf } from './data.js';
import { install, installedVersion, requireFrom } from './packages.js';

const MiB = 2 ** 20;
const [mebibytes = '16', requestsText = '1000000', keysText = '1000000'] = process.argv.slice(2);
const maxBytes = Number(mebibytes) * MiB;
const requests = Number(requestsText);
const keyCount = Number(keysText);
const scans = 10;

await install('caches');
interface Lru {
  get(key: string): number | undefined;
  set(key: string, value: number): void;
}
interface Limits {
  max?: number;
  maxSize?: number;
  sizeCalculation?(): number;
}
const { LRUCache } = requireFrom('caches')('lru-cache') as { LRUCache: new (limits: Limits) => Lru };

type Trace = 'alone' | 'mixed' | 'scans';
const titles: Record<Trace, string> = {
  alone: 'Zipf alone',
  mixed: 'every other request a key asked for once',
  scans: `${scans} scans, each twice the cache`,
};

interface Cache {
  /** Whether it was there; it is afterwards. */
  ask(key: string): boolean;
}

/** Share of the requests of the Zipf trace that found what they asked for. */
function hitRatio(cache: Cache, picks: Uint32Array, trace: Trace, entries: number): number {
  let hits = 0;
  let fresh = 0;
  const once = (): void => {
    cache.ask(`once${fresh++}`.padEnd(keyBytes, '-'));
  };
  for (let i = 0; i < picks.length; i++) {
    if (cache.ask(`key${picks[i]}`.padEnd(keyBytes, '-'))) hits++;
    if (trace === 'mixed') once();
    const every = Math.floor(picks.length / scans);
    if (trace === 'scans' && i % every === every >> 1) for (let j = 0; j < 2 * entries; j++) once();
  }
  return hits / picks.length;
}

async function ofStore(picks: Uint32Array, trace: Trace, entries: number): Promise<{ ratio: number; size: number }> {
  const location = `shm:bench-evict.${process.pid}`;
  const store = await Store.open(location, { maxBytes, onFull: 'evict', encoding: 'buffer' });
  const value = Buffer.alloc(valueBytes, 'v');
  const ask = (key: string): boolean => {
    if (store.getSync(key) !== undefined) return true;
    store.setSync(key, value);
    return false;
  };
  try {
    return { ratio: hitRatio({ ask }, picks, trace, entries), size: store.size };
  } finally {
    await store.close();
    await Store.destroy(location);
  }
}

function ofLru(picks: Uint32Array, trace: Trace, entries: number, limits: Limits): number {
  const lru = new LRUCache(limits);
  const ask = (key: string): boolean => {
    if (lru.get(key) !== undefined) return true;
    lru.set(key, 1);
    return false;
  };
  return hitRatio({ ask }, picks, trace, entries);
}

const percent = (ratio: number): string => `${(100 * ratio).toFixed(1)} %`;
const version = installedVersion('caches', 'lru-cache');
console.log(
  `${requests.toLocaleString('en')} requests of ${keyCount.toLocaleString('en')} keys, values of ${valueBytes} bytes, ` +
    `a store of ${mebibytes} MiB in RAM, lru-cache ${version}`,
);
console.log('| exponent | trace | faultless | entries | lru-cache, as many entries | lru-cache, as many bytes |');
console.log('|---:|---|---:|---:|---:|---:|');
for (const exponent of [0.8, 0.9, 1]) {
  const zipf = new Zipf(1, keyCount, exponent);
  const picks = Uint32Array.from({ length: requests }, () => zipf.next());
  let entries = Math.floor(maxBytes / (2 * (keyBytes + valueBytes)));
  for (const trace of ['alone', 'mixed', 'scans'] as const) {
    const { ratio, size } = await ofStore(picks, trace, entries);
    if (trace === 'alone') entries = size;
    const sameEntries = ofLru(picks, trace, entries, { max: size });
    const sameBytes = ofLru(picks, trace, entries, {
      maxSize: maxBytes,
      sizeCalculation: () => keyBytes + valueBytes,
    });
    console.log(
      `| ${exponent} | ${titles[trace]} | ${percent(ratio)} | ${size.toLocaleString('en')} | ` +
        `${percent(sameEntries)} | ${percent(sameBytes)} |`,
    );
  }
}
