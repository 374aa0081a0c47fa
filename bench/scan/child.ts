/** One process of the scan: fills the store, iterates over all of it, or reads its file. */
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import path from 'node:path';
import { answerParent, waitForGo } from '../answering.js';
import { keyBytes, numberOf, Values } from '../data.js';
import { storeOf } from '../systems/index.js';
import type { Connection } from '../systems/system.js';
import { fillStore } from '../works/filling.js';
import { need } from '../works/work.js';

export interface ScanTask {
  what: 'fill' | 'read' | 'scan';
  directory: string;
  name: string;
  keys: number;
  valueBytes: number;
}

export interface ScanAnswer {
  ms: number;
  /** That came from the device. */
  deviceBytes: number;
}

const readBytes = 2 ** 20;

await answerParent(perform);

async function perform(task: ScanTask): Promise<unknown> {
  const values = new Values('strings', task.valueBytes);
  if (task.what === 'fill') return fill(task, values);
  await waitForGo();
  const before = deviceBytes();
  const ms = task.what === 'read' ? read(task) : await scan(task, values);
  return { ms, deviceBytes: deviceBytes() - before } satisfies ScanAnswer;
}

function open({ directory, name }: ScanTask): Promise<Connection> {
  const options = { values: 'strings', cache: false, pin: false } as const;
  return storeOf('faultless').open({ medium: 'disk', directory, name }, options);
}

async function fill(task: ScanTask, values: Values): Promise<void> {
  const connection = await open(task);
  await fillStore(connection, task.keys, values);
  await connection.close();
}

/** Bytes that this process has had read from devices. */
function deviceBytes(): number {
  return Number(/^read_bytes: (\d+)$/m.exec(readFileSync('/proc/self/io', 'utf8'))?.[1]);
}

function read({ directory, name }: ScanTask): number {
  const buffer = Buffer.alloc(readBytes);
  const start = performance.now();
  const fd = openSync(path.join(directory, name), 'r');
  while (readSync(fd, buffer) > 0);
  closeSync(fd);
  return performance.now() - start;
}

async function scan(task: ScanTask, values: Values): Promise<number> {
  const connection = await open(task);
  const seen = new Uint8Array(task.keys);
  let count = 0;
  const start = performance.now();
  await need(
    connection.scan,
    'scan',
  )((key, value) => {
    const number = numberOf(key);
    if (key.length !== keyBytes || seen[number] !== 0) throw new Error(`${key} was not to come, or not again`);
    seen[number] = 1;
    count++;
    values.check(number, value);
  });
  const ms = performance.now() - start;
  if (count !== task.keys) throw new Error(`${count} entries instead of ${task.keys}`);
  await connection.close();
  return ms;
}
