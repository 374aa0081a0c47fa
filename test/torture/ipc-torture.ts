// Processes that share an exchange and a log are killed and stopped at any moment, and followed by others. Nothing of what
// they handed on, or wrote, may be lost, torn, out of order, or there twice.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { Exchange, Log, Segment } from 'faultless';
import { Random } from '../fixtures/random.js';
import { TestProcess } from '../rig/process-tools.js';
import { IpcBoard } from './ipc-board.js';

const elements = 64;
const roles = [
  ['producer', 0],
  ['producer', 1],
  ['consumer', 0],
  ['consumer', 1],
  ['finder', 0],
  ['finder', 1],
  ['writer', 0],
  ['writer', 1],
  ['writer', 2],
  ['reader', 0],
  ['reader', 1],
] as const;

export interface IpcFigures {
  kills: number;
  stops: number;
  /** All were killed, and a process that came later went on. */
  allKilled: number;
  elements: number;
  lines: number;
}

interface Actor {
  readonly role: string;
  readonly slot: number;
  readonly child: TestProcess;
}

export async function ipcTorture(seed: number, seconds: number): Promise<IpcFigures> {
  const random = new Random(seed);
  const suffix = `${process.pid}.${seed}`;
  const [exchangeName, logName, boardName] = ['exchange', 'log', 'board'].map(
    (what) => `shm:torture.${what}.${suffix}`,
  );
  if (exchangeName === undefined || logName === undefined || boardName === undefined) throw new Error('no names');
  const names = [exchangeName, logName, boardName];
  const board = new IpcBoard(boardName);
  const exchangeOptions = { elements, elementSize: 64, queues: ['free', 'work', 'lost'], reclaimTo: 'lost' };
  await (await Exchange.open(exchangeName, exchangeOptions)).close();
  await (await Log.open(logName, { capacity: 16_384 })).close();
  const figures: IpcFigures = { kills: 0, stops: 0, allKilled: 0, elements: 0, lines: 0 };
  /** Numbers of producers that were killed: the last one may never have been stamped onto an element. */
  const unused = new Set<string>();
  let actors: Actor[] = [];

  const start = async (role: string, slot: number): Promise<Actor> => {
    const args = [...names, role, String(slot), String(random.below(2 ** 31))];
    const child = new TestProcess(new URL('./ipc-actor.js', import.meta.url), { args });
    const actor = { role, slot, child };
    await child.ready();
    return actor;
  };
  const kill = async ({ role, slot, child }: Actor): Promise<void> => {
    const { stderr, code } = await child.kill();
    assert.deepEqual([stderr, code], ['', null], `${role} ${slot}`);
    if (role === 'producer') unused.add(`${slot} ${board.get('next', slot)}`);
    figures.kills++;
  };
  const stop = async ({ role, slot, child }: Actor): Promise<void> => {
    child.send('stop');
    const { stderr, code } = await child.ended();
    assert.deepEqual([stderr, code], ['', 0], `${role} ${slot}`);
  };

  try {
    actors = await Promise.all(roles.map(([role, slot]) => start(role, slot)));
    const end = performance.now() + seconds * 1000;
    while (performance.now() < end) {
      await sleep(1 + random.below(20));
      for (const { role, slot, child } of actors) {
        assert.equal(child.exit?.stderr, undefined, `${role} ${slot} has ended by itself`);
      }
      const stopped = random.pick(actors).child;
      stopped.signal('SIGSTOP');
      await sleep(random.below(20) === 0 ? 200 : 1 + random.below(5));
      stopped.signal('SIGCONT');
      figures.stops++;
      if (random.below(60) === 0) {
        await Promise.all(actors.map(kill));
        actors = await Promise.all(actors.map(({ role, slot }) => start(role, slot)));
        figures.allKilled++;
      } else if (random.below(3) === 0) {
        const victim = random.below(actors.length);
        const { role, slot } = actors[victim] as Actor;
        await kill(actors[victim] as Actor);
        actors[victim] = await start(role, slot);
      }
    }
    // Producers and writers first: what they made is still worked on and read.
    const last = (role: string): boolean => role === 'consumer' || role === 'finder' || role === 'reader';
    await Promise.all(actors.filter(({ role }) => !last(role)).map(stop));
    actors = actors.filter(({ role }) => last(role));
    const exchange = await Exchange.open(exchangeName);
    const isIdle = (): boolean => exchange.queue('free').length === elements;
    const isRead = (): boolean =>
      [0, 1, 2].every(
        (slot) => board.get('acknowledged', slot) === 0 || board.get('seen', slot) >= board.get('acknowledged', slot),
      );
    for (let i = 0; i < 1000 && !(isIdle() && isRead()); i++) await sleep(20);
    const lengths = ['free', 'work', 'lost'].map((name) => exchange.queue(name).length);
    assert.deepEqual(lengths, [elements, 0, 0], 'all elements are back');
    await Promise.all(actors.map(stop));
    actors = [];
    await exchange.close();
    for (const slot of [0, 1]) {
      const numbers = board.get('next', slot);
      figures.elements += numbers;
      for (let number = 1; number <= numbers; number++) {
        const expected = unused.has(`${slot} ${number}`) ? [0, 1] : [1];
        assert.ok(expected.includes(board.marks(slot, number)), `number ${number} of producer ${slot} is lost`);
      }
    }
    for (const slot of [0, 1, 2]) {
      const taken = board.get('acknowledged', slot);
      if (taken > 0) {
        assert.equal(board.get('seenLife', slot), board.get('life', slot));
        assert.equal(board.get('seen', slot), taken, `lines of writer ${slot}`);
      }
      figures.lines += taken;
    }
    return figures;
  } catch (error) {
    throw new Error(`seed ${seed}`, { cause: error });
  } finally {
    await Promise.all(actors.map(({ child }) => child.kill()));
    board.close();
    await Exchange.destroy(exchangeName);
    await Log.destroy(logName);
    await Segment.destroy(boardName);
  }
}
