// MappedFile as Node streams.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { finished, pipeline } from 'node:stream/promises';
import { describe, test } from 'node:test';
import { MappedFile } from 'faultless';
import { newFile, pattern, throws, wrong } from './mapped-file-fixture.js';

describe('createReadStream', () => {
  const bytes = pattern(300_000);
  const path = newFile(bytes);

  test('reads from start to end, end included', async () => {
    await using file = await MappedFile.open(path);
    for (const [options, expected] of [
      [{}, bytes],
      [{ start: 0, end: 0 }, bytes.subarray(0, 1)],
      [{ start: 100_000 }, bytes.subarray(100_000)],
      [{ start: 5, end: 200_000 }, bytes.subarray(5, 200_001)],
      [{ end: 99_999, highWaterMark: 1000 }, bytes.subarray(0, 100_000)],
      [{ start: 299_999, end: 400_000 }, bytes.subarray(299_999)],
      [{ start: 299_999, end: Infinity }, bytes.subarray(299_999)],
      [{ start: 300_000 }, Buffer.alloc(0)],
      [{ start: 400_000 }, Buffer.alloc(0)],
    ] as const) {
      assert.ok((await buffer(file.createReadStream(options))).equals(expected), JSON.stringify(options));
    }
  });

  test('pieces are as large as highWaterMark says', async () => {
    await using file = await MappedFile.open(path);
    const sizes: number[] = [];
    for await (const piece of file.createReadStream({ end: 2499, highWaterMark: 1000 })) sizes.push(piece.length);
    assert.deepEqual(sizes, [1000, 1000, 500]);
  });

  test('what is no start, end, highWaterMark or signal is an argument error', async () => {
    await using file = await MappedFile.open(path);
    for (const key of ['start', 'end', 'highWaterMark']) {
      throws(() => file.createReadStream({ [key]: wrong('1') }), 'ERR_INVALID_ARG_TYPE', TypeError);
      for (const value of [-1, 0.5, Number.NaN]) {
        throws(() => file.createReadStream({ [key]: value }), 'ERR_OUT_OF_RANGE', RangeError);
      }
    }
    throws(() => file.createReadStream({ highWaterMark: 0 }), 'ERR_OUT_OF_RANGE', RangeError);
    throws(() => file.createReadStream({ start: 2, end: 1 }), 'ERR_OUT_OF_RANGE', RangeError);
    throws(() => file.createReadStream({ signal: wrong(5) }), 'ERR_INVALID_ARG_TYPE', TypeError);
    throws(() => file.createReadStream(wrong(5)), 'ERR_INVALID_ARG_TYPE', TypeError);
  });

  test('an abort destroys it with the signal’s reason', async () => {
    await using file = await MappedFile.open(path);
    const controller = new AbortController();
    const stream = file.createReadStream({ signal: controller.signal, highWaterMark: 1000 });
    const reason = new Error('enough');
    let read = 0;
    await assert.rejects(
      (async () => {
        for await (const piece of stream) {
          read += piece.length;
          controller.abort(reason);
        }
      })(),
      reason,
    );
    assert.ok(read < 300_000);
    const late = file.createReadStream({ signal: controller.signal });
    await assert.rejects(buffer(late), reason);
  });

  test('closing the map ends it with ERR_CLOSED', async () => {
    const file = await MappedFile.open(path);
    const stream = file.createReadStream({ highWaterMark: 10 });
    await once(stream, 'readable');
    await file.close();
    await assert.rejects(buffer(stream), { code: 'ERR_CLOSED' });
    throws(() => file.createReadStream(), 'ERR_CLOSED');
  });
});

describe('createWriteStream', () => {
  test('writes from start on, all kinds of chunks', async () => {
    const path = newFile(Buffer.alloc(300_100));
    await using file = await MappedFile.open(path, { readOnly: false });
    const bytes = pattern(300_000);
    const pieces = Readable.from([bytes.subarray(0, 1), bytes.subarray(1, 200_000), bytes.subarray(200_000)]);
    await pipeline(pieces, file.createWriteStream({ start: 50 }));
    assert.ok(readFileSync(path).equals(Buffer.concat([Buffer.alloc(50), bytes, Buffer.alloc(50)])));
    const text = file.createWriteStream();
    text.write('ä');
    text.write('c2a7', 'hex');
    text.end('!');
    await finished(text);
    assert.equal((await file.read(0, 5)).toString(), 'ä§!');
  });

  test('many small chunks before anything is written', async () => {
    const path = newFile(Buffer.alloc(10_000));
    await using file = await MappedFile.open(path, { readOnly: false });
    const stream = file.createWriteStream({ highWaterMark: 16 });
    let full = 0;
    for (let i = 0; i < 1000; i++) if (!stream.write(String(i).padStart(10, '0'))) full++;
    assert.ok(full > 900);
    stream.end();
    await finished(stream);
    assert.equal(
      readFileSync(path, 'latin1'),
      Array.from({ length: 1000 }, (_, i) => String(i).padStart(10, '0')).join(''),
    );
  });

  test('past the end it fails', async () => {
    await using file = await MappedFile.open(newFile(Buffer.alloc(10)), { readOnly: false });
    const stream = file.createWriteStream({ start: 5 });
    stream.end('0123456789');
    await assert.rejects(finished(stream), { code: 'ERR_OUT_OF_RANGE' });
    throws(() => file.createWriteStream({ start: -1 }), 'ERR_OUT_OF_RANGE', RangeError);
    throws(() => file.createWriteStream({ start: wrong('1') }), 'ERR_INVALID_ARG_TYPE', TypeError);
  });

  test('an abort destroys it with the signal’s reason', async () => {
    await using file = await MappedFile.open(newFile(Buffer.alloc(10)), { readOnly: false });
    const controller = new AbortController();
    const stream = file.createWriteStream({ signal: controller.signal });
    stream.write('x');
    const reason = new Error('enough');
    controller.abort(reason);
    await assert.rejects(finished(stream), reason);
  });

  test('one map copied into another by a pipeline', async () => {
    const bytes = pattern(1_000_000);
    const path = newFile();
    await using source = await MappedFile.open(newFile(bytes));
    await using target = await MappedFile.open(path, { create: true, readOnly: false, size: bytes.length });
    await pipeline(source.createReadStream(), target.createWriteStream());
    assert.ok(readFileSync(path).equals(bytes));
  });
});
