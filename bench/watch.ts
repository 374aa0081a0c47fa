/**
 * `npm run bench:watch -- [EFFORT]`: how long after a set its change is delivered in another process that waits for it, beside a message by
 * process.send; and what sets cost with a watcher and without one. EFFORT: a share of the usual amount, up to 1.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Store } from 'faultless';

const program = fileURLToPath(import.meta.url);
const [role = '1', ...rest] = process.argv.slice(2);
const rounds = 7;

function start(...args: string[]): ChildProcess {
  return fork(program, args, { execArgv: [] });
}

const show = (what: string, figure: string): void => console.log(`${what.padEnd(58)} ${figure.padStart(20)}`);

function quantile(values: number[], share: number): number {
  return values.sort((a, b) => a - b)[Math.floor((values.length - 1) * share)] as number;
}

const nowUs = (): number => Number(process.hrtime.bigint()) / 1000; // the same clock in all processes

async function told(name: string, location: string, times: number): Promise<number> {
  await using store = await Store.open(location);
  const late: number[] = [];
  const changes = store.watch();
  const child = start('set', location, `${times}`);
  while (late.length < times) {
    const { value } = await changes.next();
    if (value.type === 'set') late.push(nowUs() - value.value);
  }
  await once(child, 'exit');
  show(
    `a change, ${name}, median; 99 %`,
    `${quantile(late, 0.5).toFixed(0)} µs; ${quantile(late, 0.99).toFixed(0)} µs`,
  );
  return quantile(late, 0.5);
}

async function set([location = '', times = '']: string[]): Promise<void> {
  await using store = await Store.open(location);
  for (let i = 0; i < Number(times); i++) {
    await sleep(3);
    store.setSync('key', nowUs());
  }
}

async function sent(times: number): Promise<number> {
  const late: number[] = [];
  const child = start('send', `${times}`);
  child.on('message', (value: number) => late.push(nowUs() - value));
  await once(child, 'exit');
  show(
    'a message by process.send, median; 99 %',
    `${quantile(late, 0.5).toFixed(0)} µs; ${quantile(late, 0.99).toFixed(0)} µs`,
  );
  return quantile(late, 0.5);
}

async function send([times = '']: string[]): Promise<void> {
  for (let i = 0; i < Number(times); i++) {
    await sleep(3);
    await new Promise((resolve) => process.send?.(nowUs(), resolve));
  }
}

/** Nanoseconds per set: synchronous, or 512 in flight. */
async function setting(store: Store, count: number, sync: boolean): Promise<number> {
  const value = 'x'.repeat(100);
  const begin = performance.now();
  for (let i = 0; i < count; ) {
    if (sync) {
      store.setSync(`key${i++ % 5_000}`, value);
    } else {
      await Promise.all(Array.from({ length: 512 }, () => store.set(`key${i++ % 5_000}`, value)));
    }
  }
  return ((performance.now() - begin) * 1e6) / count;
}

async function follow([location = '']: string[]): Promise<void> {
  await using store = await Store.open(location);
  process.on('message', () => void store.close());
  const changes = store.watch();
  process.send?.('ready');
  for await (const _ of changes);
  process.disconnect();
}

/** Rounds with and without turn about, so that what else the machine does meets both. */
async function costs(location: string, count: number): Promise<void> {
  await using store = await Store.open(location);
  await setting(store, count, true);
  for (const sync of [true, false]) {
    const ratios: { idle: number; waiting: number }[] = [];
    const alone: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const without = await setting(store, count, sync);
      const changes = store.watch(); // not asked
      const idle = await setting(store, count, sync);
      await changes.return?.();
      const follower = start('follow', location);
      await once(follower, 'message');
      const waiting = await setting(store, count, sync);
      follower.send('end');
      await once(follower, 'exit');
      alone.push(without);
      ratios.push({ idle: idle / without, waiting: waiting / without });
    }
    const what = sync ? 'setSync' : 'set, 512 in flight';
    show(`${what}, nobody watches, ns`, quantile(alone, 0.5).toFixed(0));
    const ratio = (which: 'idle' | 'waiting'): string =>
      quantile(
        ratios.map((each) => each[which]),
        0.5,
      ).toFixed(2);
    show(`${what}, a watcher that is not asked: times as long`, ratio('idle'));
    show(`${what}, another process follows: times as long`, ratio('waiting'));
  }
}

async function main(effort: number): Promise<void> {
  const directory = mkdtempSync(path.join(tmpdir(), 'faultless-bench-watch-'));
  const shared = `shm:faultless-bench-watch-${process.pid}`;
  const file = path.join(directory, 'store');
  try {
    const times = Math.ceil(1000 * effort);
    const ofMessage = await sent(times);
    const ofChange = await told('in shared memory', shared, times);
    await told('on disk', file, times);
    show('a change in shared memory takes so many times as long', (ofChange / ofMessage).toFixed(1));
    await costs(shared, Math.ceil(50_000 * effort));
  } finally {
    rmSync(directory, { recursive: true, force: true });
    await Store.destroy(shared).catch(() => {});
  }
}

if (role === 'set') await set(rest);
else if (role === 'send') await send(rest);
else if (role === 'follow') await follow(rest);
else await main(Math.min(1, Number(role)));
