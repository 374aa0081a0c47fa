// warm(): what was on the device only is in memory afterwards, on a real device.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { COLD, Store } from 'faultless';
import { SlowDisk } from './rig/slow-disk.js';
import { newPath, rejects } from './store-fixture.js';

const count = 3_000;
const largeKey = 'large';
const largeBytes = 3_000_000;
const keyOf = (i: number): string => `key ${i}`;
const madeOf = (i: number): Buffer => Buffer.alloc(1_500, i);

describe('warm', () => {
  test('brings what is on the device into memory, large values as well; the rest stays there', async (t) => {
    const disk = await SlowDisk.forTest(t, { sizeMiB: 64, journal: false });
    if (disk === undefined) return;
    const path = join(disk.directory, 'store');
    {
      await using store = await Store.open(path, { encoding: 'buffer' });
      await store.setMany(Array.from({ length: count }, (_, i) => [keyOf(i), madeOf(i)] as const));
      await store.set(largeKey, Buffer.alloc(largeBytes, 7));
      await store.flush();
    }
    await disk.dropCaches();
    await using store = await Store.open(path, { encoding: 'buffer', hotBytes: 0 });
    const wanted = Array.from({ length: 100 }, (_, i) => keyOf(i * 29));
    const coldBefore = wanted.filter((key) => store.tryGet(key) === COLD).length;
    assert.ok(coldBefore > 50, `${coldBefore} cold ones before`);

    await store.warm([...wanted, 'absent', Buffer.from(keyOf(1)), largeKey]);
    for (const [i, key] of wanted.entries()) assert.deepEqual(store.tryGet(key), madeOf(i * 29), key);
    assert.deepEqual(store.tryGet(keyOf(1)), madeOf(1));
    const large = await store.get(largeKey);
    assert.ok(large?.equals(Buffer.alloc(largeBytes, 7)));
    const coldAfter = Array.from({ length: count }, (_, i) => store.tryGet(keyOf(i))).filter((v) => v === COLD).length;
    assert.ok(coldAfter > count / 10, `${coldAfter} cold ones after`);
  });

  test('a device that cannot be read is ERR_IO, and does no harm', async (t) => {
    const disk = await SlowDisk.forTest(t, { sizeMiB: 32, journal: false });
    if (disk === undefined) return;
    const path = join(disk.directory, 'store');
    {
      await using store = await Store.open(path, { encoding: 'buffer' });
      await store.setMany(Array.from({ length: count }, (_, i) => [keyOf(i), madeOf(i)] as const));
      await store.flush();
    }
    await disk.dropCaches();
    await using store = await Store.open(path, { encoding: 'buffer', hotBytes: 0 });
    const keys = Array.from({ length: count }, (_, i) => keyOf(i));
    disk.failReads(true);
    await rejects(store.warm(keys), 'ERR_IO');
    disk.failReads(false);
    await store.warm(keys);
    for (const [i, key] of keys.entries()) assert.deepEqual(store.tryGet(key), madeOf(i), key);
  });

  test('resolves for nothing, for what is absent and for what is in memory already', async () => {
    await using store = await Store.open(newPath());
    await store.warm([]);
    await store.warm(['absent']);
    await store.set('key', 'value');
    await store.warm(new Set(['key', 'absent']));
    assert.equal(await store.get('key'), 'value');
  });

  test('bad input', async () => {
    const store = await Store.open(newPath());
    await rejects(store.warm(['']), 'ERR_KEY_EMPTY');
    await rejects(store.warm(['good', 'x'.repeat(65_536)]), 'ERR_KEY_TOO_LONG');
    await rejects(store.warm(['é'.repeat(40_000)]), 'ERR_KEY_TOO_LONG');
    await rejects(store.warm(['\ud800']), 'ERR_INVALID_ARG_VALUE');
    await rejects(store.warm([7 as unknown as string]), 'ERR_INVALID_ARG_TYPE');
    await rejects(store.warm(7 as unknown as string[]), 'ERR_INVALID_ARG_TYPE');
    await rejects(store.warm(['key'], { signal: 7 as unknown as AbortSignal }), 'ERR_INVALID_ARG_TYPE');
    await assert.rejects(store.warm(['key'], { signal: AbortSignal.abort(new Error('no')) }), /^Error: no$/);
    await store.close();
    await rejects(store.warm(['key']), 'ERR_CLOSED');
  });
});
