// faultless/keyv: Keyv's own suite for storage adapters, from a package of its own that is installed when it is needed, and
// what that suite leaves out.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Store } from 'faultless';
import { KeyvFaultless } from 'faultless/keyv';
import { installOwnPackage, runThere } from './fixtures/own-package.js';
import { newPath, newSharedName, rejects } from './store-fixture.js';

describe('faultless/keyv', () => {
  test('Keyv’s own suite for storage adapters', { timeout: 900_000 }, () => {
    const directory = installOwnPackage('keyv');
    const output = runThere(directory, process.execPath, ['node_modules/vitest/vitest.mjs', 'run']);
    const summary = /^ *Tests .*$/m.exec(output)?.[0];
    assert.match(summary ?? '', / [4-9]\d passed/);
    console.log(`Keyv's suite:${summary}`);
  });

  test('a store that is open is used, and left open', async () => {
    await using store = await Store.open(newSharedName());
    const adapter = new KeyvFaultless(store);
    assert.equal(await adapter.set('a', 1), true);
    await adapter.setMany([
      { key: 'b', value: { nested: true } },
      { key: 'c', value: 3, ttl: 60_000 },
    ]);
    assert.deepEqual(await adapter.getMany(['a', 'b', 'absent']), [1, { nested: true }, undefined]);
    assert.deepEqual(await adapter.hasMany(['a', 'absent']), [true, false]);
    assert.ok(((await store.ttl('c')) as number) <= 60_000);
    assert.equal(await store.ttl('a'), Infinity);
    assert.equal(await adapter.deleteMany(['a', 'absent']), true);
    assert.equal(await adapter.deleteMany(['absent']), false);
    await adapter.disconnect();
    assert.equal(await store.get('c'), 3);
  });

  test('a store at a location is opened at the first call, with its options, and closed by disconnect', async () => {
    const path = newPath();
    const adapter = new KeyvFaultless(path, { ttl: 60_000 });
    await adapter.disconnect(); // nothing is open yet
    await adapter.set('key', 'value');
    await adapter.disconnect();
    assert.equal(await adapter.get('key'), 'value');
    {
      await using other = await Store.open(path);
      assert.ok(((await other.ttl('key')) as number) <= 60_000);
    }
    await adapter.disconnect();
    const refused = new KeyvFaultless(join(path, 'no such directory'));
    await assert.rejects(refused.get('key'));
    await assert.rejects(refused.get('key'));
  });

  test('clear takes the keys of its namespace only, however many', async () => {
    await using store = await Store.open(newSharedName());
    const adapter = new KeyvFaultless(store);
    await store.setMany(Array.from({ length: 2_500 }, (_, i): [string, number] => [`mine:${i}`, i]));
    await store.set('other:1', 1);
    await store.set('mine', 1);
    adapter.namespace = 'mine';
    await adapter.clear();
    assert.deepEqual([...store.keysSync()].sort(), ['mine', 'other:1']);
    const found: unknown[] = [];
    for await (const entry of adapter.iterator('other')) found.push(entry);
    assert.deepEqual(found, [['other:1', 1]]);
    adapter.namespace = undefined;
    await adapter.clear();
    assert.equal(store.size, 0);
  });

  test('what has expired is gone, and errors are FaultlessErrors', async () => {
    const store = await Store.open(newSharedName());
    const adapter = new KeyvFaultless(store);
    await adapter.set('key', 'value', 20);
    await sleep(30);
    assert.equal(await adapter.get('key'), undefined);
    await rejects(adapter.set('', 'value'), 'ERR_KEY_EMPTY');
    await rejects(adapter.set('key', Symbol('no')), 'ERR_INVALID_ARG_TYPE');
    await store.close();
    await rejects(adapter.get('key'), 'ERR_CLOSED');
  });
});
