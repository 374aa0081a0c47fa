/** What the process that measures is told, and what it tells. */
import type { Place, SystemName } from './systems/system.js';
import type { Scale } from './works/work.js';

export interface Task {
  /** 'fill': version 0 of all keys, for all rounds of a work; 'run': a round; 'help': a share of one. */
  what: 'fill' | 'run' | 'help';
  work: string;
  system: SystemName;
  scale: Scale;
  seed: number;
  place: Place;
}

/**
 * A helper is ready and waits for 'go'; every process ends with an answer of its task, or with an error. `refused`: the machine does
 * not allow what the work needs.
 */
export type FromChild = { ready: true } | { answer: unknown } | { error: string; refused: boolean };
