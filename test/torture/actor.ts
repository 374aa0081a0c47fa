// One process of the torture run: LOCATION BOARD ROLE SLOT SEED MAX-BYTES. It says 'ready', works until 'stop', says
// 'done' and ends; or it is killed at any moment. Whatever it is told that model.ts does not allow ends it with an error.
//   writer SLOT     its own keys and the shared ones; the first one also clears the store now and then
//   reader, reader-without-permission, opener, verifier, flusher
//   auditor         nobody else is there: looks at everything once
import assert from 'node:assert/strict';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { COLD, Store, type StoreOptions } from 'faultless';
import { Board } from '../fixtures/board.js';
import { Random } from '../fixtures/random.js';
import { stampOf } from '../fixtures/stamped-values.js';
import { tell, workUntilStop } from '../rig/child.js';
import { type Before, isDelete, Model, makeValue, ownKey, ownKeys, sharedKey, sharedKeys, writers } from './model.js';

const [location = '', boardFile = '', role = '', slotText = '', seed = '', maxBytes = ''] = process.argv.slice(2);
const slot = Number(slotText);
const random = new Random(Number(seed));
const model = new Model(new Board(boardFile));
const work = workUntilStop();

type Bytes = Store<Buffer, Uint8Array | string>;

/** Within one boot nothing is ever recovered, whoever was killed: opening reports no progress. */
async function open(options: StoreOptions = {}): Promise<Bytes> {
  const onProgress = (): void => assert.fail('opening recovers the store');
  const store = await Store.open(location, { encoding: 'buffer', maxBytes: Number(maxBytes), onProgress, ...options });
  model.count(slot, 'opens');
  return store;
}

/**
 * False where it was answered ERR_BUSY: somebody is stopped, or was a moment ago, for so long that his locks may be
 * refused. Or ERR_STORE_FULL, where a write may be.
 */
async function attempt(what: string, operation: () => unknown): Promise<boolean> {
  const begin = performance.now();
  try {
    await operation();
    return true;
  } catch (error) {
    const { code } = error as { code?: string };
    const elapsed = performance.now() - begin;
    if (code === 'ERR_STORE_FULL' && what.startsWith('set')) {
      model.count(slot, 'full');
      return false;
    }
    if (code !== 'ERR_BUSY') throw error;
    assert.ok(model.longStops > 0, `${what}: ERR_BUSY although nobody was stopped for long`);
    assert.ok(elapsed > 4500, `${what}: ERR_BUSY after ${elapsed} ms`);
    model.count(slot, 'busy');
    return false;
  }
}

// ───────────────────────────────────────────────────────────── reading

/** The latest that was seen of each key: never to be followed by something older. */
const seen = new Map<string, number>();

function judge(writer: number, index: number, before: Before, value: Buffer | undefined): void {
  const key = ownKey(writer, index);
  const sequence = model.check(writer, index, before, value);
  if (sequence === 0) return;
  assert.ok(sequence >= (seen.get(key) ?? 0), `${key}: value ${sequence} after ${seen.get(key)}`);
  seen.set(key, sequence);
}

async function readSome(store: Bytes): Promise<void> {
  const writer = random.below(writers);
  const indexes = Array.from({ length: 1 + random.below(12) }, () => random.below(ownKeys));
  const keys = indexes.map((index) => ownKey(writer, index));
  const before = indexes.map((index) => model.before(writer, index));
  let answers: (Buffer | undefined | typeof COLD)[] = [];
  await attempt('get', async () => {
    const way = random.below(5);
    if (way === 0) answers = await store.getMany(keys);
    else if (way === 1) answers = keys.map((key) => store.tryGet(key));
    else if (way === 2) answers = keys.map((key) => store.getSync(key));
    else answers = await Promise.all(keys.map((key) => store.get(key)));
  });
  answers.forEach((answer, i) => {
    if (answer === COLD) model.count(slot, 'cold');
    else judge(writer, indexes[i] as number, before[i] as Before, answer);
  });
  model.count(slot, 'reads', answers.length);
}

async function readShared(store: Bytes): Promise<void> {
  const index = random.below(sharedKeys);
  const before = model.beforeShared(index);
  await attempt('get', async () => model.checkShared(index, before, await store.get(sharedKey(index))));
  model.count(slot, 'reads');
}

/** Each key once at most, whole, and not too old; what was there all the time is delivered. */
async function iterate(store: Bytes): Promise<Map<string, Buffer>> {
  const found = new Map<string, Buffer>();
  const before = Array.from({ length: writers }, (_, writer) =>
    Array.from({ length: ownKeys }, (_, index) => model.before(writer, index)),
  );
  const complete = await attempt('iteration', async () => {
    for await (const [key, value] of store) {
      assert.ok(!found.has(key), `${key} was delivered twice`);
      found.set(key, value);
      stampOf(key, value);
    }
  });
  model.count(slot, 'iterations');
  if (!complete) return found;
  before.forEach((ofWriter, writer) => {
    ofWriter.forEach((known, index) => {
      const value = found.get(ownKey(writer, index));
      if (value !== undefined) judge(writer, index, known, value);
      else assert.ok(!model.mustBeThere(writer, index, known), `${ownKey(writer, index)} was not delivered`);
    });
  });
  return found;
}

async function verify(store: Bytes): Promise<void> {
  await attempt('verify', async () => {
    const { damaged } = await store.verify();
    assert.deepEqual(damaged, []);
    model.count(slot, 'verifications');
  });
}

// ───────────────────────────────────────────────────────────── writing

const isFull = Number(maxBytes) < 2 ** 25;

/** Milliseconds to live that no run outlives. */
const longTtl = 1e9;

async function writeOwn(store: Bytes, index: number): Promise<void> {
  const key = ownKey(slot, index);
  const clears = model.clearsBegun;
  const there = model.isThere(slot, index);
  const begun = model.begin(slot, index);
  const { sequence } = begun;
  const sync = random.below(5) === 0;
  const value = isDelete(sequence) ? undefined : makeValue(key, index, slot, sequence);
  let done: boolean;
  if (value === undefined) {
    done = await attempt('delete', async () => {
      const existed = sync ? store.deleteSync(key) : await store.delete(key);
      // A clear may have come in between.
      if (there !== undefined && model.clearsBegun === clears)
        assert.equal(existed, there, `${key}: delete ${sequence}`);
    });
  } else {
    const durability = random.below(100) === 0 ? 'system' : 'process';
    const way = sync ? 0 : random.below(8);
    if (way === 1) {
      done = await attempt('set by update', () => store.update(key, () => value, { durability }));
    } else if (way === 2) {
      let swapped = false;
      const tried = await attempt('set by compareAndSet', async () => {
        swapped = await store.compareAndSet(key, await store.get(key), value, { durability, ttl: longTtl });
        // Nobody else writes the key, but for a clear.
        assert.ok(swapped || model.clearsBegun > begun.clears, `${key}: compareAndSet ${sequence}`);
      });
      done = tried && swapped;
    } else if (way === 3) {
      done = await attempt('set by batch', () => store.batch().set(key, value).commit({ durability }));
    } else {
      done = await attempt('set', () => {
        return sync ? store.setSync(key, value, { durability }) : store.set(key, value, { durability });
      });
    }
    if (done && random.below(16) === 0) await attempt('set anew by touch', () => store.touch(key, longTtl));
    if (durability === 'system') model.count(slot, 'systemWrites');
    if (value.length >= 65_536) model.count(slot, 'largeWrites');
  }
  if (done) model.acknowledge(slot, index, begun);
  model.count(slot, 'writes');
}

async function setManyOwn(store: Bytes, indexes: readonly number[]): Promise<void> {
  const begun = indexes.map((index) => ({ index, write: model.begin(slot, index) }));
  const sets = begun.filter(({ write }) => !isDelete(write.sequence));
  const entries = sets.map(({ index, write }) => {
    const key = ownKey(slot, index);
    return [key, makeValue(key, index, slot, write.sequence)] as const;
  });
  const done = await attempt('setMany, or as much by a batch', () => {
    if (random.below(2) === 0) return store.setMany(entries);
    const batch = store.batch();
    for (const [key, value] of entries) batch.set(key, value);
    return batch.commit();
  });
  // A delete that was begun and never called may not happen; its number is used up.
  if (done) for (const { index, write } of sets) model.acknowledge(slot, index, write);
  model.count(slot, 'writes', sets.length);
}

async function writeShared(store: Bytes): Promise<void> {
  const index = random.below(sharedKeys);
  const key = sharedKey(index);
  const begun = model.beginShared(slot, index);
  const value = makeValue(key, index, slot, begun.sequence);
  if (await attempt('set', () => store.set(key, value))) model.acknowledgeShared(slot, index, begun);
  model.count(slot, 'writes');
}

async function clear(store: Bytes): Promise<void> {
  const number = model.beginClear();
  const done = await attempt('clear', () => (random.below(2) === 0 ? store.clear() : store.clearSync()));
  if (!done) return;
  model.acknowledgeClear(number);
  model.count(slot, 'clears');
}

function differentIndexes(count: number): number[] {
  return [...new Set(Array.from({ length: count }, () => random.below(ownKeys)))];
}

let nextClear = performance.now() + random.below(1000);

async function write(store: Bytes): Promise<void> {
  const draw = random.below(100);
  if (draw < 4) await setManyOwn(store, differentIndexes(12));
  else if (draw < 20) await writeShared(store);
  else if (draw < 24) await readSome(store);
  else await Promise.all(differentIndexes(1 + random.below(10)).map((index) => writeOwn(store, index)));
  if (slot !== 0) return;
  // What a predecessor began is finished, so that the others may rely on their writes again.
  if (!model.isClearUnfinished && performance.now() < nextClear) return;
  await clear(store);
  nextClear = performance.now() + random.below(isFull ? 1000 : 4000);
}

// ───────────────────────────────────────────────────────────── roles

/** Ends an opened store in some way: closed well, or left to the kernel. */
async function leave(store: Bytes): Promise<void> {
  if (random.below(4) > 0) return store.close();
  await tell('done');
  // Without closing, and in the midst of reading.
  void store.get(ownKey(0, 0)).catch(() => {});
  process.exit(0);
}

async function openAndLeave(): Promise<void> {
  const readOnly = random.below(4) === 0;
  let store: Bytes | undefined;
  await attempt('open', async () => {
    store = await open({ readOnly });
  });
  if (store === undefined) return;
  for (let i = random.below(4); i > 0; i--) {
    await readSome(store);
    if (!readOnly) await attempt('flush', () => store?.flush());
  }
  await leave(store);
}

/** Everything that was acknowledged is there, the counters are right, nothing is damaged. */
async function audit(): Promise<void> {
  const begin = performance.now();
  const store = await open();
  const openedMs = performance.now() - begin;
  const found = await iterate(store);
  assert.equal(store.size, found.size, 'size');
  for (let index = 0; index < sharedKeys; index++) {
    model.checkShared(index, model.beforeShared(index), found.get(sharedKey(index)));
  }
  const { damaged } = await store.verify();
  assert.deepEqual(damaged, []);
  const { fileBytes, freeBytes, liveBytes } = store.stats();
  if (random.below(2) === 0) await store.close();
  await tell('audited', { openedMs, keys: found.size, fileBytes, freeBytes, liveBytes });
  await tell('done');
  process.exit(0);
}

const steps: Record<string, (store: Bytes) => Promise<void>> = {
  writer: write,
  reader: async (store) => {
    if (random.below(30) === 0) await iterate(store);
    else await (random.below(4) === 0 ? readShared(store) : readSome(store));
  },
  verifier: async (store) => {
    await verify(store);
    await sleep(random.below(50));
  },
  flusher: async (store) => {
    await attempt('flush', async () => {
      await (random.below(4) === 0 ? store.flushSync() : store.flush());
      model.count(slot, 'flushes');
    });
    await sleep(random.below(200));
  },
};

if (role === 'auditor') await audit();
if (role === 'opener') {
  await tell('ready');
  while (!work.stopped) await openAndLeave();
} else {
  const [name = '', without = ''] = role.split(/-(.*)/s);
  const step = steps[name] ?? assert.fail(`no role ${role}`);
  let store: Bytes | undefined;
  while (store === undefined && !work.stopped) {
    await attempt('open', async () => {
      store = await open({ readOnly: without !== '' });
    });
  }
  await tell('ready');
  while (store !== undefined && !work.stopped) {
    await step(store);
    await nextTurn();
  }
  await store?.close();
}
await tell('done');
