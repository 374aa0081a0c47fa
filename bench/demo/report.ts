/** What the demo prints at its end. */
import type { RecordableHistogram } from 'node:perf_hooks';
import type { ServedMeaning } from './dictionary.js';
import type { EventLoopDelay } from './messages.js';

export interface Report {
  requests: number;
  /** In nanoseconds. */
  latencies: RecordableHistogram;
  readAll: { servers: number; entries: number; seconds: number };
  updates: number;
  delays: EventLoopDelay[];
  keys: number;
  fileBytes: number;
  word: string;
  meaning: ServedMeaning;
}

const labelWidth = 22;
const textWidth = 76;

export function formatReport(report: Report): string {
  const { latencies, readAll, meaning } = report;
  const readers = `${readAll.servers} servers at once, ${formatCount(readAll.entries)} entries each`;
  const rows: [label: string, text: string][] = [
    ['requests', `${formatCount(report.requests)}, every answer checked`],
    ['latency', `median ${nanoseconds(latencies.percentile(50))}, p99 ${nanoseconds(latencies.percentile(99))}`],
    ['whole store read', `by ${readers}, in ${readAll.seconds.toFixed(1)} s`],
    ['updates meanwhile', formatCount(report.updates)],
    ...report.delays.map(({ median, p99, max }, i): [string, string] => [
      `event loop, worker ${i + 1}`,
      `delayed by median ${milliseconds(median)}, p99 ${milliseconds(p99)}, at most ${milliseconds(max)}`,
    ]),
    ['keys', formatCount(report.keys)],
    ['file size', `${(report.fileBytes / 2 ** 20).toFixed(1)} MiB`],
    [report.word, `(${meaning.partOfSpeech}) ${meaning.definition}`],
  ];
  const rule = '─'.repeat(labelWidth + textWidth);
  return [rule, ...rows.map(([label, text]) => `${label.padEnd(labelWidth)}${wrap(text)}`), rule].join('\n');
}

export function formatCount(count: number): string {
  return count.toLocaleString('en-US');
}

function nanoseconds(value: number): string {
  return milliseconds(value / 1e6);
}

function milliseconds(value: number): string {
  return `${value.toFixed(2)} ms`;
}

/** Breaks between words; what follows the first line is set under it. */
function wrap(text: string): string {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const line = lines.at(-1);
    if (line !== undefined && line.length + 1 + word.length <= textWidth) lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(word);
  }
  return lines.join(`\n${' '.repeat(labelWidth)}`);
}
