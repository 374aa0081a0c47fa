/** What the process of a round is told. */
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
