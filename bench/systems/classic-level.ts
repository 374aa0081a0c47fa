import { rm } from 'node:fs/promises';
import { requirePeer } from '../peers.js';
import { allocatedBytes, directoryOf } from './files.js';
import type { Connection, KeyValueSystem, OpenOptions, Place, Stored } from './system.js';

/** What is used of classic-level: its own types are there only once it is installed. */
interface Database {
  open(): Promise<void>;
  get(key: string): Promise<Stored | undefined>;
  getMany(keys: string[]): Promise<(Stored | undefined)[]>;
  batch(operations: { type: 'put'; key: string; value: Stored }[]): Promise<void>;
  iterator(): AsyncIterable<[string, Stored]>;
  close(): Promise<void>;
}

async function open(place: Place, { values }: OpenOptions): Promise<Connection> {
  const { ClassicLevel } = requirePeer('classic-level') as {
    ClassicLevel: new (location: string, options: object) => Database;
  };
  const valueEncoding = values === 'strings' ? 'utf8' : 'buffer';
  const database = new ClassicLevel(directoryOf(place), { keyEncoding: 'utf8', valueEncoding });
  await database.open();
  return {
    get: (key) => database.get(key),
    getMany: (keys) => database.getMany(keys),
    setBatch: (keys, stored) =>
      database.batch(keys.map((key, i) => ({ type: 'put', key, value: stored[i] as Stored }))),
    scan: async (visit) => {
      for await (const [key, value] of database.iterator()) visit(key, value);
    },
    close: () => database.close(),
  };
}

export const classicLevel: KeyValueSystem = {
  open,
  allocatedBytes: (place) => allocatedBytes(directoryOf(place)),
  destroy: (place) => rm(directoryOf(place), { recursive: true, force: true }),
};
