// Floods of calls that nobody awaits: other stores get their turn, and memory stays within what the calls themselves
// take. Counted, not timed.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Store } from 'faultless';
import { endsWith, newPath } from './store-fixture.js';

const keys = 2_000;
const calls = 50_000;

describe('a flood of calls that nobody awaits', () => {
  for (const kind of ['get', 'set'] as const) {
    test(`${kind}: another store of the process is answered long before it ends`, async () => {
      await using flooded = await Store.open(newPath(), { encoding: 'utf8', hotBytes: 0 });
      await using other = await Store.open(newPath(), { encoding: 'utf8', hotBytes: 0 });
      const value = 'v'.repeat(1_000);
      await flooded.setMany(Array.from({ length: keys }, (_, i) => [`${i}`, value] as const));
      await other.set('key', 'value');
      let settled = 0;
      const flood = Array.from({ length: calls }, async (_, i) => {
        if (kind === 'get') assert.equal(await flooded.get(`${i % keys}`), value);
        else await flooded.set(`${i % keys}`, value);
        settled++;
      });
      // With options it is no candidate for an answer on the event loop: it has to get a thread.
      assert.equal(await other.get('key', {}), 'value');
      const atGet = settled;
      await other.set('key', 'changed');
      const atSet = settled;
      assert.ok(atSet < calls / 4, `${atGet} and ${atSet} of ${calls} came first`);
      await Promise.all(flood);
      assert.equal(settled, calls);
    });
  }

  test('answers do not pile up: a gigabyte of them passes through less than half of it', async () => {
    const code = `
      import { Store } from 'faultless';
      const store = await Store.open(process.argv[1], { encoding: 'utf8', hotBytes: 0 });
      const value = 'v'.repeat(4_096);
      const entries = Array.from({ length: 2_000 }, (_, i) => ['' + i, value]);
      await store.setMany(entries);
      const before = process.memoryUsage().rss;
      const check = (answer) => {
        if (answer !== value) throw new Error('a wrong value');
      };
      const flood = [];
      for (let i = 0; i < 250_000; i++) flood.push(store.get('' + (i % 2_000)).then(check));
      await Promise.all(flood);
      await store.close();
      console.log(process.resourceUsage().maxRSS * 1024 - before);`;
    const taken = Number(await endsWith(0, code, [newPath()]));
    assert.ok(taken > 0 && taken < 512e6, `${taken} bytes for ${250_000 * 4_096} of answers`);
  });
});
