// Processes that are at work on one store while some are stopped for a moment, and others killed and started anew.
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Random } from '../fixtures/random.js';
import { TestProcess } from '../rig/process-tools.js';

export interface ContestOptions {
  readonly script: URL;
  /** One process of each, at any time. */
  readonly roles: readonly string[];
  /** Roles whose processes may be killed. */
  readonly mortal: readonly string[];
  /** Arguments of the script for the process with this number, which is never used again. */
  readonly argsOf: (role: string, number: number, random: Random) => readonly string[];
  readonly env?: Record<string, string> | undefined;
  readonly seed: number;
  readonly seconds: number;
}

export interface Contest {
  readonly kills: number;
  readonly stderr: string;
  /** What the processes that were there at the end had to tell, role by role. */
  readonly reports: readonly unknown[];
}

/** The script says 'ready', works from 'go' to 'stop', then says 'done' and ends. */
export async function holdContest(t: TestContext, options: ContestOptions): Promise<Contest> {
  const { script, roles, mortal, argsOf, env, seed, seconds } = options;
  const random = new Random(seed);
  const all: TestProcess[] = [];
  const start = async (role: string): Promise<TestProcess> => {
    const child = new TestProcess(script, { args: argsOf(role, all.length, random), ...(env && { env }) });
    all.push(child);
    t.after(() => child.kill());
    await child.ready();
    return child;
  };
  const children = await Promise.all(roles.map(start));
  for (const child of children) child.send('go');

  const mortals = roles.flatMap((role, index) => (mortal.includes(role) ? [index] : []));
  const end = performance.now() + seconds * 1000;
  let kills = 0;
  let nextKill = performance.now() + 500;
  while (performance.now() < end) {
    await sleep(1 + random.below(3));
    // Stopped in the middle of something, it goes on when much has happened.
    const stopped = random.pick(children);
    stopped.signal('SIGSTOP');
    await sleep(1 + random.below(6));
    stopped.signal('SIGCONT');
    if (performance.now() < nextKill) continue;
    const victim = random.pick(mortals);
    await children[victim]?.kill();
    kills++;
    const successor = await start(roles[victim] ?? '');
    children[victim] = successor;
    successor.send('go');
    nextKill = performance.now() + 300 + random.below(900);
  }
  for (const child of children) child.send('stop');
  const reports = await Promise.all(children.map((child) => child.message('done')));
  await Promise.all(children.map((child) => child.ended()));
  return { kills, stderr: all.map(({ stderr }) => stderr).join(''), reports };
}
