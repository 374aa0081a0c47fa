// An index that has lost its keys becomes small again, and the keys that are left are right.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Store } from 'faultless';
import { newPath } from './store-fixture.js';

const keys = 300_000;
const kept = 3_000;
const keyOf = (i: number): string => `key ${i}`;

test('the index of 300,000 entries shrinks with them to that of 3,000', async () => {
  await using store = await Store.open<number>(newPath());
  await using fresh = await Store.open<number>(newPath());
  const numbers = (count: number, each: number): number[] => Array.from({ length: count }, (_, i) => i * each);
  await fresh.setMany(numbers(kept, 100).map((i) => [keyOf(i), i]));
  const small = fresh.stats();
  for (let round = 0; round < 2; round++) {
    await store.setMany(numbers(keys, 1).map((i) => [keyOf(i), i]));
    const grown = store.stats();
    assert.ok(grown.buckets > 20 * small.buckets, `${grown.buckets} buckets`);
    const gone = numbers(keys, 1).filter((i) => i % 100 !== 0);
    assert.equal(await store.deleteMany(gone.map(keyOf)), gone.length);
    await store.setMany(numbers(1000, 300).map((i) => [keyOf(i), i + 1]));
    const { buckets, keys: left } = store.stats();
    assert.equal(left, kept);
    assert.ok(buckets <= 2 * small.buckets, `${buckets} buckets, a fresh store has ${small.buckets}`);
  }
  const expected = new Map(numbers(kept, 100).map((i) => [keyOf(i), i % 300 === 0 ? i + 1 : i]));
  const found = new Map<string, number>();
  for await (const [key, value] of store.entries()) {
    assert.ok(!found.has(key), `${key} comes once`);
    found.set(key, value);
  }
  assert.deepEqual(new Map([...found].sort()), new Map([...expected].sort()));
  assert.equal(await store.get(keyOf(1)), undefined);
  assert.equal((await store.verify()).damaged.length, 0);
});
