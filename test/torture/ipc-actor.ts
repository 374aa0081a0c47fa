// One process of an IPC torture run: EXCHANGE LOG BOARD ROLE SLOT SEED. It says 'ready', works until 'stop', says 'done' and
// ends; or it is killed at any moment. What cannot be ends it with an error.
//   producer SLOT   stamps free elements with its next number and pushes them as work
//   consumer        marks each number once: it must be the first to do so, and sees each producer's in order
//   finder          what the dead held: done by then or not, as its mark says
//   writer SLOT     lines with its life and a number, in order
//   reader          reads them out: none is missing, torn, or out of order
import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Exchange, Log } from 'faultless';
import { Random } from '../fixtures/random.js';
import { tell, workUntilStop } from '../rig/child.js';
import { IpcBoard, mostNumbers } from './ipc-board.js';

const [exchangeName = '', logName = '', boardName = '', role = '', slotText = '', seed = ''] = process.argv.slice(2);
const slot = Number(slotText);
const random = new Random(Number(seed));
const board = new IpcBoard(boardName);
const work = workUntilStop();

/** A process that was stopped in the middle of a push or pull makes others answer ERR_BUSY after 0.1 s. */
function unlessBusy<T>(operation: () => T): T | undefined {
  try {
    return operation();
  } catch (error) {
    if ((error as { code?: string }).code !== 'ERR_BUSY') throw error;
    return undefined;
  }
}

/** Does it, however long that takes: what is held must go on. */
async function push(queue: { push(id: number): boolean }, id: number): Promise<void> {
  while (!unlessBusy(() => queue.push(id))) await nextTurn();
}

/** One store of eight bytes: a process dies before it or after it. */
const stampOf = (producer: number, number: number): number => (producer + 1) * 2 ** 32 + number;

async function exchangeRoles(): Promise<void> {
  const exchange = await Exchange.open(exchangeName);
  const [free, todo, lost] = ['free', 'work', 'lost'].map((name) => exchange.queue(name));
  if (free === undefined || todo === undefined || lost === undefined) return;
  const latest = new Map<number, number>();

  const produce = async (): Promise<void> => {
    const id = unlessBusy(() => free.pull());
    if (id === undefined) return;
    if (board.get('next', slot) + 1 >= mostNumbers) return push(free, id);
    exchange.element(id).writeDoubleLE(stampOf(slot, board.add('next', slot)), 0);
    await push(todo, id);
  };
  /** Whether this was the first time. */
  const workOn = (id: number, inOrder: boolean): void => {
    const stamp = exchange.element(id).readDoubleLE(0);
    const producer = Math.floor(stamp / 2 ** 32) - 1;
    const number = stamp % 2 ** 32;
    const marks = board.mark(producer, number);
    assert.equal(marks, 1, `number ${number} of producer ${producer} was handed on ${marks} times`);
    if (!inOrder) return;
    const before = latest.get(producer) ?? 0;
    assert.ok(number > before, `number ${number} of producer ${producer} came after ${before}`);
    latest.set(producer, number);
  };
  const consume = async (): Promise<void> => {
    const many = new Uint32Array(1 + random.below(8));
    const count = unlessBusy(() => todo.pullMany(many)) ?? 0;
    for (const id of many.subarray(0, count)) {
      workOn(id, true);
      await push(free, id);
    }
  };
  const find = async (): Promise<void> => {
    const id = unlessBusy(() => lost.pull());
    if (id === undefined) {
      if (random.below(200) === 0) await exchange.reclaim().catch(() => 0);
      return;
    }
    const stamp = exchange.element(id).readDoubleLE(0);
    const isDone = stamp === 0 || board.marks(Math.floor(stamp / 2 ** 32) - 1, stamp % 2 ** 32) > 0;
    // It comes out of order, so it is worked on here. Should this process die now, the next one looks at the mark.
    if (!isDone) workOn(id, false);
    await push(free, id);
  };
  const step = { producer: produce, consumer: consume, finder: find }[role] ?? assert.fail(role);
  await tell('ready');
  while (!work.stopped) {
    for (let i = 0; i < 50; i++) await step();
    await nextTurn();
  }
  await exchange.close();
}

const lineOf = (life: number, number: number): string => {
  const text = `${slot} ${life} ${number} `;
  return text.padEnd(text.length + (number % 200), String(number % 10));
};

async function write(): Promise<void> {
  await using log = await Log.open(logName);
  board.set('acknowledgedOfEarlier', slot, board.get('acknowledged', slot));
  board.set('earlierLife', slot, board.get('life', slot));
  board.set('acknowledged', slot, 0);
  const life = board.add('life', slot);
  await tell('ready');
  for (let number = 1; !work.stopped; ) {
    for (let i = 0; i < 50 && !work.stopped; i++) {
      const written = unlessBusy(() => log.write(lineOf(life, number)));
      if (written) board.set('acknowledged', slot, number++);
      else if (written === false) await log.ready({ signal: AbortSignal.timeout(50) }).catch(() => {});
    }
    await nextTurn();
  }
}

async function read(): Promise<void> {
  await using log = await Log.open(logName);
  await tell('ready');
  const abort = new AbortController();
  const stopping = setInterval(() => work.stopped && abort.abort(), 20);
  try {
    for await (const { line } of log.lines({ signal: abort.signal })) {
      const text = line.toString();
      const match = /^(\d+) (\d+) (\d+) (\d*)$/.exec(text) ?? assert.fail(`a torn line: ${text}`);
      const [writer, life, number] = match.slice(1, 4).map(Number) as [number, number, number];
      assert.equal(match[4], String(number % 10).repeat(number % 200), `a torn line: ${text}`);
      const seenLife = board.get('seenLife', writer);
      const seen = board.get('seen', writer);
      // The last one that a dead reader took may come again.
      const follows = life === seenLife ? number === seen + 1 || number === seen : life > seenLife && number === 1;
      assert.ok(follows, `line ${number} of life ${life} of writer ${writer} after ${seen} of life ${seenLife}`);
      if (life > seenLife && seenLife === board.get('earlierLife', writer)) {
        const taken = board.get('acknowledgedOfEarlier', writer);
        // Looked at once more: the next one may have begun meanwhile.
        if (seenLife === board.get('earlierLife', writer)) {
          assert.ok(
            seen >= taken,
            `of life ${seenLife} of writer ${writer} ${taken} lines were taken, and ${seen} came`,
          );
        }
      }
      board.set('seen', writer, number);
      board.set('seenLife', writer, life);
    }
  } catch (error) {
    if ((error as Error).name !== 'AbortError') throw error;
  } finally {
    clearInterval(stopping);
  }
}

if (role === 'writer') await write();
else if (role === 'reader') await read();
else await exchangeRoles();
board.close();
await tell('done');
