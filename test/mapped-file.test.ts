// Every method of MappedFile on a file that nobody else touches.
import assert from 'node:assert/strict';
import { readFileSync, statSync, truncateSync } from 'node:fs';
import { describe, test } from 'node:test';
import { type Advice, COLD, MappedFile } from 'faultless';
import { locksMemory, newFile, pattern, rejects, throws, wrong } from './mapped-file-fixture.js';

const writable = { readOnly: false } as const;
const MiB = 1024 * 1024;

const notNumbers = ['1', null, undefined, 1n, {}, true].map(wrong);
const notPositions = [-1, 0.5, Number.NaN, Infinity, -Infinity, 2 ** 53];

describe('reading', () => {
  const bytes = pattern(100_000);
  const path = newFile(bytes);

  test('read answers fresh Buffers of exactly these bytes', async () => {
    await using file = await MappedFile.open(path);
    for (const [position, length] of [
      [0, 0],
      [0, 1],
      [1, 4095],
      [4095, 2],
      [4097, 60_000],
      [0, 100_000],
    ] as const) {
      const got = await file.read(position, length);
      assert.ok(Buffer.isBuffer(got));
      assert.ok(got.equals(bytes.subarray(position, position + length)), `${position}, ${length}`);
      got.fill(1);
      assert.ok((await file.read(position, length)).equals(bytes.subarray(position, position + length)));
    }
    assert.ok(readFileSync(path).equals(bytes));
  });

  test('it is shorter at the end of the map only', async () => {
    await using file = await MappedFile.open(path);
    assert.ok((await file.read(99_990, 100)).equals(bytes.subarray(99_990)));
    assert.equal((await file.read(100_000, 10)).length, 0);
    assert.equal((await file.read(Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER)).length, 0);
    assert.equal((await file.read(0, Number.MAX_SAFE_INTEGER)).length, 100_000);
  });

  test('a small Buffer keeps little alive', async () => {
    await using file = await MappedFile.open(path);
    const all = [await file.read(0, 100), ...(await file.readMany(Array.from({ length: 5000 }, (_, i) => [i, 100])))];
    for (const got of all) assert.ok(got.buffer.byteLength <= 64 * 1024, `${got.buffer.byteLength}`);
    const large = await file.read(1, 70_000);
    assert.equal(large.buffer.byteLength, 70_000);
  });

  test('reads of one tick each have an outcome of their own', async () => {
    const bytes = pattern(1_000_000);
    const path = newFile(bytes);
    await using file = await MappedFile.open(path);
    const positions = Array.from({ length: 300 }, (_, i) => i * 3001);
    const expected = positions.map((position) => bytes.subarray(position, position + 5000));
    assert.deepEqual(await Promise.all(positions.map((position) => file.read(position, 5000))), expected);
    truncateSync(path, 500_000);
    const outcomes = await Promise.allSettled(positions.map((position) => file.read(position, 5000)));
    for (const [i, outcome] of outcomes.entries()) {
      const within = (positions[i] as number) + 5000 <= 500_000;
      if (outcome.status === 'fulfilled') assert.ok(within && outcome.value.equals(expected[i] as Buffer), `${i}`);
      else assert.ok(!within && outcome.reason.code === 'ERR_IO', `${i}: ${outcome.reason}`);
    }
  });

  test('whatever is issued after a read comes after it', async () => {
    const bytes = pattern(100_000);
    const file = await MappedFile.open(newFile(bytes), { readOnly: false });
    const before = [file.read(90_000, 100), file.read(95_000, 100)];
    const cut = file.resize(50_000);
    const behind = file.read(90_000, 100);
    assert.deepEqual(await Promise.all(before), [bytes.subarray(90_000, 90_100), bytes.subarray(95_000, 95_100)]);
    await cut;
    assert.equal((await behind).length, 0);
    const last = file.read(10, 20);
    const closing = file.close();
    assert.deepEqual(await last, bytes.subarray(10, 30));
    await closing;
    await rejects(file.read(0, 1), 'ERR_CLOSED');
  });

  test('readInto fills the target', async () => {
    await using file = await MappedFile.open(path);
    const target = new Uint8Array(50).subarray(10, 30);
    assert.equal(await file.readInto(target, 777), 20);
    assert.deepEqual(target, new Uint8Array(bytes.subarray(777, 797)));
    assert.deepEqual(new Uint8Array(target.buffer, 0, 10), new Uint8Array(10));
    assert.equal(await file.readInto(target, 99_995), 5);
    assert.deepEqual(target.subarray(0, 5), new Uint8Array(bytes.subarray(99_995)));
    assert.equal(await file.readInto(new Uint8Array(0), 0), 0);
    const shared = new Uint8Array(new SharedArrayBuffer(16));
    assert.equal(await file.readInto(shared, 5), 16);
    assert.deepEqual(new Uint8Array(shared), new Uint8Array(bytes.subarray(5, 21)));
    await rejects(file.readInto(wrong('text'), 0), 'ERR_INVALID_ARG_TYPE', TypeError);
    await rejects(file.readInto(wrong(new Float64Array(2)), 0), 'ERR_INVALID_ARG_TYPE', TypeError);
  });

  test('readInto a target that is taken away meanwhile is an error, never a crash', async () => {
    await using file = await MappedFile.open(path);
    const target = new Uint8Array(1000);
    const reading = file.readInto(target, 0);
    structuredClone(target.buffer, { transfer: [target.buffer] });
    await rejects(reading, 'ERR_INVALID_ARG_VALUE');
  });

  test('readMany answers in order, from any iterable', async () => {
    await using file = await MappedFile.open(path);
    const ranges: [number, number][] = [
      [99_999, 10],
      [0, 0],
      [5, 20_000],
      [5, 3],
      [200_000, 1],
      [40_000, 16_384],
      [40_000, 16_385],
    ];
    const expected = ranges.map(([position, length]) => bytes.subarray(position, position + length));
    assert.deepEqual(await file.readMany(ranges), expected);
    assert.deepEqual(await file.readMany(new Set(ranges)), expected);
    assert.deepEqual(await file.readMany([]), []);
    await rejects(file.readMany(wrong(5)), 'ERR_INVALID_ARG_TYPE', TypeError);
    await rejects(file.readMany(wrong([5])), 'ERR_INVALID_ARG_TYPE', TypeError);
    await rejects(file.readMany([[0, 1], wrong([0])]), 'ERR_INVALID_ARG_TYPE', TypeError);
    await rejects(file.readMany([[0, 1], wrong([-1, 1])]), 'ERR_OUT_OF_RANGE', RangeError);
  });

  test('readSync and tryRead answer what read answers', async () => {
    await using file = await MappedFile.open(path);
    assert.ok(file.readSync(4095, 10_000).equals(bytes.subarray(4095, 14_095)));
    assert.ok(file.readSync(99_999, 5).equals(bytes.subarray(99_999)));
    const got = file.tryRead(4095, 10_000);
    assert.ok(got !== COLD && got.equals(bytes.subarray(4095, 14_095)));
    const end = file.tryRead(99_999, 5);
    assert.ok(end !== COLD && end.equals(bytes.subarray(99_999)));
    const past = file.tryRead(100_000, 5);
    assert.ok(past !== COLD && past.length === 0);
  });

  test('positions and lengths are safe integers from 0 on', async () => {
    await using file = await MappedFile.open(path);
    for (const value of notNumbers) {
      await rejects(file.read(value, 1), 'ERR_INVALID_ARG_TYPE', TypeError);
      await rejects(file.read(0, value), 'ERR_INVALID_ARG_TYPE', TypeError);
      throws(() => file.readSync(value, 1), 'ERR_INVALID_ARG_TYPE', TypeError);
      throws(() => file.tryRead(0, value), 'ERR_INVALID_ARG_TYPE', TypeError);
    }
    for (const value of notPositions) {
      await rejects(file.read(value, 1), 'ERR_OUT_OF_RANGE', RangeError);
      await rejects(file.read(0, value), 'ERR_OUT_OF_RANGE', RangeError);
      throws(() => file.readSync(0, value), 'ERR_OUT_OF_RANGE', RangeError);
      throws(() => file.tryRead(value, 1), 'ERR_OUT_OF_RANGE', RangeError);
      await rejects(file.lock(value), 'ERR_OUT_OF_RANGE', RangeError);
      await rejects(file.flush(0, value), 'ERR_OUT_OF_RANGE', RangeError);
    }
  });

  test('iteration delivers the whole map', async () => {
    const large = pattern(300_001);
    await using file = await MappedFile.open(newFile(large));
    const pieces: Buffer[] = [];
    for await (const piece of file) pieces.push(piece);
    assert.ok(Buffer.concat(pieces).equals(large));
    assert.ok(pieces.length > 1);
    for await (const piece of file) {
      assert.ok(piece.length > 0);
      break;
    }
  });
});

describe('writing', () => {
  test('write answers the number of bytes, strings as UTF-8', async () => {
    const path = newFile(Buffer.alloc(10_000));
    await using file = await MappedFile.open(path, writable);
    assert.equal(await file.write('äöü', 4095), 6);
    assert.equal(await file.write(new Uint8Array([1, 2, 3]), 0), 3);
    assert.equal(await file.write('', 10_000), 0);
    assert.equal(await file.write(new Uint8Array(new SharedArrayBuffer(4)).fill(9), 20), 4);
    assert.equal(file.writeSync('sync', 5000), 4);
    assert.equal(file.writeSync(Buffer.from('!'), 5004), 1);
    await file.writeMany([
      [100, Buffer.from('one')],
      [101, Buffer.from('two')],
    ]);
    await file.writeMany([]);
    const bytes = readFileSync(path);
    assert.equal(bytes.toString('utf8', 4095, 4101), 'äöü');
    assert.deepEqual([...bytes.subarray(0, 4)], [1, 2, 3, 0]);
    assert.deepEqual([...bytes.subarray(19, 25)], [0, 9, 9, 9, 9, 0]);
    assert.equal(bytes.toString('utf8', 5000, 5005), 'sync!');
    assert.equal(bytes.toString('utf8', 100, 104), 'otwo');
  });

  test('bytes are captured at the call', async () => {
    await using file = await MappedFile.open(newFile(Buffer.alloc(100_000)), writable);
    const data = pattern(50_000);
    const before = Buffer.from(data);
    const writes = [file.write(data, 0), file.writeMany([[50_000, data]])];
    data.fill(0);
    await Promise.all(writes);
    assert.ok((await file.read(0, 50_000)).equals(before));
    assert.ok((await file.read(50_000, 50_000)).equals(before));
  });

  test('past the end nothing is written', async () => {
    await using file = await MappedFile.open(newFile(Buffer.alloc(100)), writable);
    await rejects(file.write('abc', 98), 'ERR_OUT_OF_RANGE', RangeError);
    await rejects(file.write('', 101), 'ERR_OUT_OF_RANGE', RangeError);
    await rejects(file.write('abc', Number.MAX_SAFE_INTEGER), 'ERR_OUT_OF_RANGE', RangeError);
    throws(() => file.writeSync('abc', 98), 'ERR_OUT_OF_RANGE', RangeError);
    const data = Buffer.from('abc');
    await rejects(
      file.writeMany([
        [0, data],
        [98, data],
      ]),
      'ERR_OUT_OF_RANGE',
      RangeError,
    );
    assert.ok((await file.read(0, 100)).equals(Buffer.alloc(100)));
  });

  test('what is no data or position is an argument error', async () => {
    await using file = await MappedFile.open(newFile(Buffer.alloc(100)), writable);
    for (const data of [
      5,
      null,
      undefined,
      {},
      [1],
      new ArrayBuffer(4),
      new Uint16Array(2),
      new DataView(new ArrayBuffer(2)),
    ]) {
      await rejects(file.write(wrong(data), 0), 'ERR_INVALID_ARG_TYPE', TypeError);
      throws(() => file.writeSync(wrong(data), 0), 'ERR_INVALID_ARG_TYPE', TypeError);
      await rejects(file.writeMany([[0, wrong(data)]]), 'ERR_INVALID_ARG_TYPE', TypeError);
    }
    for (const position of notNumbers) await rejects(file.write('a', position), 'ERR_INVALID_ARG_TYPE', TypeError);
    for (const position of notPositions) await rejects(file.write('a', position), 'ERR_OUT_OF_RANGE', RangeError);
    await rejects(file.writeMany(wrong({})), 'ERR_INVALID_ARG_TYPE', TypeError);
  });

  test('a read-only map refuses', async () => {
    await using file = await MappedFile.open(newFile(Buffer.alloc(100)));
    assert.equal(file.readOnly, true);
    await rejects(file.write('a', 0), 'ERR_READ_ONLY');
    await rejects(file.writeMany([]), 'ERR_READ_ONLY');
    throws(() => file.writeSync('a', 0), 'ERR_READ_ONLY');
    throws(() => file.createWriteStream(), 'ERR_READ_ONLY');
    await rejects(file.resize(10), 'ERR_READ_ONLY');
    await file.flush();
  });

  test('10 MiB in one piece, in every way', async () => {
    const data = pattern(10 * MiB);
    await using file = await MappedFile.open(newFile(Buffer.alloc(10 * MiB + 5)), writable);
    assert.equal(await file.write(data, 3), data.length);
    assert.ok((await file.read(3, data.length)).equals(data));
    assert.ok(file.readSync(3, data.length).equals(data));
    const target = new Uint8Array(data.length);
    assert.equal(await file.readInto(target, 3), data.length);
    assert.ok(data.equals(target));
    const [first, second] = await file.readMany([
      [3, 5 * MiB],
      [5 * MiB + 3, 5 * MiB],
    ]);
    assert.ok(Buffer.concat([first as Buffer, second as Buffer]).equals(data));
    const got = file.tryRead(3, data.length);
    assert.ok(got !== COLD && got.equals(data));
  });

  test('positions beyond 4 GiB of a sparse file', async () => {
    const path = newFile('');
    const size = 5 * 1024 * MiB + 11;
    truncateSync(path, size);
    await using file = await MappedFile.open(path, writable);
    assert.equal(file.size, size);
    const far = 2 ** 32 + 4093;
    await file.write('across the page', far);
    assert.equal((await file.read(far, 15)).toString(), 'across the page');
    assert.equal(file.readSync(far, 15).toString(), 'across the page');
    assert.equal(file.tryRead(far, 15).toString(), 'across the page');
    assert.ok((await file.read(4093, 15)).equals(Buffer.alloc(15)));
    assert.ok((await file.read(2 ** 31 + 4093, 15)).equals(Buffer.alloc(15)));
    file.writeSync('end', size - 3);
    const [tail] = await file.readMany([[size - 4, 100]]);
    assert.equal(tail?.toString('latin1'), '\0end');
    await rejects(file.read(0, size), 'ERR_OUT_OF_RANGE', RangeError);
    throws(() => file.readSync(0, size), 'ERR_OUT_OF_RANGE', RangeError);
    await rejects(
      file.readMany([
        [0, 3 * 2 ** 30],
        [0, 3 * 2 ** 30],
      ]),
      'ERR_OUT_OF_RANGE',
      RangeError,
    );
    await file.flush(far, 15);
  });
});

describe('the map as a whole', () => {
  test('resize moves the end of map and file', async () => {
    const bytes = pattern(5000);
    const path = newFile(bytes);
    await using file = await MappedFile.open(path, { ...writable, offset: 1000 });
    await file.resize(9000);
    assert.equal(file.size, 9000);
    assert.equal(statSync(path).size, 10_000);
    assert.ok((await file.read(0, 9000)).equals(Buffer.concat([bytes.subarray(1000), Buffer.alloc(5000)])));
    await file.resize(100);
    assert.equal(statSync(path).size, 1100);
    await rejects(file.write('abc', 98), 'ERR_OUT_OF_RANGE');
    await file.resize(200);
    assert.ok((await file.read(0, 200)).equals(Buffer.concat([bytes.subarray(1000, 1100), Buffer.alloc(100)])));
    await file.resize(0);
    assert.equal(file.size, 0);
    for (const size of notNumbers) await rejects(file.resize(size), 'ERR_INVALID_ARG_TYPE', TypeError);
    for (const size of notPositions) await rejects(file.resize(size), 'ERR_OUT_OF_RANGE', RangeError);
  });

  test('resize comes after what was issued before it, and before what comes after', async () => {
    await using file = await MappedFile.open(newFile(Buffer.alloc(MiB)), writable);
    const data = pattern(MiB);
    const before = [file.write(data, 0), file.read(0, MiB), file.read(MiB - 1, 1)];
    const resizing = file.resize(MiB / 2);
    const after = [file.read(0, MiB), file.resize(MiB), file.read(0, MiB)] as const;
    const [written, all, last] = await Promise.all(before);
    await resizing;
    assert.equal(written, MiB);
    assert.equal((all as Buffer).length, MiB);
    assert.equal((last as Buffer).length, 1);
    const [half, , whole] = await Promise.all(after);
    assert.ok(half.equals(data.subarray(0, MiB / 2)));
    assert.ok(whole.equals(Buffer.concat([data.subarray(0, MiB / 2), Buffer.alloc(MiB / 2)])));
  });

  test('flush, advise, residency, lock and unlock take all, a start or a range', async () => {
    await using file = await MappedFile.open(newFile(pattern(100_000)), writable);
    for (const range of [[], [5], [5, 10], [99_999, 100_000], [100_000, 1], [200_000]]) {
      await file.flush(...range);
      await file.lock(...range);
      const share = await file.residency(...range);
      if (locksMemory) assert.ok(share === 1, `${share}`);
      await file.unlock(...range);
      for (const advice of ['normal', 'sequential', 'random', 'willneed', 'dontneed'] as const) {
        await file.advise(advice, ...range);
      }
    }
    assert.ok((await file.read(0, 100_000)).equals(pattern(100_000)));
    await rejects(file.advise('soon' as Advice), 'ERR_INVALID_ARG_VALUE', TypeError);
    await rejects(file.advise(wrong(1)), 'ERR_INVALID_ARG_TYPE', TypeError);
  });

  test('tryRead says COLD for what left memory, and read brings it back', async (context) => {
    const path = newFile(pattern(MiB));
    await using file = await MappedFile.open(path, writable);
    await file.flush();
    await file.advise('dontneed');
    if ((await file.residency()) > 0.5) return context.skip('nothing leaves memory in this temporary directory');
    assert.equal(file.tryRead(0, 10), COLD);
    assert.equal(file.tryRead(0, MiB), COLD);
    assert.ok((await file.read(0, MiB)).equals(pattern(MiB)));
    assert.notEqual(file.tryRead(0, MiB), COLD);
  });
});
