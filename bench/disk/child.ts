/** One process on the slow disk: fills what is to be read, or reads it while it watches its own event loop. */
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { answerParent, waitForGo } from '../answering.js';
import { makeKeys, Random, Values } from '../data.js';
import { checkPage, makePages, openPages, pageBytes } from '../pages.js';
import { distributionOf } from '../report/latencies.js';
import { storeOf } from '../systems/index.js';
import type { Place } from '../systems/system.js';
import { fillStore } from '../works/filling.js';
import { inFlight } from '../works/timing.js';
import { need } from '../works/work.js';
import { LoopMonitor } from './loop-monitor.js';
import { type DiskAnswer, type DiskTask, type IdleAnswer, valueBytes, width } from './subjects.js';

await answerParent(perform);

/** What is read, opened in one place. */
interface Reader {
  /** Reads number `number` of what there is, and checks the answer. */
  read(number: number): Promise<void>;
  close(): Promise<void>;
}

async function perform(task: DiskTask): Promise<unknown> {
  const values = new Values('bytes', valueBytes);
  if (task.what === 'fill') return fill(task, values);
  if (task.subject.kind === 'idle') return idle(task);
  const keys = task.subject.kind === 'store' ? makeKeys(task.keys) : [];
  return measure(task, (directory) =>
    task.subject.kind === 'store' ? openStore(task, directory, keys, values) : openFile(task, directory),
  );
}

function placeOf({ name }: DiskTask, directory: string): Place {
  return { medium: 'disk', directory, name };
}

async function fill(task: DiskTask, values: Values): Promise<void> {
  const { subject, near, name } = task;
  if (subject.kind === 'pages') return makePages(path.join(near, name), task.pages);
  const store = storeOf(subject.system ?? 'faultless');
  const connection = await store.open(placeOf(task, near), { values: 'bytes', cache: false, pin: false });
  await fillStore(connection, task.keys, values);
  await connection.close();
}

async function idle({ near, name }: DiskTask): Promise<IdleAnswer> {
  const monitor = new LoopMonitor(path.join(near, name));
  await waitForGo();
  monitor.start();
  await waitForGo();
  return { loop: await monitor.stop() };
}

async function openStore(task: DiskTask, directory: string, keys: string[], values: Values): Promise<Reader> {
  const { system = 'faultless', sync = false } = task.subject;
  const options = { values: 'bytes', cache: false, pin: false } as const;
  const connection = await storeOf(system).open(placeOf(task, directory), options);
  const keyOf = (number: number): string => keys[number] as string;
  const close = (): Promise<void> => connection.close();
  if (sync) {
    const getSync = need(connection.getSync, 'getSync');
    const read = async (number: number): Promise<void> => values.check(number, getSync(keyOf(number)));
    return { read, close };
  }
  const get = need(connection.get, 'get');
  return { read: async (number) => values.check(number, await get(keyOf(number))), close };
}

async function openFile({ subject, name }: DiskTask, directory: string): Promise<Reader> {
  const pages = await openPages(subject.system ?? 'fs', path.join(directory, name));
  return {
    read: async (number) => checkPage(number, await pages.read(number * pageBytes)),
    close: () => pages.close(),
  };
}

async function measure(task: DiskTask, open: (directory: string) => Promise<Reader>): Promise<DiskAnswer> {
  const { subject, near, far, name, reads, seconds } = task;
  const random = new Random(task.seed);
  const picks = random.list(reads, subject.kind === 'store' ? task.keys : task.pages);
  // What is compiled and loaded at the first use is no matter of the device.
  const warm = await open(near);
  await inFlight(
    0,
    Math.min(2_000, reads),
    width,
    (i) => warm.read(picks[i] as number),
    () => {},
  );
  await warm.close();
  await waitForGo();

  const reader = await open(far);
  const monitor = new LoopMonitor(path.join(near, name));
  const ms = new Float64Array(reads);
  let done = 0;
  let next = 0;
  await waitForGo();
  monitor.start();
  const start = performance.now();
  const end = start + seconds * 1_000;
  const lane = async (): Promise<void> => {
    while (next < reads && performance.now() < end) {
      const begin = performance.now();
      await reader.read(picks[next++] as number);
      ms[done++] = performance.now() - begin;
      if (subject.sync) await nextTurn();
    }
  };
  await Promise.all(Array.from({ length: subject.sync ? 1 : width }, lane));
  const took = (performance.now() - start) / 1_000;
  const loop = await monitor.stop();
  await reader.close();
  return { reads: done, seconds: took, latencies: distributionOf(ms.subarray(0, done)), loop };
}
