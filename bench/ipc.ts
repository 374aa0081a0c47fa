/**
 * `npm run bench:ipc -- [EFFORT] [alone]`: memory that processes share, between two and more processes: the counting problem (200,000 integers, each
 * value from 0 to 999 counted by N children that traverse all of them 1,000 times together), elements handed on by pushMany and pullMany beside an
 * equal share of messages by process.send, the way of a wake-up by take(), and lines into a log that another process reads beside pino to a file.
 * Every result is checked. EFFORT: a share of the usual amount, up to 1. alone: without pino, which is installed otherwise.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Exchange, Log, Segment } from 'faultless';
import { installPeers, requirePeer } from './peers.js';

const program = fileURLToPath(import.meta.url);
const prefix = `shm:faultless-bench-${process.env.FAULTLESS_BENCH ?? process.pid}`;
const [role = '1', ...rest] = process.argv.slice(2);
const numbers = 200_000;
const values = 1_000;
const batch = 1_000;

function start(...args: string[]): ChildProcess {
  return fork(program, args, { env: { ...process.env, FAULTLESS_BENCH: String(process.pid) }, execArgv: [] });
}

/** Starts children that are all ready, then times them from the word to their end. */
async function timed(children: ChildProcess[], meanwhile: () => Promise<void> | void = () => {}): Promise<number> {
  await Promise.all(children.map((child) => once(child, 'message')));
  const ends = children.map((child) => once(child, 'exit'));
  const begin = performance.now();
  for (const child of children) child.send('go');
  await meanwhile();
  for (const [code] of await Promise.all(ends)) if (code !== 0) throw new Error(`a child ended with ${code}`);
  return performance.now() - begin;
}

async function ready(): Promise<void> {
  const go = once(process, 'message');
  process.send?.('ready');
  await go;
}

const show = (what: string, figure: string): void => console.log(`${what.padEnd(58)} ${figure.padStart(20)}`);
const perSecond = (count: number, ms: number): string => `${(count / ms / 1000).toFixed(3)} M/s`;

async function counting(traversals: number): Promise<void> {
  using segment = Segment.openSync(`${prefix}.numbers`, { size: (numbers + values) * 4 });
  const words = new Int32Array(segment.buffer);
  const expected = new Int32Array(values);
  for (let i = 0; i < numbers; i++) {
    const value = Math.floor(Math.random() * values);
    words[i] = value;
    expected[value] = (expected[value] as number) + 1;
  }
  for (const children of [1, 2, 4, 8]) {
    words.fill(0, numbers);
    const all = Array.from({ length: children }, (_, i) => start('count', `${i}`, `${children}`, `${traversals}`));
    const ms = await timed(all);
    for (let value = 0; value < traversals; value++) {
      if (words[numbers + value] !== expected[value]) throw new Error(`${value} was counted wrongly`);
    }
    const each = ((ms * 1e6) / (traversals * numbers)).toFixed(2);
    show(`counting, ${children} ${children === 1 ? 'child' : 'children'}`, `${ms.toFixed(0)} ms, ${each} ns each`);
  }
  await Segment.destroy(`${prefix}.numbers`);
}

async function count([first = '', step = '', traversals = '']: string[]): Promise<void> {
  using segment = Segment.openSync(`${prefix}.numbers`);
  const words = new Int32Array(segment.buffer);
  await ready();
  for (let value = Number(first); value < Number(traversals); value += Number(step)) {
    let found = 0;
    for (let i = 0; i < numbers; i++) if (words[i] === value) found++;
    words[numbers + value] = found;
  }
}

const exchangeOptions = { elements: 20_000, elementSize: 8, queues: ['free', 'work', 'back'] };

async function handing(elements: number, messages: number): Promise<void> {
  await using exchange = await Exchange.open(`${prefix}.exchange`, exchangeOptions);
  const [free, work, back] = exchangeOptions.queues.map((name) => exchange.queue(name)) as [Queue, Queue, Queue];
  const consumer = start('consume', String(elements));
  const ms = await timed([consumer], async () => {
    const ids = new Uint32Array(batch);
    for (let sent = 0; sent < elements; ) {
      const got = free.pullMany(ids.subarray(0, Math.min(batch, elements - sent)));
      if (got === 0) free.push(await free.take());
      else sent += work.pushMany(ids.subarray(0, got));
    }
  });
  show(`elements by pushMany and pullMany, ${batch} at a time`, perSecond(elements, ms));

  const receiver = start('receive', String(messages));
  const messageMs = await timed([receiver], async () => {
    for (let i = 0; i < messages; i++) if (!receiver.send(i)) await new Promise((resolve) => setImmediate(resolve));
  });
  show('messages by process.send', perSecond(messages, messageMs));
  show('  elements are so many times as fast', (elements / ms / (messages / messageMs)).toFixed(0));

  const echo = start('echo');
  await once(echo, 'message');
  echo.send('go');
  const times: number[] = [];
  const id = await free.take();
  work.push(id);
  for (let i = 0; i < 3_000; i++) {
    const begin = performance.now();
    const came = await back.take();
    times.push(performance.now() - begin);
    work.push(came);
  }
  times.sort((a, b) => a - b);
  show(
    'take() woken by another process and back, median round trip',
    `${((times[1_500] as number) * 1000).toFixed(0)} µs`,
  );
  echo.kill('SIGKILL');
  await Exchange.destroy(`${prefix}.exchange`);
}

type Queue = ReturnType<Exchange['queue']>;

async function consume([elements = '']: string[]): Promise<void> {
  await using exchange = await Exchange.open(`${prefix}.exchange`);
  const [free, work] = [exchange.queue('free'), exchange.queue('work')];
  const ids = new Uint32Array(batch);
  await ready();
  for (let seen = 0; seen < Number(elements); ) {
    let got = work.pullMany(ids);
    if (got === 0) {
      ids[0] = await work.take();
      got = 1;
    }
    seen += free.pushMany(ids.subarray(0, got));
  }
}

async function echo(): Promise<void> {
  await using exchange = await Exchange.open(`${prefix}.exchange`);
  await ready();
  for await (const id of exchange.queue('work')) exchange.queue('back').push(id);
}

async function receive([messages = '']: string[]): Promise<void> {
  await ready();
  let expected = 0;
  await new Promise<void>((resolve) => {
    process.on('message', (message) => {
      if (message !== expected++) throw new Error(`${message} in the place of ${expected - 1}`);
      if (expected === Number(messages)) resolve();
    });
  });
}

const line = '{"level":30,"time":1531171074631,"pid":657,"hostname":"some-host","msg":"hello world"}\n';

async function logging(lines: number): Promise<void> {
  const log = await Log.open(`${prefix}.log`, { capacity: 64 * 1024 * 1024 });
  const reader = start('read', String(lines));
  let writtenMs = 0;
  const ms = await timed([reader], async () => {
    const begin = performance.now();
    for (let i = 0; i < lines; i++) while (!log.write(line)) await log.ready();
    writtenMs = performance.now() - begin;
  });
  show('log lines written while another process reads', perSecond(lines, writtenMs));
  show('  until all have been read', perSecond(lines, ms));
  if (rest[0] !== 'alone') await besidePino(log, lines, writtenMs);
  await log.close();
  await Log.destroy(`${prefix}.log`);
}

async function besidePino(log: Log, lines: number, writtenMs: number): Promise<void> {
  await installPeers();
  const pino = requirePeer('pino') as any;
  const directory = mkdtempSync(path.join(tmpdir(), 'faultless-bench-ipc-'));
  const destination = pino.destination({ dest: path.join(directory, 'log'), sync: true });
  const toFile = pino({}, destination);
  let begin = performance.now();
  for (let i = 0; i < lines; i++) toFile.info('hello world');
  const fileMs = performance.now() - begin;
  show('pino to a file', perSecond(lines, fileMs));
  show('  lines into the log are so many times as fast', (fileMs / writtenMs).toFixed(1));
  const second = start('read', String(lines));
  const toLog = pino({}, log);
  let loggedMs = 0;
  await timed([second], () => {
    begin = performance.now();
    for (let i = 0; i < lines; i++) toLog.info('hello world');
    loggedMs = performance.now() - begin;
  });
  show('pino into the log', perSecond(lines, loggedMs));
  rmSync(directory, { recursive: true });
}

async function read([lines = '']: string[]): Promise<void> {
  await using log = await Log.open(`${prefix}.log`);
  await ready();
  let seen = 0;
  for await (const entry of log.lines()) {
    if (entry.line.length === 0) throw new Error('an empty line');
    if (++seen === Number(lines)) break;
  }
}

const roles: Record<string, (args: string[]) => Promise<void>> = { count, consume, receive, echo, read };
const task = roles[role];
if (task !== undefined) {
  await task(rest);
  process.disconnect();
} else {
  const effort = Number(role);
  await counting(Math.max(8, Math.round(values * effort)));
  await handing(Math.round(20_000_000 * effort), Math.max(1_000, Math.round(200_000 * effort)));
  await logging(Math.max(1_000, Math.round(400_000 * effort)));
}
