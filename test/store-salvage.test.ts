// Damaged stores, and stores that have to be recovered, opened for reading: everything sound comes back, nothing wrong is
// delivered, and the file stays as it is.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { before, describe, test } from 'node:test';
import { Store } from 'faultless';
import {
  controlEnd,
  controlOffset,
  shardBytes,
  shardCount,
  shardsOffset,
  tableOffset,
  unitBytes,
} from './fixtures/file-layout.js';
import { newPath, newSeed, Random, rejects, throws, wrong } from './store-fixture.js';

const count = 3000;
const pieceBytes = 16_384;
const [queueKind, valueKind] = [2, 5];

const isLarge = (i: number): boolean => i % 300 === 7;
const isDeleted = (i: number): boolean => i % 17 === 3;
const valueAt = (i: number): string => `value ${i} ${'x'.repeat(isLarge(i) ? 200_000 : 50 + ((i * 31) % 500))} of ${i}`;
const expected = new Map(
  Array.from({ length: count }, (_, i) => i)
    .filter((i) => !isDeleted(i))
    .map((i) => [`key ${i}`, valueAt(i)]),
);

/** The bytes of the store once it was closed, and of a copy that was made while it was open. */
let closed: Buffer;
let live: Buffer;
before(async () => {
  const path = newPath();
  const store = await Store.open(path, { encoding: 'utf8' });
  await store.setMany(Array.from({ length: count }, (_, i) => [`key ${i}`, valueAt(i)] as const));
  for (let i = 0; i < count; i++) if (isDeleted(i)) await store.delete(`key ${i}`);
  await store.flush();
  copyFileSync(path, newPath());
  live = readFileSync(path);
  await store.close();
  closed = readFileSync(path);
});

const hashOf = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');

/** Places of the words of table entries of one kind. */
function entriesOf(file: Buffer, kind: number): number[] {
  const places: number[] = [];
  for (let unit = 8; unit < file.length / unitBytes; unit++) {
    if (file[tableOffset + unit * 64] === kind) places.push(tableOffset + unit * 64);
  }
  return places;
}

/** Where each shard's directory is, and its segments. */
function indexOf(file: Buffer): { directory: number; segments: number[] }[] {
  return Array.from({ length: shardCount }, (_, shard) => {
    const word = file.readBigUInt64LE(shardsOffset + shard * shardBytes + 8);
    const directory = Number(word >> 8n) * pieceBytes;
    const words = Array.from({ length: 2 ** Number(word & 0xffn) }, (_, i) => file.readBigUInt64LE(directory + i * 8));
    return { directory, segments: [...new Set(words.map((segment) => Number(segment >> 8n) * pieceBytes))] };
  });
}

function write(bytes: Buffer): string {
  const path = newPath();
  writeFileSync(path, bytes);
  return path;
}

/** What a store answers, by keys and by iteration; undefined where that ended with ERR_CORRUPT. */
interface Read {
  keys: Map<string, string>;
  failed: number;
  iterated: Map<string, string> | undefined;
}

async function read(path: string, options: { salvage?: boolean }): Promise<Read> {
  const before = hashOf(path);
  await using store = await Store.open(path, { encoding: 'utf8', readOnly: true, ...options });
  const result: Read = { keys: new Map(), failed: 0, iterated: new Map() };
  const isCorrupt = (error: unknown): true => {
    assert.equal((error as { code?: string }).code, 'ERR_CORRUPT');
    return true;
  };
  for (let i = 0; i < count; i++) {
    try {
      const value = await store.get(`key ${i}`);
      if (value !== undefined) result.keys.set(`key ${i}`, value);
    } catch (error) {
      if (isCorrupt(error)) result.failed++;
    }
  }
  try {
    for await (const [key, value] of store) result.iterated?.set(key, value);
  } catch (error) {
    if (isCorrupt(error)) result.iterated = undefined;
  }
  await rejects(store.set('key', 'value'), 'ERR_READ_ONLY');
  await store.close();
  assert.equal(hashOf(path), before, 'the file has changed');
  return result;
}

/** Nothing else than this was ever written; what is missing or deleted and back is told. */
function judge(values: Map<string, string>): { missing: string[]; back: string[] } {
  const back: string[] = [];
  for (const [key, value] of values) {
    const i = Number(key.slice(4));
    assert.ok(value === valueAt(i), `${key} is ${value.slice(0, 30)} …`);
    if (isDeleted(i)) back.push(key);
  }
  return { missing: [...expected.keys()].filter((key) => !values.has(key)), back };
}

async function expectAll(path: string, options: { salvage?: boolean }, but: string[] = []): Promise<void> {
  const result = await read(path, options);
  assert.equal(result.failed, 0);
  assert.deepEqual(judge(result.keys), { missing: but, back: [] });
  assert.deepEqual(result.iterated, result.keys);
}

describe('a store that has to be recovered, opened readOnly', () => {
  test('gives what it holds, to several, and keeps writers out until they have closed', async () => {
    const path = write(live);
    const before = hashOf(path);
    const first = await Store.open(path, { encoding: 'utf8', readOnly: true });
    const second = Store.openSync(path, { encoding: 'utf8', readOnly: true });
    await rejects(Store.open(path, { encoding: 'utf8' }), 'ERR_BUSY');
    assert.equal(first.size, expected.size);
    await first.close();
    assert.deepEqual(new Map(second.entriesSync()), expected);
    await second.close();
    assert.equal(hashOf(path), before);
    await expectAll(path, {});
    await using store = await Store.open(path, { encoding: 'utf8' });
    assert.equal(store.size, expected.size);
  });

  test('tells its progress', async () => {
    const calls: [number, number][] = [];
    await using store = await Store.open(write(live), {
      encoding: 'utf8',
      readOnly: true,
      onProgress: (done, total) => calls.push([done, total]),
    });
    assert.equal(store.size, expected.size);
    assert.ok(calls.length > 0);
    assert.equal(calls.at(-1)?.[0], calls.at(-1)?.[1]);
  });
});

/** Kinds of damage, each with the keys that are lost with it. */
const damages: Record<string, (file: Buffer, random: Random) => string[]> = {
  'a record': (file, random) => {
    const i = random.pick([...expected.keys()].map((key) => Number(key.slice(4))).filter((i) => !isLarge(i)));
    const position = file.indexOf(`value ${i} x`);
    file[position + 3] = (file[position + 3] as number) ^ 1;
    return [`key ${i}`];
  },
  'a large value': (file) => {
    const position = file.indexOf('value 607 x');
    file[position + 100_000] = (file[position + 100_000] as number) ^ 16;
    return ['key 607'];
  },
  'index segments': (file, random) => {
    for (const { segments } of indexOf(file)) {
      const segment = random.pick(segments);
      for (let at = segment; at < segment + pieceBytes; at++) file[at] = random.below(256);
    }
    return [];
  },
  directories: (file, random) => {
    for (const { directory } of indexOf(file)) {
      for (let at = directory; at < directory + 256; at++) file[at] = random.below(256);
    }
    return [];
  },
  'the control region': (file, random) => {
    for (let at = controlOffset; at < controlEnd; at += 8) file.writeUInt32LE(random.below(2 ** 32), at);
    return [];
  },
  'table entries of extents': (file, random) => {
    const entry = random.pick(entriesOf(file, queueKind));
    const at = entry + 8 * random.below(3) + random.below(4);
    file[at] = (file[at] as number) ^ (1 << random.below(8));
    return [];
  },
  'table entries of values': (file, random) => {
    for (const entry of entriesOf(file, valueKind)) {
      const at = entry + random.below(16);
      file[at] = (file[at] as number) ^ 1;
    }
    return [];
  },
};

describe('a damaged store', () => {
  const random = new Random(newSeed('salvage'));
  for (const [what, damage] of Object.entries(damages)) {
    test(`closed well, ${what}`, async () => {
      const file = Buffer.from(closed);
      const lost = damage(file, random);
      const path = write(file);
      await expectAll(path, { salvage: true }, lost);
      // Without it there may be errors, and never a wrong value.
      let result: Read;
      try {
        result = await read(path, {});
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'ERR_CORRUPT');
        return;
      }
      judge(result.keys);
      if (result.iterated !== undefined) judge(result.iterated);
    });

    test(`to be recovered, ${what}`, async () => {
      const file = Buffer.from(live);
      const lost = damage(file, random);
      const path = write(file);
      await expectAll(path, {}, lost);
      await expectAll(path, { salvage: true }, lost);
      const harmless = ['index segments', 'directories', 'the control region'].includes(what);
      if (!harmless) await rejects(Store.open(path, { encoding: 'utf8' }), 'ERR_CORRUPT');
      else await (await Store.open(path, { encoding: 'utf8' })).close();
    });
  }

  test('is repaired by a backup, which gives all that iteration gives', async () => {
    const file = Buffer.from(closed);
    for (const damage of Object.values(damages)) damage(file, random);
    const path = write(file);
    const before = hashOf(path);
    const repairedPath = newPath();
    const found = new Map<string, string>();
    {
      await using damaged = await Store.open(path, { encoding: 'utf8', readOnly: true, salvage: true });
      for await (const [key, value] of damaged) found.set(key, value);
      await damaged.backup(repairedPath);
    }
    assert.equal(hashOf(path), before);
    judge(found);
    assert.ok(found.size >= expected.size * 0.8, `${found.size} of ${expected.size}`);
    await using repaired = await Store.open(repairedPath, { encoding: 'utf8' });
    assert.deepEqual((await repaired.verify()).damaged, []);
    assert.deepEqual(new Map(repaired.entriesSync()), found);
    await repaired.set('key', 'and it is written to');
  });

  test('that has to be recovered is backed up as it is read', async () => {
    const path = newPath();
    await using reader = await Store.open(write(live), { encoding: 'utf8', readOnly: true });
    await reader.backup(path);
    await using copy = await Store.open(path, { encoding: 'utf8' });
    assert.deepEqual(new Map(copy.entriesSync()), expected);
    assert.deepEqual((await copy.verify()).damaged, []);
  });

  test('salvage is for reading, and for files that nobody writes', async () => {
    const path = write(closed);
    await rejects(Store.open(path, { salvage: true }), 'ERR_INVALID_ARG_VALUE');
    throws(() => Store.openSync(path, { salvage: true }), 'ERR_INVALID_ARG_VALUE');
    await rejects(Store.open(path, { readOnly: true, salvage: wrong(1) }), 'ERR_INVALID_ARG_TYPE', TypeError);
    const writer = await Store.open(path, { encoding: 'utf8' });
    await rejects(Store.open(path, { encoding: 'utf8', readOnly: true, salvage: true }), 'ERR_BUSY');
    await writer.close();
    const reader = await Store.open(path, { encoding: 'utf8', readOnly: true, salvage: true });
    await rejects(Store.open(path, { encoding: 'utf8' }), 'ERR_BUSY');
    await reader.close();
    await (await Store.open(path, { encoding: 'utf8' })).close();
  });
});
