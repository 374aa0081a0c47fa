// asObject(): a store written and read like an object.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { asObject, Store } from 'faultless';
import { endsWith, newPath, newSharedName, throws } from './store-fixture.js';

describe('asObject', () => {
  test('properties are what the store holds', async () => {
    await using store = await Store.open(newSharedName());
    const object = asObject(store);
    object.first = 'value';
    object['second key'] = { nested: [1, 2] };
    assert.equal(object.first, 'value');
    assert.deepEqual(object['second key'], { nested: [1, 2] });
    assert.equal(object.absent, undefined);
    assert.equal(await store.get('first'), 'value');
    await store.set('third', 3);
    assert.equal(object.third, 3);
    assert.ok('third' in object && !('absent' in object));
    assert.ok(Object.hasOwn(object, 'third') && !Object.hasOwn(object, 'absent'));
    assert.equal(delete object.third, true);
    assert.equal(delete object.third, true);
    assert.equal(await store.has('third'), false);
    Object.assign(object, { fourth: 4n, fifth: null });
    assert.equal(object.fourth, 4n);
    assert.equal(object.fifth, null);
  });

  test('enumeration', async () => {
    await using store = await Store.open(newSharedName());
    const object = asObject(store);
    const entries = Array.from({ length: 500 }, (_, i): [string, number] => [`key ${i}`, i]);
    for (const [key, value] of entries) object[key] = value;
    const found: string[] = [];
    for (const key in object) found.push(key);
    assert.deepEqual(found.sort(), entries.map(([key]) => key).sort());
    assert.deepEqual(Object.keys(object).sort(), found);
    assert.deepEqual(Object.fromEntries(Object.entries(object)), Object.fromEntries(entries));
    assert.deepEqual(JSON.parse(JSON.stringify(object)), Object.fromEntries(entries));
    assert.deepEqual({ ...object }, Object.fromEntries(entries));
    assert.deepEqual(
      await store.getMany(found),
      found.map((key) => object[key]),
    );
  });

  test('no key is taken', async () => {
    await using store = await Store.open(newSharedName());
    const object = asObject(store);
    for (const key of ['__proto__', 'constructor', 'toString', 'then', 'toJSON', 'hasOwnProperty', '0', 'é']) {
      assert.equal(object[key], undefined, key);
      object[key] = key;
      assert.equal(object[key], key);
      assert.equal(await store.get(key), key);
    }
    assert.equal(Object.getPrototypeOf(object), null);
    assert.throws(() => Object.setPrototypeOf(object, {}), TypeError);
    assert.throws(() => Object.freeze(object), TypeError);
  });

  test('awaited, logged or cloned it does no harm', async () => {
    await using store = await Store.open(newSharedName());
    const object = asObject(store);
    object.key = 1;
    assert.equal(await Promise.resolve(object), object);
    const { inspect } = await import('node:util');
    assert.equal(typeof inspect(object), 'string');
    assert.throws(() => `${object}`, TypeError);
    assert.equal((object as Record<symbol, unknown>)[Symbol.iterator], undefined);
    assert.ok(!(Symbol.iterator in object));
  });

  test('bad input', async () => {
    const path = newPath();
    const store = await Store.open(path);
    const object = asObject(store) as Record<string | symbol, unknown>;
    throws(() => (object[Symbol('key')] = 1), 'ERR_INVALID_ARG_TYPE', TypeError);
    throws(() => (object.key = undefined), 'ERR_INVALID_ARG_TYPE', TypeError);
    throws(() => (object.key = () => 1), 'ERR_INVALID_ARG_TYPE', TypeError);
    throws(() => (object[''] = 1), 'ERR_KEY_EMPTY');
    throws(() => (object['x'.repeat(65_536)] = 1), 'ERR_KEY_TOO_LONG');
    throws(() => object['\ud800'], 'ERR_INVALID_ARG_VALUE', TypeError);
    throws(() => Object.defineProperty(object, 'key', { get: () => 1 }), 'ERR_INVALID_ARG_TYPE', TypeError);
    Object.defineProperty(object, 'key', { value: 2 });
    assert.equal(object.key, 2);
    {
      await using reader = await Store.open(path, { readOnly: true });
      const seen = asObject(reader);
      assert.equal(seen.key, 2);
      throws(() => (seen.key = 3), 'ERR_READ_ONLY');
      throws(() => delete seen.key, 'ERR_READ_ONLY');
    }
    await store.close();
    throws(() => object.key, 'ERR_CLOSED');
    throws(() => (object.key = 1), 'ERR_CLOSED');
    throws(() => 'key' in object, 'ERR_CLOSED');
    throws(() => Object.keys(object), 'ERR_CLOSED');
  });

  test('one process writes, another one reads', async () => {
    const name = newSharedName();
    await using store = await Store.open(name);
    const object = asObject(store);
    object.greeting = 'hello';
    const code = `
      import { asObject, Store } from 'faultless';
      const store = await Store.open(process.argv[1]);
      const object = asObject(store);
      object.answer = object.greeting + ' yourself';
      await store.close();`;
    await endsWith(0, code, [name]);
    assert.equal(object.answer, 'hello yourself');
  });
});
