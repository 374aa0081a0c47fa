// Keyv's own tests of storage adapters, over a store in memory that its adapters share: vitest runs this.

import keyvTestSuite, { keyvIteratorTests } from '@keyv/test-suite';
import { Keyv } from 'keyv';
import * as vitest from 'vitest';
import { afterAll } from 'vitest';

// By file: this folder is a package of its own.
const { Store } = await import('../../dist/index.js');
const { KeyvFaultless } = await import('../../dist/keyv.js');

const location = `shm:keyv-suite.${process.pid}`;
const store = await Store.open(location);
// An adapter belongs to one Keyv, which sets its namespace.
const adapter = () => new KeyvFaultless(store);
afterAll(async () => {
  await store.close();
  await Store.destroy(location);
});

keyvTestSuite(vitest, Keyv, adapter);
keyvIteratorTests(vitest, Keyv, adapter);
