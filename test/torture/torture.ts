// The torture run: real processes write, read, open, verify and flush one store while any of them is killed, stopped for
// a moment or for long, at random moments, and now and then all are killed at once. See model.ts for what they may find.
import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Store } from 'faultless';
import { Board } from '../fixtures/board.js';
import { controlOffset } from '../fixtures/file-layout.js';
import { heldLocks } from '../fixtures/lock-words.js';
import { Random } from '../fixtures/random.js';
import { type Exit, TestProcess } from '../rig/process-tools.js';
import { type Counter, counters, Model, writers } from './model.js';

const roles = [
  ...Array.from({ length: writers }, () => 'writer'),
  'reader',
  'reader-without-permission',
  'opener',
  'verifier',
  'verifier-without-permission',
  'flusher',
] as const;
/** Slots of the board behind those of the roles. */
const auditorSlot = roles.length;

const stuckMs = 120_000;
const MiB = 2 ** 20;

export interface TortureOptions {
  readonly where: 'disk' | 'memory';
  readonly seed: number;
  readonly seconds: number;
  readonly log: (line: string) => void;
}

export interface Figures {
  counts: Record<Counter, number>;
  kills: number;
  killsOfAll: number;
  stops: number;
  longStops: number;
  /** Processes that ended by themselves without closing, or closed and were followed by others. */
  processes: number;
  slowestOpenMs: number;
  largestFileBytes: number;
}

const noFigures = (): Figures => ({
  counts: Object.fromEntries(counters.map((counter) => [counter, 0])) as Record<Counter, number>,
  kills: 0,
  killsOfAll: 0,
  stops: 0,
  longStops: 0,
  processes: 0,
  slowestOpenMs: 0,
  largestFileBytes: 0,
});

/** How often the store has been recovered: in the control header. */
function recoveries(file: string): number {
  const fd = openSync(file, 'r');
  const word = Buffer.alloc(8);
  readSync(fd, word, 0, 8, controlOffset + 56);
  closeSync(fd);
  return Number(word.readBigUInt64LE());
}

interface Actor {
  readonly role: string;
  readonly slot: number;
  readonly child: TestProcess;
  /** What its counters said when it began. */
  readonly sum: number;
  killed: boolean;
}

/** One store and all who use it, from its creation to its end. */
class Scene {
  readonly #options: TortureOptions;
  readonly #directory: string;
  readonly #location: string;
  readonly #file: string;
  readonly #boardFile: string;
  readonly #board: Board;
  readonly #model: Model;
  readonly #random: Random;
  readonly #maxBytes: number;
  readonly #figures: Figures;
  #actors: Actor[] = [];
  /** When each slot was last seen to get on, and what its counters said. */
  readonly #progress = new Map<number, { at: number; sum: number }>();
  readonly #due = new Map<string, number>();
  /** Stopped for long: the process, and when it goes on. */
  #frozen: { actor: Actor; until: number } | undefined;

  constructor(options: TortureOptions, seed: number, figures: Figures) {
    this.#options = options;
    this.#figures = figures;
    this.#random = new Random(seed);
    this.#directory = mkdtempSync(join(tmpdir(), 'faultless-torture-'));
    this.#boardFile = join(this.#directory, 'board');
    this.#board = new Board(this.#boardFile);
    this.#model = new Model(this.#board);
    const name = `torture.${process.pid}.${seed}`;
    const inMemory = options.where === 'memory';
    this.#location = inMemory ? `shm:${name}` : join(this.#directory, 'store');
    this.#file = inMemory ? `/dev/shm/faultless.${name}` : this.#location;
    // Some stores are full most of the time. (Writers have some 13 MB that live, and limbo on a disk.)
    const { bavail, bsize } = statfsSync(inMemory ? '/dev/shm' : this.#directory);
    const roomy = Math.min(256 * MiB, Math.floor((bavail * bsize) / 2 / MiB) * MiB);
    this.#maxBytes = this.#random.below(4) === 0 ? 12 * MiB : roomy;
  }

  get failureContext(): string {
    return `seed ${this.#options.seed}, store ${this.#file}, board ${this.#boardFile}`;
  }

  #start(role: string, slot: number): Actor {
    const seed = this.#random.below(2 ** 31);
    const args = [this.#location, this.#boardFile, role, slot, seed, this.#maxBytes].map(String);
    const child = new TestProcess(new URL('./actor.js', import.meta.url), { args });
    this.#figures.processes++;
    const sum = this.#sum(slot);
    this.#progress.set(slot, { at: performance.now(), sum });
    return { role, slot, child, sum, killed: false };
  }

  #sum(slot: number): number {
    return Object.values(this.#model.counts(slot)).reduce((sum, count) => sum + count, 0);
  }

  /** How a process ended that was not killed: well, and with nothing to complain about. */
  #judgeExit(actor: Actor, exit: Exit): void {
    if (actor.killed && exit.signal === 'SIGKILL') {
      assert.equal(exit.stderr, '', `${actor.role}, which was killed later`);
      return;
    }
    assert.deepEqual([exit.code, exit.signal, exit.stderr], [0, null, ''], actor.role);
  }

  /** Who has ended is followed by another one; who does not get on is an error. */
  #lookAtAll(): void {
    const now = performance.now();
    this.#actors = this.#actors.map((actor) => {
      const { exit } = actor.child;
      if (exit !== undefined) {
        this.#judgeExit(actor, exit);
        assert.ok(actor.killed || actor.role === 'opener', `${actor.role} has ended by itself`);
        return this.#start(actor.role, actor.slot);
      }
      const sum = this.#sum(actor.slot);
      const last = this.#progress.get(actor.slot);
      if (last === undefined || last.sum !== sum) this.#progress.set(actor.slot, { at: now, sum });
      else if (now - last.at > stuckMs) throw new Error(`${actor.role} has not got on for ${stuckMs} ms`);
      return actor;
    });
  }

  /** On a busy machine a process takes seconds to start; some are to be killed before that, most of them after it. */
  #hasGotOn(actor: Actor): boolean {
    return this.#random.below(8) === 0 || this.#sum(actor.slot) > actor.sum + 5;
  }

  #kill(actor: Actor): void {
    actor.killed = true;
    actor.child.killNow();
  }

  #thaw(): void {
    this.#frozen?.actor.child.signal('SIGCONT');
    this.#frozen = undefined;
  }

  /** Whether it is time for what happens every so often; `key` says of what. */
  #isDue(key: string, leastMs: number, mostMs: number): boolean {
    const now = performance.now();
    const at = this.#due.get(key);
    if (at !== undefined && now < at) return false;
    this.#due.set(key, now + leastMs + this.#random.below(mostMs - leastMs));
    return at !== undefined;
  }

  async #interfere(): Promise<void> {
    const random = this.#random;
    const actor = random.pick(this.#actors);
    if (this.#frozen !== undefined && performance.now() > this.#frozen.until) this.#thaw();
    const busy = this.#actors.filter((one) => this.#hasGotOn(one)).length;
    if (busy * 2 > roles.length && this.#isDue('kill of all', 4000, 16_000)) {
      await this.#killAll();
    } else if (this.#hasGotOn(actor) && this.#isDue('kill', 200, 1500)) {
      this.#kill(actor);
      this.#figures.kills++;
    } else if (this.#frozen === undefined && this.#isDue('long stop', 6000, 25_000)) {
      await this.#freeze();
    } else if (actor !== this.#frozen?.actor) {
      actor.child.signal('SIGSTOP');
      await sleep(random.below(8) ** 2);
      actor.child.signal('SIGCONT');
      this.#figures.stops++;
    }
  }

  /** Stops a writer for so long that who needs its locks is told so; if possible when it holds one. */
  async #freeze(): Promise<void> {
    const random = this.#random;
    const actor = this.#actors[random.below(writers)] as Actor;
    this.#model.noteLongStop();
    this.#figures.longStops++;
    for (let attempt = 0; attempt < 50; attempt++) {
      actor.child.signal('SIGSTOP');
      await sleep(5);
      // Nobody else holds one for so long, but for the dead.
      if (heldLocks(this.#file) > 0) break;
      actor.child.signal('SIGCONT');
      await sleep(random.below(10));
    }
    actor.child.signal('SIGSTOP');
    this.#frozen = { actor, until: performance.now() + 3000 + random.below(8000) };
  }

  async #killAll(): Promise<void> {
    this.#frozen = undefined;
    for (const actor of this.#actors) this.#kill(actor);
    this.#figures.kills += this.#actors.length;
    this.#figures.killsOfAll++;
    for (const actor of this.#actors) this.#judgeExit(actor, await actor.child.ended());
    await this.#audit();
    this.#startAll();
  }

  #startAll(): void {
    this.#actors = roles.map((role, slot) => this.#start(role, slot));
  }

  async #audit(): Promise<void> {
    const auditor = this.#start('auditor', auditorSlot);
    const audited = (await auditor.child.message('audited', stuckMs)) as {
      openedMs: number;
      fileBytes: number;
    };
    this.#judgeExit(auditor, await auditor.child.ended());
    const figures = this.#figures;
    figures.slowestOpenMs = Math.max(figures.slowestOpenMs, audited.openedMs);
    figures.largestFileBytes = Math.max(figures.largestFileBytes, audited.fileBytes);
    assert.equal(recoveries(this.#file), 0, 'recoveries');
    // What lives takes 13 MB and is written all the time: garbage, limbo and what dead openers left are bounded, too.
    assert.ok(audited.fileBytes <= 128 * MiB, `the file has ${audited.fileBytes} bytes`);
  }

  async play(seconds: number): Promise<void> {
    try {
      await (await Store.open(this.#location, { encoding: 'buffer', maxBytes: this.#maxBytes })).close();
      this.#startAll();
      const end = performance.now() + seconds * 1000;
      while (performance.now() < end) {
        await sleep(this.#random.below(40));
        await this.#interfere();
        this.#lookAtAll();
      }
      this.#thaw();
      for (const { child } of this.#actors) if (child.exit === undefined) child.send('stop');
      for (const actor of this.#actors) this.#judgeExit(actor, await actor.child.ended(stuckMs));
      await this.#audit();
      await this.#emptyStore();
    } catch (error) {
      // Everything stays where it is, to be looked at.
      throw new Error(`${(error as Error).message}\n${this.failureContext}`, { cause: error });
    } finally {
      for (const { child } of this.#actors) {
        if (child.exit === undefined) await child.kill();
      }
      for (let slot = 0; slot <= auditorSlot; slot++) {
        const counts = this.#model.counts(slot);
        for (const counter of counters) this.#figures.counts[counter] += counts[counter];
      }
    }
    this.#board[Symbol.dispose]();
    rmSync(this.#directory, { recursive: true });
    rmSync(this.#file, { force: true });
  }

  /** Nothing is lost for good: what an emptied store still uses is about what an empty one does. */
  async #emptyStore(): Promise<void> {
    const store = await Store.open(this.#location, { encoding: 'buffer', maxBytes: this.#maxBytes });
    await store.clear();
    // Cleaning is paid for by writes.
    for (let i = 0; i < 4000; i++) store.setSync(`last-${i % 256}`, 'x');
    await store.flush();
    const { fileBytes, freeBytes } = store.stats();
    const { damaged } = await store.verify();
    await store.close();
    assert.deepEqual(damaged, []);
    assert.ok(fileBytes - freeBytes < 8 * MiB, `${fileBytes - freeBytes} bytes are used, and nothing is there`);
  }
}

export function describeFigures(figures: Figures): string {
  const counts = Object.entries(figures.counts).map(([name, count]) => `${name} ${count}`);
  const { kills, killsOfAll, stops, longStops, processes } = figures;
  return [
    counts.join(', '),
    `processes ${processes}, kills ${kills} (all at once ${killsOfAll} times), stops ${stops}, for seconds ${longStops}`,
    `slowest open ${figures.slowestOpenMs.toFixed(0)} ms, largest file ${(figures.largestFileBytes / MiB).toFixed(1)} MiB`,
  ].join('\n');
}

/** Rejects with the first thing that went wrong; then the store and the board are left where they are. */
export async function torture(options: TortureOptions): Promise<Figures> {
  const { where, seed, seconds, log } = options;
  const figures = noFigures();
  const rounds = Math.max(1, Math.round(seconds / 60));
  for (let round = 0; round < rounds; round++) {
    await new Scene(options, (seed + round) % 2 ** 31, figures).play(seconds / rounds);
    const { kills, counts } = figures;
    log(`${where}, round ${round + 1} of ${rounds}: so far ${kills} kills, ${counts.verifications} verifications`);
  }
  return figures;
}
