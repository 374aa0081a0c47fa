/** What the figures say: ours beside each peer's, and whether that is what we are after. */
import type { Outcome, WorkResult } from '../runner.js';
import type { SystemName } from '../systems/system.js';
import type { Measurement } from '../works/work.js';
import { type Summary, summarize } from './statistics.js';

export interface SystemFigures {
  system: SystemName;
  /** Of all rounds: nanoseconds per operation, or bytes per entry. */
  value: Summary | undefined;
  /** Median processor time, nanoseconds per operation. */
  cpuNs: number | undefined;
  error: string | undefined;
  /** The machine does not allow what it takes. */
  refused: boolean;
  measurements: Measurement[];
  /**
   * How many times as fast ours was, round by round: rounds of both ran side by side, so what else the machine did is the same for both.
   */
  ratio: Summary | undefined;
  /** The ratio wanted, and whether the median of those seen reaches it. */
  goal: number | undefined;
  met: boolean | undefined;
}

export interface Comparison {
  work: string;
  title: string;
  unit: 'ns' | 'bytes';
  /** Ours first. */
  systems: SystemFigures[];
  /** The most that ours may be, and whether it is. */
  limit: number | undefined;
  limitMet: boolean | undefined;
  load: number;
}

export function compare({ work, outcomes, load }: WorkResult): Comparison {
  const ours = outcomes.find(({ system }) => system === 'faultless') as Outcome;
  const systems = outcomes.map((outcome) => figuresOf(outcome, ours, work.goals[outcome.system]));
  const own = systems[0]?.value;
  return {
    work: work.name,
    title: work.title,
    unit: work.unit,
    systems,
    limit: work.limit,
    limitMet: work.limit === undefined || own === undefined ? undefined : own.median <= work.limit,
    load,
  };
}

function figuresOf(outcome: Outcome, ours: Outcome, goal: number | undefined): SystemFigures {
  const { system, error, refused = false } = outcome;
  const measurements = error === undefined ? outcome.measurements : [];
  const cpu = measurements.flatMap(({ cpuNs }) => (cpuNs === undefined ? [] : [cpuNs]));
  const ratio = outcome === ours ? undefined : ratioOf(outcome, ours);
  return {
    system,
    value: measurements.length === 0 ? undefined : summarize(measurements.map(({ value }) => value)),
    cpuNs: cpu.length === 0 ? undefined : summarize(cpu).median,
    error,
    refused,
    measurements,
    ratio,
    goal,
    met: ratio === undefined || goal === undefined ? undefined : ratio.median >= goal,
  };
}

function ratioOf(peer: Outcome, ours: Outcome): Summary | undefined {
  if (peer.error !== undefined || ours.error !== undefined) return undefined;
  return summarize(peer.measurements.map(({ value }, i) => value / (ours.measurements[i] as Measurement).value));
}
