/** Runs works: the rounds of one work after another, in each round one system after another. */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { loadavg } from 'node:os';
import path from 'node:path';
import type { Task } from './messages.js';
import { type RunningChild, startChild, TaskError } from './processes.js';
import { storeOf } from './systems/index.js';
import type { Place, SystemName } from './systems/system.js';
import type { Measurement, Scale, StoreNeeds, Work } from './works/work.js';

/** What came of a work with one system. */
export interface Outcome {
  system: SystemName;
  /** One for each round, in their order. */
  measurements: Measurement[];
  /** Why it was given up: then no figure of it counts. */
  error?: string;
  /** It was given up because the machine does not allow it. */
  refused?: boolean;
}

export interface WorkResult {
  work: Work;
  outcomes: Outcome[];
  /** Load average of the machine when it ended: what else ran there shows in it. */
  load: number;
}

export class Runner {
  readonly #systems: readonly SystemName[];
  readonly #rounds: number;
  readonly #scale: Scale;
  readonly #directory: string;
  readonly #program: URL;
  readonly #run = randomBytes(4).toString('hex');
  /** Stores that were filled for all rounds. */
  readonly #filled = new Map<string, { system: SystemName; place: Place }>();
  #places = 0;
  #child: RunningChild | undefined;
  #stopped = false;

  private constructor(systems: readonly SystemName[], rounds: number, scale: Scale, directory: string, program: URL) {
    this.#systems = systems;
    this.#rounds = rounds;
    this.#scale = scale;
    this.#directory = directory;
    this.#program = program;
  }

  /**
   * With a directory of its own below `directory`; close() removes it. `program`: child.ts of this build, or of another
   * one, whose package is the one that is measured then.
   */
  static async create(
    systems: readonly SystemName[],
    rounds: number,
    scale: Scale,
    directory: string,
    program: URL = new URL('./child.js', import.meta.url),
  ): Promise<Runner> {
    return new Runner(systems, rounds, scale, await mkdtemp(path.join(directory, 'faultless-bench-')), program);
  }

  /** Never rejects for what a system did: that is in the outcome. Rejects after stop(). */
  async run(work: Work): Promise<WorkResult> {
    const systems = this.#systems.filter((system) => system === 'faultless' || system in work.goals);
    const outcomes: Outcome[] = systems.map((system) => ({ system, measurements: [] }));
    const rounds = Math.min(this.#rounds, work.maxRounds ?? this.#rounds);
    for (let round = 0; round < rounds; round++) {
      // Who comes first changes from round to round.
      for (let i = 0; i < outcomes.length; i++) {
        const outcome = outcomes[(i + round) % outcomes.length] as Outcome;
        if (outcome.error !== undefined) continue;
        try {
          outcome.measurements.push(await this.round(work, outcome.system, round));
        } catch (error) {
          if (this.#stopped) throw new Error('stopped', { cause: error });
          outcome.error = (error as Error).message;
          outcome.refused = error instanceof TaskError && error.refused;
        }
      }
    }
    return { work, outcomes, load: loadavg()[0] as number };
  }

  /** Ends what is under way. */
  stop(): void {
    this.#stopped = true;
    this.#child?.kill();
  }

  async close(): Promise<void> {
    // Stores in RAM lie elsewhere.
    for (const { system, place } of this.#filled.values()) await destroy(system, place);
    await rm(this.#directory, { recursive: true, force: true });
  }

  /** One round of one system. Rejects where it fails. */
  async round(work: Work, system: SystemName, round: number): Promise<Measurement> {
    const { store } = work;
    if (store?.filled === 'once') {
      const place = await this.#fill(work, system, store);
      return (await this.#perform('run', work, system, place, 1 + round)) as Measurement;
    }
    const place = this.#newPlace(system, store?.medium ?? 'disk');
    try {
      return (await this.#perform('run', work, system, place, 1 + round)) as Measurement;
    } finally {
      if (store !== undefined) await destroy(system, place);
    }
  }

  async #fill(work: Work, system: SystemName, { medium, values }: StoreNeeds): Promise<Place> {
    const name = `${system} ${medium} ${values}`;
    const found = this.#filled.get(name);
    if (found !== undefined) return found.place;
    const place = this.#newPlace(system, medium);
    try {
      await this.#perform('fill', work, system, place, 0);
    } catch (error) {
      await destroy(system, place);
      throw error;
    }
    this.#filled.set(name, { system, place });
    return place;
  }

  async #perform(what: Task['what'], work: Work, system: SystemName, place: Place, seed: number): Promise<unknown> {
    if (this.#stopped) throw new Error('stopped');
    const task: Task = { what, work: work.name, system, scale: this.#scale, seed, place };
    this.#child = startChild(this.#program, task, { name: `${work.name} with ${system}` });
    try {
      return await this.#child.answer;
    } finally {
      this.#child = undefined;
    }
  }

  #newPlace(system: SystemName, medium: Place['medium']): Place {
    const name = `faultless-bench-${this.#run}-${this.#places++}-${system}`;
    return { medium, directory: this.#directory, name };
  }
}

/** Whatever is left of a store: after a failure that may be nothing. */
async function destroy(system: SystemName, place: Place): Promise<void> {
  await storeOf(system)
    .destroy(place)
    .catch(() => {});
}
