/** The process of one round: does the task it is given as its argument, and tells its parent what came of it. */
import { answerParent, waitForGo } from './answering.js';
import { Values } from './data.js';
import type { Task } from './messages.js';
import { startChild } from './processes.js';
import { storeOf } from './systems/index.js';
import type { OpenOptions } from './systems/system.js';
import { fillStore } from './works/filling.js';
import { works } from './works/index.js';
import type { Helper, Round, Work } from './works/work.js';

await answerParent(perform);

async function perform(task: Task): Promise<unknown> {
  const work = works.find(({ name }) => name === task.work);
  if (work === undefined) throw new Error(`no work ${task.work}`);
  const round = toRound(work, task);
  if (task.what === 'fill') return fill(round);
  if (task.what === 'help') return work.helper?.(round, waitForGo);
  if (work.store?.filled === 'each round') await fill(round);
  return work.run(round);
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
  const child = startChild(new URL(import.meta.url), task, { name: `the helper of ${task.work} with ${task.system}` });
  await child.paused();
  return { go: () => child.go(), result: child.answer };
}

async function fill(round: Round): Promise<void> {
  const connection = await round.open();
  await fillStore(connection, round.scale.keys, round.values);
  await connection.close();
}
