import { rm } from 'node:fs/promises';
import { requirePeer } from '../peers.js';
import { allocatedBytes, directoryOf } from './files.js';
import type { Connection, KeyValueSystem, OpenOptions, Place, Stored } from './system.js';

/** What is used of lmdb: its own types are there only once it is installed. */
interface Database {
  get(key: string): Stored | undefined;
  getBinary(key: string): Buffer | undefined;
  getAsync(key: string): Promise<Stored | undefined>;
  getMany(keys: string[]): Promise<(Stored | undefined)[]>;
  put(key: string, value: Stored): Promise<boolean>;
  putSync(key: string, value: Stored): void;
  getRange(): Iterable<{ key: string; value: Stored }>;
  close(): Promise<void>;
}

async function open(place: Place, { values, cache }: OpenOptions): Promise<Connection> {
  const { open } = requirePeer('lmdb') as { open(options: object): Database };
  const database = open({
    path: directoryOf(place),
    noSubdir: false,
    encoding: values === 'strings' ? 'string' : 'binary',
    cache,
    noSync: true, // as durable as what it is compared with: a commit survives the process, not the machine
    mapSize: 2 ** 34,
  });
  return {
    get: (key) => database.getAsync(key),
    getMany: (keys) => database.getMany(keys),
    getSync: values === 'strings' ? (key) => database.get(key) : (key) => database.getBinary(key),
    // Reading puts objects into the cache, and no strings; writing puts everything there.
    prime: (key, value) => database.put(key, value),
    set: (key, value) => database.put(key, value),
    setSync: (key, value) => database.putSync(key, value),
    scan: async (visit) => {
      for (const { key, value } of database.getRange()) visit(key, value);
    },
    close: () => database.close(),
  };
}

export const lmdb: KeyValueSystem = {
  open,
  allocatedBytes: (place) => allocatedBytes(directoryOf(place)),
  destroy: (place) => rm(directoryOf(place), { recursive: true, force: true }),
};
