import { classicLevel } from './classic-level.js';
import { faultless } from './faultless.js';
import { lmdb } from './lmdb.js';
import type { KeyValueSystem, SystemName } from './system.js';

/** The systems that are stores. `fs` is none: it takes part where whole files are read. */
const stores: Partial<Record<SystemName, KeyValueSystem>> = { faultless, lmdb, 'classic-level': classicLevel };

export function storeOf(system: SystemName): KeyValueSystem {
  const store = stores[system];
  if (store === undefined) throw new Error(`${system} is no store`);
  return store;
}
