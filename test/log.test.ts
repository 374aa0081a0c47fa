// Log: writing, room, reading, taking over, deaths; and as a destination of pino.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { Exchange, Log, type LogLine } from 'faultless';
import pinoTransport from 'faultless/pino-transport';
import { startProcess } from './fixtures/start-process.js';
import { endsWith, newSharedName, rejects, throws, wrong } from './store-fixture.js';

const pathOf = (name: string) => name.replace('shm:', '/dev/shm/faultless.');

/** The next lines, which are done with then. */
async function read(log: Log, count: number): Promise<LogLine[]> {
  const lines: LogLine[] = [];
  if (count === 0) return lines;
  for await (const line of log.lines({ signal: AbortSignal.timeout(20_000) })) {
    lines.push(line);
    if (lines.length === count) break;
  }
  return lines;
}
const readTexts = async (log: Log, count: number) => (await read(log, count)).map(({ line }) => line.toString());

describe('opening a log', () => {
  test('another capacity, exclusive, missing, of another kind', async () => {
    const name = newSharedName();
    await rejects(Log.open(name, { create: false }), 'ERR_NOT_FOUND');
    await rejects(Log.open(name, { readOnly: true }), 'ERR_UNSUPPORTED');
    await rejects(Log.destroy(name), 'ERR_NOT_FOUND');
    {
      await using _ = await Log.open(name, { capacity: 5_000, exclusive: true });
      await using _same = await Log.open(name, { capacity: 8_192 });
      await using _any = await Log.open(name);
      await rejects(Log.open(name, { exclusive: true }), 'ERR_EXISTS');
      await rejects(Log.open(name, { capacity: 4_096 }), 'ERR_FORMAT');
      await rejects(Exchange.open(name), 'ERR_FORMAT');
    }
    await Log.destroy(name);
    assert.ok(!existsSync(pathOf(name)));
    await using _exchange = await Exchange.open(name, { elements: 1, elementSize: 1, queues: ['a'] });
    await rejects(Log.open(name), 'ERR_FORMAT');
    await rejects(Log.destroy(name), 'ERR_FORMAT');
  });

  test('wrong arguments', async () => {
    const name = newSharedName();
    await rejects(Log.open('./file'), 'ERR_INVALID_ARG_VALUE', TypeError);
    for (const capacity of [0, 4_095, 1.5, 2 ** 41])
      await rejects(Log.open(name, { capacity }), 'ERR_OUT_OF_RANGE', RangeError);
    await rejects(Log.open(name, { capacity: wrong('1') }), 'ERR_INVALID_ARG_TYPE', TypeError);
    await using log = await Log.open(name);
    throws(() => log.write(wrong(7)), 'ERR_INVALID_ARG_TYPE', TypeError);
    throws(() => log.write('x'.repeat(4 << 20)), 'ERR_VALUE_TOO_LARGE');
    await rejects(log.ready(wrong(7)), 'ERR_INVALID_ARG_TYPE', TypeError);
  });
});

describe('lines', () => {
  test('with time, process and thread, in one order; any text and any bytes', async () => {
    const name = newSharedName();
    await using log = await Log.open(name);
    const before = BigInt(Date.now()) * 1_000_000n;
    const texts = ['plain\n', '', 'Ünïcödé ☂', '0'.repeat(4_093), '☂'.repeat(2_000), 'a\0b'];
    for (const text of texts) assert.equal(log.write(text), true);
    log.write(Buffer.from([0, 255, 128]));
    const code = `
      const { workerData } = require('node:worker_threads');
      const { Log } = require('faultless');
      Log.open(workerData).then((log) => { log.write('from a thread'); return log.close(); });`;
    const worker = new Worker(code, { eval: true, workerData: name });
    await once(worker, 'exit');
    const lines = await read(log, texts.length + 2);
    assert.deepEqual(
      lines.slice(0, texts.length).map(({ line }) => line.toString()),
      texts,
    );
    assert.deepEqual(lines[texts.length]?.line, Buffer.from([0, 255, 128]));
    const last = lines.at(-1) as LogLine;
    assert.equal(last.line.toString(), 'from a thread');
    assert.ok(last.thread > 0 && lines[0]?.thread === 0);
    assert.ok(lines.every(({ pid }) => pid === process.pid));
    // The coarser clock of Date may be ahead by its own step.
    let time = before - 1_000_000n;
    for (const line of lines) {
      assert.ok(line.time >= time && line.time < time + 60_000_000_000n);
      time = line.time;
    }
  });

  test('full: write says so, counts, and ready waits until there is room', async () => {
    await using log = await Log.open(newSharedName(), { capacity: 4_096 });
    await log.ready();
    const line = 'x'.repeat(976);
    for (let i = 0; i < 4; i++) assert.equal(log.write(line), true);
    const late = 'y'.repeat(976);
    assert.equal(log.write(late), false);
    assert.equal(log.write(late), false);
    assert.equal(log.dropped, 1);
    assert.equal(log.write('z'.repeat(976)), false);
    assert.equal(log.dropped, 2);
    assert.equal(log.write(late), false);
    assert.equal(log.dropped, 3);
    let ready = false;
    const waiting = log.ready().then(() => {
      ready = true;
    });
    await sleep(20);
    assert.equal(ready, false);
    assert.equal((await read(log, 1)).length, 1);
    await waiting;
    assert.equal(log.write(late), true);
    assert.equal(log.dropped, 2);
    await rejects(log.ready({ signal: wrong(1) }), 'ERR_INVALID_ARG_TYPE', TypeError);
    assert.equal(log.write(late), false);
    await assert.rejects(log.ready({ signal: AbortSignal.timeout(5) }), { name: 'TimeoutError' });
  });

  test('a line is done with when the next is asked for or the iteration is left', async () => {
    await using log = await Log.open(newSharedName());
    for (let i = 0; i < 10; i++) log.write(String(i));
    const iterator = log.lines();
    assert.equal((await iterator.next()).value.line.toString(), '0');
    assert.equal((await iterator.next()).value.line.toString(), '1');
    await iterator.return?.();
    assert.deepEqual(await readTexts(log, 3), ['2', '3', '4']);
    await assert.rejects(async () => {
      for await (const _ of log.lines()) throw new Error('on purpose');
    }, /on purpose/);
    assert.deepEqual(await readTexts(log, 4), ['6', '7', '8', '9']);
  });

  test('abort and close end what waits', async () => {
    const log = await Log.open(newSharedName(), { capacity: 4_096 });
    await assert.rejects(log.lines({ signal: AbortSignal.timeout(5) }).next(), { name: 'TimeoutError' });
    await assert.rejects(log.lines({ signal: AbortSignal.abort(new Error('no')) }).next(), /no/);
    const next = log.lines().next();
    while (log.write('x'.repeat(500)));
    assert.equal((await next).done, false);
    const closing = rejects(log.ready(), 'ERR_CLOSED');
    const other = log.lines().next();
    await sleep(5);
    await log.close();
    await log.close();
    await closing;
    assert.equal((await other).done, true);
    assert.deepEqual([log.closed, log.dropped], [true, 0]);
    throws(() => log.write('x'), 'ERR_CLOSED');
    await rejects(log.ready(), 'ERR_CLOSED');
    await rejects(log.lines().next(), 'ERR_CLOSED');
  });
});

describe('logs over processes', () => {
  test('the lines of several processes, those of each in their order; they stay when all have ended', async () => {
    const name = newSharedName();
    const script = `
      import { Log } from 'faultless';
      const log = await Log.open(process.argv[1]);
      for (let i = 0; i < 2000; i++) {
        while (!log.write(process.argv[2] + ':' + i)) await log.ready();
      }
      await log.close();`;
    await Promise.all(['a', 'b', 'c'].map((letter) => endsWith(0, script, [name, letter])));
    await using log = await Log.open(name);
    const next: Record<string, number> = { a: 0, b: 0, c: 0 };
    for (const text of await readTexts(log, 6_000)) {
      const [letter = '', number] = text.split(':');
      assert.equal(Number(number), next[letter]);
      next[letter] = Number(number) + 1;
    }
    assert.equal(log.dropped, 0);
  });

  test('a killed reader hands over to the next one: nothing is lost, and its last line comes again', async (t) => {
    const name = newSharedName();
    await using log = await Log.open(name);
    const first = startProcess(t, 'log-reader', [name, '4']);
    await first.ready();
    log.write('0');
    assert.equal(await first.message('line'), '0');
    const second = startProcess(t, 'log-reader', [name]);
    await second.ready();
    for (let i = 1; i < 10; i++) log.write(String(i));
    for (let i = 1; i < 3; i++) assert.equal(await first.message('line'), String(i));
    assert.equal((await first.ended()).signal, 'SIGKILL');
    for (let i = 3; i < 10; i++) assert.equal(await second.message('line'), String(i));
    await second.kill();
  });

  test('who reads keeps the process alive, and uses no processor while nothing comes', async (t) => {
    const name = newSharedName();
    await using log = await Log.open(name);
    const reader = startProcess(t, 'log-reader', [name]);
    await reader.ready();
    await sleep(300);
    assert.equal(reader.exit, undefined);
    log.write('late');
    assert.equal(await reader.message('line'), 'late');
    await endsWith(0, `import { Log } from 'faultless'; globalThis.log = await Log.open(process.argv[1]);`, [name]);
  });

  test('processes that end in the middle of waiting: by their own exit code', async () => {
    const script = `
      import { Log } from 'faultless';
      const log = await Log.open(process.argv[1], { capacity: 4096 });
      log.lines().next();
      log.lines().next();
      while (log.write('x'.repeat(100)));
      log.ready();
      process.exit(5);`;
    await endsWith(5, script, [newSharedName()]);
  });
});

describe('the transport for pino', () => {
  test('lines come whole however they are cut into pieces, and wait for room', async () => {
    const name = newSharedName();
    const stream = await pinoTransport({ location: name, capacity: 4_096 });
    await using log = await Log.open(name);
    const count = 1_000;
    const reading = readTexts(log, count + 1);
    const text = Array.from({ length: count }, (_, i) => `{"n":${i}}\n`).join('');
    for (let at = 0; at < text.length; at += 37) stream.write(text.slice(at, at + 37));
    stream.end('the end');
    await once(stream, 'close');
    const lines = await reading;
    assert.equal(lines.join(''), `${text}the end`);
    assert.equal(lines.length, count + 1);
  });
});
