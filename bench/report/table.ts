/** The comparison as text for a terminal. */
import type { Comparison, SystemFigures } from './comparison.js';
import type { Summary } from './statistics.js';

/** Widths; negative: set to the left. */
const columns = [-66, 10, 10, -15, 10, 10, 16, 7, -5] as const;
const titles = ['work', 'ours', 'CPU', ' beside', 'theirs', 'CPU', 'ratio (range)', 'goal', ' met'];

export const heading = `ns per operation, median of the rounds; CPU: of all threads. Ratio: theirs ÷ ours, median of the rounds (least–most).\n\n${row(titles)}\n${row(columns.map((width) => '─'.repeat(Math.abs(width))))}`;

/** One line for each peer. */
export function formatComparison(comparison: Comparison): string {
  const { title, systems, limit, limitMet } = comparison;
  const [ours, ...peers] = systems as [SystemFigures, ...SystemFigures[]];
  const own = [title, median(ours.value), cpu(ours)];
  const lines = peers.map((peer, i) => {
    const { system, value, ratio, goal, met } = peer;
    const left = i === 0 ? own : ['', '', ''];
    return row([
      ...left,
      ` ${system}`,
      median(value),
      cpu(peer),
      range(ratio),
      goal === undefined ? '' : `× ${goal}`,
      verdict(met),
    ]);
  });
  if (limit !== undefined) {
    const left = peers.length === 0 ? own : ['', '', ''];
    lines.push(row([...left, ' limit', '', '', '', `≤ ${limit}`, verdict(limitMet)]));
  }
  if (lines.length === 0) lines.push(row(own));
  const errors = systems.flatMap(({ system, error, refused }) =>
    error === undefined ? [] : [`  ${system} ${refused ? 'could not run here' : 'FAILED'}: ${error}`],
  );
  return [...lines, ...errors].join('\n');
}

export function formatSummary(comparisons: readonly Comparison[]): string {
  const verdicts = comparisons.flatMap(({ systems, limitMet }) => [...systems.map(({ met }) => met), limitMet]);
  const met = verdicts.filter((verdict) => verdict === true).length;
  const missed = verdicts.filter((verdict) => verdict === false).length;
  return `${met} goals met, ${missed} not met`;
}

function row(cells: readonly string[]): string {
  return cells
    .map((cell, i) => {
      const width = columns[i] as number;
      return width < 0 ? cell.padEnd(-width) : cell.padStart(width);
    })
    .join(' ')
    .trimEnd();
}

function median(summary: Summary | undefined): string {
  return summary === undefined ? '–' : count(summary.median);
}

function cpu({ cpuNs }: SystemFigures): string {
  return cpuNs === undefined ? '' : count(cpuNs);
}

function count(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

function range(ratio: Summary | undefined): string {
  if (ratio === undefined) return '';
  return `${decimal(ratio.median)} (${decimal(ratio.min)}–${decimal(ratio.max)})`;
}

function decimal(value: number): string {
  return value.toFixed(value < 9.95 ? 1 : 0);
}

function verdict(met: boolean | undefined): string {
  return met === undefined ? '' : met ? ' yes' : ' NO';
}
