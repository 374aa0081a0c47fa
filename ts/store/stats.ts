import type { QueueStats } from '../addon.js';

/** What Store.stats() tells: all of it is in memory. */
export interface StoreStats {
  /** Live keys. */
  keys: number;
  liveBytes: number;
  /** Of superseded and deleted records, until cleaning gets to them. */
  garbageBytes: number;
  /** Length of the file. What has been given back to the filesystem counts, though it takes no space. */
  fileBytes: number;
  /** Of these, what is not used: it may have space, or have been given back. */
  freeBytes: number;
  maxBytes: number;
  /** Entries that all processes have evicted (onFull: 'evict') since the store was created, or recovered last. */
  evictions: number;
  shards: number;
  /** Lines of the index. */
  buckets: number;
  /** Lines that an index of a store of maxBytes can have. */
  maxBuckets: number;
  /** Entries per place for one in the index, 0 … 1. */
  loadFactor: number;
  maxLoadFactor: number;
  /**
   * Copies of hot values in this process (option hotBytes). Evictions: of copies, not of entries. Stale: found, but written since, by whichever process; each
   * counts as a miss as well.
   */
  hot: { entries: number; bytes: number; hits: number; misses: number; evictions: number; stale: number };
  /** Work of this Store on libuv's threads. Waiting and running: requests; one carries many operations. */
  queue: QueueStats;
  lockedBytes: number;
  /** Whether tryGet and tryHas can answer at all; otherwise they say COLD, always. */
  fastPath: boolean;
}
