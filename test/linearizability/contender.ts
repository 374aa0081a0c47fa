// One of several processes that write and read the same keys and record it: FILE LOG NUMBER SEED ROLE.
//   writer: all kinds of operations; filler: writes mostly, and its own keys, so that cleaning and growth are under way;
//   reader: has no write permission.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { COLD, type Cold, Store } from 'faultless';
import { Random } from '../fixtures/random.js';
import { received, tell, workUntilStop } from '../rig/child.js';
import {
  contendedKey,
  contendedKeys,
  counterKeys,
  countersOf,
  fillerKey,
  fillerValue,
  makeValue,
  maxSequence,
  numberIn,
  numberOf,
} from './contention.js';
import { type Ending, HistoryLog, type Method } from './history.js';

const [file = '', log = '', numberText = '', seed = '', role = ''] = process.argv.slice(2);
const number = Number(numberText);
using history = new HistoryLog(log);
const random = new Random(Number(seed));
const readOnly = role === 'reader';
const store = await Store.open(file, { encoding: 'buffer', readOnly });
const counters = await Store.open<number>(countersOf(file), { readOnly });
await tell('ready');
await received('go');
const work = workUntilStop();

let sequence = 0;
/** Writes of this process that are under way, by key: tryGet answers their values before they have happened. */
const writing = new Uint32Array(contendedKeys);

let complaints = 0;

function endingOf(error: unknown): Ending {
  const { code } = error as { code?: string };
  if (code === 'ERR_BUSY') return 'busy';
  if (complaints++ < 5) process.stderr.write(`${error}\n`);
  return 'wrong';
}

/** Calls and records. `toValue` makes the checker's value of the answer; COLD: there was none. */
async function record<T>(
  client: number,
  method: Method,
  [key, value, expected]: readonly [key: number, value?: number, expected?: number],
  call: () => T | Promise<T>,
  toValue: (answer: T) => number | Cold,
): Promise<void> {
  const noted = history.call(client, method, key, value ?? 0, expected ?? 0);
  try {
    const promised = call();
    const answer = promised instanceof Promise ? await promised : promised;
    const time = process.hrtime.bigint();
    const result = toValue(answer);
    if (result === COLD) history.end(noted, 'nothing', 0, time);
    else history.end(noted, 'answered', result, time);
  } catch (error) {
    history.end(noted, endingOf(error), 0, process.hrtime.bigint());
  }
}

const toNothing = (): number => 0;

function nextValue(key: number): { value: number; bytes: Buffer } {
  if (++sequence > maxSequence) throw new Error('more writes than values have numbers');
  return { value: numberOf(number, sequence), bytes: makeValue(key, number, sequence) };
}

/** The keys with large values, and of many sizes, are taken less often: they cost more. */
const anyKey = (): number => random.below(random.below(8) === 0 ? contendedKeys : contendedKeys - 2);
const writesOfTen = { writer: 4, filler: 8, reader: 0 }[role] ?? 0;
const isWrite = (): boolean => random.below(10) < writesOfTen;
/** Few: where keys are absent for long, an answer that wrongly says so has an explanation. */
const isDelete = (ofHowMany: number): boolean => random.below(ofHowMany) === 0;

/** A number that all of them increment. */
function count(client: number, sync: boolean): Promise<void> {
  const key = contendedKeys + random.below(counterKeys);
  const name = `counter-${key}`;
  const read = (answer: number | undefined) => answer ?? 0;
  if (isWrite()) {
    if (sync) return record(client, 'incrementSync', [key], () => counters.incrementSync(name), Number);
    return record(client, 'increment', [key], () => counters.increment(name), Number);
  }
  if (sync) return record(client, 'getSync', [key], () => counters.getSync(name), read);
  return record(client, 'get', [key], () => counters.get(name), read);
}

/** Replaces what has just been read, or what was read long ago; sometimes deletes it. */
const seen: (Buffer | undefined)[] = [];
async function swap(client: number, key: number): Promise<void> {
  const name = contendedKey(key);
  let expected = seen[key];
  let from: number;
  try {
    if (random.below(4) !== 0) seen[key] = expected = await store.get(name);
    from = numberIn(key, expected);
  } catch (error) {
    endingOf(error); // tells it on stderr
    return;
  }
  const deletes = from !== 0 && isDelete(15);
  const { value, bytes } = nextValue(key);
  const wanted = deletes ? undefined : bytes;
  const inBatch = (): Promise<boolean> => {
    const batch = store.batch().check(name, expected);
    return (wanted === undefined ? batch.delete(name) : batch.set(name, wanted)).commit();
  };
  const call = random.below(8) === 0 ? inBatch : () => store.compareAndSet(name, expected, wanted);
  await record(client, 'compareAndSet', [key, deletes ? 0 : value, from], call, Number);
}

function operateSync(client: number): Promise<void> {
  if (random.below(12) === 0) return count(client, true);
  const key = anyKey();
  const name = contendedKey(key);
  if (isWrite()) {
    if (isDelete(60)) return record(client, 'deleteSync', [key], () => store.deleteSync(name), Number);
    const { value, bytes } = nextValue(key);
    return record(client, 'setSync', [key, value], () => store.setSync(name, bytes), toNothing);
  }
  const read = (answer: Buffer | undefined | Cold) => (answer === COLD ? COLD : numberIn(key, answer));
  const choice = random.below(4);
  if (choice === 0) return record(client, 'hasSync', [key], () => store.hasSync(name), Number);
  if (choice <= 2 && writing[key] === 0) return record(client, 'tryGet', [key], () => store.tryGet(name), read);
  return record(client, 'getSync', [key], () => store.getSync(name), read);
}

async function operate(client: number): Promise<void> {
  if (random.below(12) === 0) return count(client, false);
  const key = anyKey();
  const name = contendedKey(key);
  if (isWrite()) {
    writing[key] = (writing[key] ?? 0) + 1;
    if (random.below(3) === 0) {
      await swap(client, key);
    } else if (isDelete(8)) {
      await record(client, 'delete', [key], () => store.delete(name), Number);
    } else {
      const { value, bytes } = nextValue(key);
      const inBatch = random.below(16) === 0;
      const call = () => (inBatch ? store.batch().set(name, bytes).commit() : store.set(name, bytes));
      await record<unknown>(client, 'set', [key, value], call, toNothing);
    }
    writing[key] = (writing[key] ?? 0) - 1;
    return;
  }
  const read = (answer: Buffer | undefined) => numberIn(key, answer);
  const choice = random.below(3);
  if (choice === 0) return record(client, 'has', [key], () => store.has(name), Number);
  if (choice === 1)
    return record(
      client,
      'getMany',
      [key],
      () => store.getMany([name]),
      ([answer]) => read(answer),
    );
  return record(client, 'get', [key], () => store.get(name), read);
}

/**
 * New keys, so that segments split, directories double, the file grows, and cleaning has records to move; then they are
 * deleted again, and for a while there is nothing but the contended keys.
 */
class Filler {
  #next = 0;
  #turn = 0;

  step(): void {
    this.#turn = (this.#turn + 1) % 300;
    if (this.#turn < 100) this.#setSome(20);
    else if (this.#turn < 150) this.#deleteSome(40);
  }

  #setSome(count: number): void {
    for (let i = 0; i < count; i++) {
      const key = fillerKey(number, this.#next++);
      store.setSync(key, fillerValue(key, this.#next));
    }
  }

  #deleteSome(count: number): void {
    for (let i = 0; i < count && this.#next > 0; i++) store.deleteSync(fillerKey(number, --this.#next));
  }
}

async function loop(operation: () => Promise<void>): Promise<void> {
  while (!work.stopped) await operation();
}

const filler = new Filler();
const syncClient = loop(async () => {
  for (let i = 0; i < 32; i++) await operateSync(0);
  if (role === 'filler') filler.step();
  await nextTurn();
});
await Promise.all([syncClient, ...[1, 2].map((client) => loop(() => operate(client)))]);
await Promise.all([store.close(), counters.close()]);
await tell('done');
