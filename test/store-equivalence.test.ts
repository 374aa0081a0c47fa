// The store against a Map: random operations, sync and async, with reopening in between.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { COLD, Store } from 'faultless';
import { newPath, newSeed, Random } from './store-fixture.js';

const operations = 200_000;
const largest = 10 * 2 ** 20;

interface Model {
  seed: number;
  size: number;
}

/** The bytes of a value, from what the model keeps of it: its content is never the same twice. */
function bytesOf({ seed, size }: Model): Buffer {
  const bytes = Buffer.allocUnsafe(size);
  bytes.fill(seed & 0xff);
  if (size >= 8) {
    bytes.writeUInt32LE(seed, 0);
    bytes.writeUInt32LE(seed ^ size, size - 4);
  }
  return bytes;
}

function check(actual: Buffer | undefined, model: Model | undefined, what: string): void {
  if (model === undefined) assert.equal(actual, undefined, what);
  else
    assert.ok(
      actual !== undefined && bytesOf(model).equals(actual),
      `${what}: ${actual?.length} of ${model.size} bytes`,
    );
}

test(`${operations} operations answer what a Map would`, { timeout: 600_000 }, async () => {
  const random = new Random(newSeed('equivalence'));
  const path = newPath();
  const model = new Map<string, Model>();
  let store = await Store.open(path, { encoding: 'buffer' });
  let pending: Promise<unknown>[] = [];
  let liveBytes = 0;

  /** Mostly small, rarely up to 10 MiB. */
  const newSize = (): number => {
    const kind = random.below(20_000);
    if (kind < 4) return 1 + random.below(largest);
    if (kind < 5) return largest;
    if (kind < 200) return 1 + random.below(100_000);
    return 1 + random.below(300);
  };
  const newKey = (): string => {
    const n = random.below(5000);
    return n % 500 === 0 ? `${n}`.repeat(8000) : `key ${n}${'é'.repeat(n % 20)}`;
  };
  const put = (key: string, value: Model | undefined): boolean => {
    const before = model.get(key);
    liveBytes += (value?.size ?? 0) - (before?.size ?? 0);
    if (value === undefined) model.delete(key);
    else model.set(key, value);
    return before !== undefined;
  };
  const settle = async (): Promise<void> => {
    const all = pending;
    pending = [];
    await Promise.all(all);
  };

  for (let i = 0; i < operations; i++) {
    const key = newKey();
    const what = `operation ${i}`;
    const expected = model.get(key);
    switch (random.below(24)) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4: {
        const value = { seed: i, size: liveBytes > 100 * 2 ** 20 ? 1 : newSize() };
        put(key, value);
        pending.push(store.set(key, bytesOf(value)));
        break;
      }
      case 5:
      case 6: {
        const value = { seed: i, size: Math.min(newSize(), 100_000) };
        put(key, value);
        store.setSync(key, bytesOf(value));
        break;
      }
      case 7:
      case 8: {
        const existed = put(key, undefined);
        pending.push(store.delete(key).then((answer) => assert.equal(answer, existed, what)));
        break;
      }
      case 9:
        assert.equal(store.deleteSync(key), put(key, undefined), what);
        break;
      case 10:
        check(store.getSync(key), expected, what);
        break;
      case 11:
        assert.equal(store.hasSync(key), expected !== undefined, what);
        break;
      case 12: {
        const now = store.tryGet(key);
        if (now !== COLD) check(now, expected, what);
        break;
      }
      case 13:
        pending.push(store.has(key).then((answer) => assert.equal(answer, expected !== undefined, what)));
        break;
      case 14: {
        const keys = Array.from({ length: random.below(10) }, newKey);
        const all = keys.map((each) => model.get(each));
        pending.push(
          store.getMany(keys).then((values) => {
            for (const [j, value] of values.entries()) check(value, all[j], what);
          }),
        );
        break;
      }
      case 15: {
        const value = { seed: i, size: Math.min(newSize(), 100_000) };
        const right = random.below(3) > 0;
        const held = right ? expected && bytesOf(expected) : `not ${i}`;
        const wanted = random.below(5) === 0 ? undefined : value;
        if (right) put(key, wanted);
        const swap = store.compareAndSet(key, held, wanted && bytesOf(wanted), { ttl: 1e9 });
        pending.push(swap.then((answer) => assert.equal(answer, right, what)));
        break;
      }
      case 16: {
        const value = random.below(8) === 0 ? undefined : { seed: i, size: Math.min(newSize(), 100_000) };
        put(key, value);
        const change = (now: Buffer | undefined): Buffer | undefined => {
          check(now, expected, what);
          return value && bytesOf(value);
        };
        pending.push(store.update(key, change).then((answer) => check(answer, value, what)));
        break;
      }
      case 17:
        pending.push(store.touch(key, 1e9).then((answer) => assert.equal(answer, expected !== undefined, what)));
        break;
      case 18:
        pending.push(
          store.getEntry(key).then((entry) => {
            check(entry?.value, expected, what);
            assert.equal(entry?.bytes, expected?.size, what);
          }),
        );
        break;
      default:
        pending.push(store.get(key).then((value) => check(value, expected, what)));
    }
    if (random.below(100) === 0) await settle();
    if (random.below(20_000) === 0) {
      pending.push(store.clear());
      model.clear();
      liveBytes = 0;
    }
    if (random.below(10_000) === 0) {
      const walked = new Map<string, Buffer>();
      for await (const [name, value] of store) walked.set(name, value);
      assert.equal(walked.size, model.size, what);
      for (const [name, value] of model) check(walked.get(name), value, what);
    }
    if (random.below(10_000) === 0) {
      if (random.below(2) === 0) await store.close();
      else store.closeSync();
      await settle();
      store =
        random.below(2) === 0
          ? await Store.open(path, { encoding: 'buffer' })
          : Store.openSync(path, { encoding: 'buffer' });
      assert.equal(store.size, model.size, what);
    }
  }
  await settle();
  assert.equal(store.size, model.size);
  for (const [key, value] of model) check(await store.get(key), value, 'at the end');
  await store.close();
});
