import path from 'node:path';
import { COLD, Store } from 'faultless';
import { allocatedBytes, ramDirectory } from './files.js';
import type { Connection, KeyValueSystem, OpenOptions, Place, Stored } from './system.js';

const defaultHotBytes = 16 * 2 ** 20;

function locationOf({ medium, directory, name }: Place): string {
  return medium === 'ram' ? `shm:${name}` : path.join(directory, name);
}

async function open(place: Place, { values, cache, pin }: OpenOptions): Promise<Connection> {
  const options = { hotBytes: cache ? defaultHotBytes : 0, pin };
  const location = locationOf(place);
  const store: Store<Stored> =
    values === 'strings'
      ? await Store.open(location, { ...options, encoding: 'utf8' })
      : await Store.open(location, { ...options, encoding: 'buffer' });
  return {
    get: (key) => store.get(key),
    getMany: (keys) => store.getMany(keys),
    getSync: (key) => store.getSync(key),
    tryGet: (key) => {
      const value = store.tryGet(key);
      if (value === COLD) throw new Error('tryGet answered COLD of a store that is in memory');
      return value;
    },
    set: (key, value) => store.set(key, value),
    setSync: (key, value) => store.setSync(key, value),
    scan: async (visit) => {
      for await (const [key, value] of store) visit(key, value);
    },
    close: () => store.close(),
  };
}

export const faultless: KeyValueSystem = {
  open,
  allocatedBytes: (place) =>
    place.medium === 'ram'
      ? Promise.reject(new Error(`stores in RAM have no file outside ${ramDirectory} to measure`))
      : allocatedBytes(locationOf(place)),
  destroy: (place) => Store.destroy(locationOf(place)),
};
