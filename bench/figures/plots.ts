/** The figures, each from the JSON of a run. */
import type { Results, SubjectKey } from '../disk/report.js';
import type { Performance } from '../disk/rounds.js';
import type { Circumstances } from '../report/circumstances.js';
import type { Comparison } from '../report/comparison.js';
import type { Distribution } from '../report/latencies.js';
import { summarize } from '../report/statistics.js';
import { colorsOf, common, type Plot } from './vega.js';

export interface WorksRun {
  circumstances: Circumstances;
  rounds: number;
  comparisons: Comparison[];
}

export interface DiskRun {
  circumstances: Circumstances;
  options: { rounds: number; keys: number; delayMs: number };
  results: Results;
}

function describe(
  { circumstances, rounds }: { circumstances: Circumstances; rounds: number },
  loads: number[],
): string {
  const { machine, versions, commit, modified, date } = circumstances;
  const [least, most] = [Math.min(...loads), Math.max(...loads)].map((load) => load.toFixed(0));
  return `${machine.processors} × ${machine.processor}, Node.js ${versions.node}, ${date.slice(0, 10)}, commit ${commit?.slice(0, 9)}${modified ? ' and changes' : ''}, ${rounds} rounds, load average ${least} to ${most}`;
}

/** Bars: operations per second, ours beside each peer's, of every work whose figure is time and that did not fail with ours. */
export function throughput(run: WorksRun): Plot {
  const comparisons = run.comparisons.filter(
    ({ unit, work, systems }) => unit === 'ns' && work !== 'set-write-back' && systems[0]?.value !== undefined,
  );
  const names = ['faultless', 'lmdb', 'classic-level', 'fs'];
  const values = comparisons.flatMap(({ title, systems }) =>
    systems.flatMap(({ system, value }) =>
      value === undefined ? [] : [{ title, system, perSecond: 1e9 / value.median }],
    ),
  );
  return {
    ...common,
    title: {
      text: 'Operations per second, medians',
      subtitle: describe(
        run,
        comparisons.map(({ load }) => load),
      ),
    },
    data: { values },
    facet: { field: 'title', type: 'nominal', title: null, sort: comparisons.map(({ title }) => title) },
    columns: 2,
    spec: {
      width: 330,
      height: { step: 17 },
      mark: { type: 'bar' },
      encoding: {
        x: { field: 'perSecond', type: 'quantitative', title: null, axis: { format: '~s', tickCount: 5 } },
        y: { field: 'system', type: 'nominal', title: null, sort: names },
        color: { field: 'system', type: 'nominal', legend: null, scale: colorsOf(names) },
      },
    },
    resolve: { scale: { x: 'independent', y: 'independent' }, axis: { x: 'independent' } },
  };
}

const shown: Partial<Record<SubjectKey, string>> = {
  ours: 'faultless',
  lmdbSync: 'lmdb get',
  lmdbAsync: 'lmdb getAsync',
};
/** Zero has no place on a logarithmic axis. */
const least = 0.05;

/** What is known of every stretch of time, by the last round. */
export function eventLoopDelay(run: DiskRun): Plot {
  const all = Object.values(run.results).flat();
  const delays: { at: number; ms: number; name: string }[] = [];
  const stats: typeof delays = [];
  for (const [key, name] of Object.entries(shown)) {
    const performance = run.results[key as SubjectKey]?.at(-1);
    if (performance === undefined) continue;
    addTo(delays, stats, name, performance.loop);
    if (key === 'ours') addTo(delays, stats, 'an idle process', performance.idle);
  }
  const { keys, delayMs, rounds } = run.options;
  const names = ['faultless', 'an idle process', 'lmdb getAsync', 'lmdb get'];
  const panel = (values: object[], title: string): Plot => ({
    title: { text: title, fontSize: 12, fontWeight: 'normal' },
    width: 680,
    height: 190,
    data: { values },
    mark: { type: 'line', interpolate: 'step-after', strokeWidth: 1.4 },
    encoding: {
      x: { field: 'at', type: 'quantitative', title: 'seconds', axis: { tickCount: 12 } },
      y: {
        field: 'ms',
        type: 'quantitative',
        title: 'milliseconds',
        scale: { type: 'log', domain: [least, 1_000], clamp: true },
        axis: { values: [0.1, 1, 10, 100, 1_000] },
      },
      color: { field: 'name', type: 'nominal', title: null, scale: colorsOf(names), legend: { orient: 'top' } },
    },
  });
  return {
    ...common,
    title: {
      text: `While keys are read that are not in memory: ${keys.toLocaleString('en-US')} keys, a disk whose reads take ${delayMs} ms`,
      subtitle: [
        'faultless get and lmdb getAsync: 64 in flight; lmdb get: one per turn of the event loop',
        describe(
          { ...run, rounds },
          all.map(({ load }) => load),
        ),
      ],
    },
    vconcat: [
      panel(delays, 'Delay of the event loop: the greatest of each 50 ms'),
      panel(stats, 'fs.stat of a file on another disk, one after another'),
    ],
  };
}

function addTo(delays: object[], stats: object[], name: string, loop: Performance['loop']): void {
  const { series, stretchMs, stats: ms, statsAtMs } = loop;
  series.forEach((delay, i) => {
    delays.push({ at: (i * stretchMs) / 1_000, ms: Math.max(least, delay), name });
  });
  ms.forEach((took, i) => {
    stats.push({ at: (statsAtMs[i] as number) / 1_000, ms: Math.max(least, took), name });
  });
}

/** How long single operations took: which share of them, how long at most. */
export function latencies(disk: DiskRun, works: WorksRun | undefined): Plot {
  const all = Object.values(disk.results).flat();
  const { ours = [], lmdbAsync = [], level = [] } = disk.results;
  const cold = [
    ...curve('faultless', distributions(ours)),
    ...curve('lmdb', distributions(lmdbAsync)),
    ...curve('classic-level', distributions(level)),
  ];
  const writing = works?.comparisons.find(({ work }) => work === 'set-write-back');
  const sets = (writing?.systems ?? []).flatMap(({ system, measurements }) =>
    curve(system, distributions(measurements)),
  );
  const names = ['faultless', 'lmdb', 'classic-level'];
  const panel = (values: object[], title: string): Plot => ({
    title: { text: title, fontSize: 12, fontWeight: 'normal' },
    width: 330,
    height: 260,
    data: { values },
    mark: { type: 'line', point: true },
    encoding: {
      x: { field: 'share', type: 'ordinal', sort: null, title: 'share of the operations', axis: { labelAngle: 0 } },
      y: { field: 'ms', type: 'quantitative', title: 'milliseconds at most', scale: { type: 'log' } },
      color: { field: 'name', type: 'nominal', title: null, scale: colorsOf(names), legend: { orient: 'top' } },
    },
  });
  const loads = [...all.map(({ load }) => load), ...(writing === undefined ? [] : [writing.load])];
  return {
    ...common,
    title: {
      text: 'How long single operations take, 64 in flight, medians of the rounds',
      subtitle: describe({ circumstances: disk.circumstances, rounds: disk.options.rounds }, loads),
    },
    hconcat: [
      panel(cold, `get, cold, disk whose reads take ${disk.options.delayMs} ms (lmdb: getAsync)`),
      ...(sets.length === 0 ? [] : [panel(sets, 'set, while the kernel writes back (lmdb: put, noSync)')]),
    ],
    resolve: { scale: { y: 'independent' } },
  };
}

const distributions = (rounds: { latencies?: Distribution }[]): Distribution[] =>
  rounds.flatMap(({ latencies: one }) => (one === undefined ? [] : [one]));

function curve(name: string, rounds: Distribution[]): { name: string; share: string; ms: number }[] {
  const kept = [0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1];
  return kept.flatMap((share) => {
    const ms = rounds.flatMap(({ quantiles }) => quantiles.filter(([of]) => of === share).map(([, at]) => at));
    return ms.length === 0 ? [] : [{ name, share: `${share * 100} %`, ms: summarize(ms).median }];
  });
}
