/** What was seen on the slow disk, as tables. */
import { quantile } from '../report/latencies.js';
import { type Summary, summarize } from '../report/statistics.js';
import type { Performance } from './rounds.js';
import { subjects } from './subjects.js';

export type SubjectKey = keyof typeof subjects;

/** Of each subject that was measured: its rounds. */
export type Results = Partial<Record<SubjectKey, Performance[]>>;

export interface Verdict {
  what: string;
  beside: string;
  /** Median of the rounds; the ratio, or the two figures that are compared. */
  seen: string;
  goal: string;
  met: boolean;
}

const perSecond = ({ reads, seconds }: Performance): number => reads / seconds;
const medianStat = ({ stats }: { stats: number[] }): number => summarize(stats).median;
const medianOf = (rounds: Performance[], figure: (round: Performance) => number): number =>
  summarize(rounds.map(figure)).median;

export function formatResults(results: Results): string {
  const titles = ['', 'per second (range)', 'device reads', 'read ms p50', 'p99.9', 'loop ms p50', 'p99.9', 'max'];
  const idleTitles = ['idle p99.9', 'max', 'fs.stat ms', 'idle'];
  const rows = entriesOf(results).map(([key, rounds]) => {
    const rate = summarize(rounds.map(perSecond));
    const of = (figure: (round: Performance) => number, digits = 1): string => medianOf(rounds, figure).toFixed(digits);
    return [
      subjects[key].name,
      `${count(rate.median)} (${count(rate.min)}–${count(rate.max)})`,
      of((round) => round.deviceReads / round.reads, 2),
      of(({ latencies }) => quantile(latencies, 0.5)),
      of(({ latencies }) => quantile(latencies, 0.999)),
      ...[of(({ loop }) => loop.p50, 2), of(({ loop }) => loop.p999), of(({ loop }) => loop.max)],
      ...[of(({ idle }) => idle.p999), of(({ idle }) => idle.max)],
      ...[of(({ loop }) => medianStat(loop), 2), of(({ idle }) => medianStat(idle), 2)],
    ];
  });
  return align([[...titles, ...idleTitles], ...rows]);
}

export function judge(results: Results): Verdict[] {
  const { ours, lmdbAsync, level, device, mapped, handle } = results;
  const verdicts: Verdict[] = [];
  if (ours !== undefined) {
    if (lmdbAsync !== undefined) verdicts.push(rateVerdict('cold gets', ours, 'lmdb getAsync', lmdbAsync, 2.2));
    if (level !== undefined) verdicts.push(rateVerdict('cold gets', ours, 'classic-level get', level, 2.2));
    if (device !== undefined) {
      const share = summarize(ours.map((round, i) => round.deviceReads / round.seconds / at(device, i)));
      const beside = 'the device’s reads per second ÷ reads it made per get';
      verdicts.push({ what: 'cold gets', beside, seen: range(share), goal: '≥ 0.8', met: share.median >= 0.8 });
    }
    for (const [what, figure] of [
      ['event-loop delay, p99.9', 'p999'],
      ['event-loop delay, maximum', 'max'],
    ] as const) {
      const [own, quiet] = [medianOf(ours, ({ loop }) => loop[figure]), medianOf(ours, ({ idle }) => idle[figure])];
      const met = own <= 1.5 * quiet && own <= quiet + 3;
      const seen = `${own.toFixed(1)} ms beside ${quiet.toFixed(1)} ms`;
      verdicts.push({ what, beside: 'an idle process', seen, goal: '≤ × 1.5 and ≤ + 3 ms', met });
    }
    const stat = summarize(ours.map(({ loop, idle }) => medianStat(loop) / medianStat(idle)));
    const met = stat.median <= 2;
    verdicts.push({ what: 'fs.stat, median', beside: 'an idle process', seen: range(stat), goal: '≤ × 2', met });
  }
  if (mapped !== undefined && handle !== undefined)
    verdicts.push(rateVerdict('cold MappedFile.read', mapped, 'FileHandle.read', handle, 2.2));
  return verdicts;
}

export function formatVerdicts(verdicts: readonly Verdict[]): string {
  const rows = verdicts.map(({ what, beside, seen, goal, met }) => [what, beside, seen, goal, met ? 'yes' : 'NO']);
  return align([['', 'beside', 'seen, median (range)', 'goal', 'met'], ...rows]);
}

function rateVerdict(what: string, ours: Performance[], beside: string, theirs: Performance[], goal: number): Verdict {
  const ratio = summarize(ours.map((round, i) => perSecond(round) / at(theirs, i)));
  return { what, beside, seen: range(ratio), goal: `≥ × ${goal}`, met: ratio.median >= goal };
}

/** Reads per second of a round. */
function at(rounds: Performance[], i: number): number {
  return perSecond(rounds[i] as Performance);
}

function entriesOf(results: Results): [SubjectKey, Performance[]][] {
  return Object.entries(results) as [SubjectKey, Performance[]][];
}

function range({ median, min, max }: Summary): string {
  return `${median.toFixed(2)} (${min.toFixed(2)}–${max.toFixed(2)})`;
}

function count(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

/** The first column to the left, all others to the right. */
function align(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) =>
          column === 0 ? cell.padEnd(widths[column] as number) : cell.padStart(widths[column] as number),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
