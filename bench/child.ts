/** The process of one round: does the task it is given as its argument, and tells its parent what came of it. */
import { once } from 'node:events';
import { makeKeys, Values } from './data.js';
import type { FromChild, Task } from './messages.js';
import { startChild } from './processes.js';
import { storeOf } from './systems/index.js';
import type { OpenOptions } from './systems/system.js';
import { writeAll } from './works/filling.js';
import { works } from './works/index.js';
import type { Helper, Round, Work } from './works/work.js';

process.on('disconnect', () => process.exit(1)); // the parent is gone

const task: Task = JSON.parse(process.argv[2] ?? '');
tell(await perform(task).then(toAnswer, toError));
process.removeAllListeners('disconnect');
process.disconnect?.();

function tell(message: FromChild): void {
  process.send?.(message);
}

function toAnswer(answer: unknown): FromChild {
  return { answer };
}

function toError(error: unknown): FromChild {
  const refused = (error as { code?: unknown } | undefined)?.code === 'ERR_MEMLOCK';
  return { error: error instanceof Error ? (error.stack ?? error.message) : String(error), refused };
}

async function perform(task: Task): Promise<unknown> {
  const work = works.find(({ name }) => name === task.work);
  if (work === undefined) throw new Error(`no work ${task.work}`);
  const round = toRound(work, task);
  if (task.what === 'fill') return fill(round);
  if (task.what === 'help') return work.helper?.(round, waitForGo);
  if (work.store?.filled === 'each round') await fill(round);
  return work.run(round);
}

async function waitForGo(): Promise<void> {
  const go = once(process, 'message');
  tell({ ready: true });
  await go;
}

function toRound(work: Work, task: Task): Round {
  const { system, scale, seed, place } = task;
  const values = new Values(work.store?.values ?? 'bytes');
  return {
    system,
    scale,
    seed,
    place,
    values,
    open: (options: Partial<OpenOptions> = {}) =>
      storeOf(system).open(place, { values: values.kind, cache: false, pin: false, ...options }),
    fork: () => fork({ ...task, what: 'help' }),
  };
}

async function fork(task: Task): Promise<Helper> {
  const child = startChild(task);
  await child.ready;
  return { go: () => child.go(), result: child.answer };
}

async function fill(round: Round): Promise<void> {
  const keys = makeKeys(round.scale.keys);
  const connection = await round.open();
  await writeAll(
    connection,
    0,
    keys.length,
    (i) => keys[i] as string,
    (i) => round.values.of(i),
  );
  await connection.close();
}
