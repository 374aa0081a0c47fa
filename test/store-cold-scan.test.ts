// Iterating over what is on the device only: the device is told ahead of what is needed, instead of by one page fault
// after another. Faults are counted, nothing is timed.
import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Store } from 'faultless';
import { SlowDisk } from './rig/slow-disk.js';
import { endsWith } from './store-fixture.js';

const count = 15_000;

test('a cold scan waits for few pages by a fault of their own', async (t) => {
  const disk = await SlowDisk.forTest(t, { sizeMiB: 128, journal: false });
  if (disk === undefined) return;
  const path = join(disk.directory, 'store');
  {
    await using store = await Store.open(path, { encoding: 'buffer' });
    for (let i = 0; i < count; i += 1_000) {
      await store.setMany(
        Array.from({ length: 1_000 }, (_, j) => [`key ${i + j}`, Buffer.alloc(1_500, i + j)] as const),
      );
    }
    await store.flush();
  }
  await disk.dropCaches();
  const code = `
    import { Store } from 'faultless';
    const store = await Store.open(process.argv[1], { encoding: 'buffer', hotBytes: 0 });
    const before = process.resourceUsage().majorPageFault;
    let entries = 0;
    for await (const [key, value] of store) {
      if (value.length !== 1_500 || value[0] !== (Number(key.slice(4)) & 255)) throw new Error(key);
      entries++;
    }
    console.log(JSON.stringify([entries, process.resourceUsage().majorPageFault - before]));
    await store.close();`;
  const [entries, faults] = JSON.parse(await endsWith(0, code, [path])) as [number, number];
  assert.equal(entries, count);
  const pages = statSync(path).blocks / 8;
  t.diagnostic(`${faults} faults that waited, for ${pages} pages`);
  // Each shard begins with some of its index, and its first records follow at once.
  assert.ok(faults < pages / 20, `${faults} of ${pages}`);
});
