/** The command line of `npm run bench:disk`. */
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { toNumber } from '../command-line.js';
import { root } from '../root.js';

export interface DiskOptions {
  rounds: number;
  keys: number;
  pages: number;
  reads: number;
  seconds: number;
  delayMs: number;
  peers: boolean;
  directory: string;
  results: string;
  help: boolean;
}

export const help = `usage: npm run bench:disk -- [options]

Reads that are not in memory, on a disk whose reads take 5 ms, without the kernel's readahead: faultless beside lmdb,
classic-level, Node's fs and what the disk itself does; and what happens to the event loop and to fs.stat meanwhile, beside
an idle process at the same time. Each round in processes of its own, after all caches of the machine were dropped. Needs
Linux, root, nbdkit, nbdfuse, e2fsprogs and mount. Every answer is checked.
Exit code 0: measured, whether goals are met or not; 1: something failed; 2: wrong arguments, or it cannot run here.

  --rounds N         rounds (default: 5)
  --keys N           keys in the store, with values of 1,500 bytes (default: 250,000)
  --pages N          pages of 4 KiB in the file for MappedFile and fs (default: 65,536)
  --reads N          reads of each system and round (default: 4,000)
  --seconds N        what a system may take for them; what it did until then counts (default: 15)
  --delay-ms N       what each read of the disk takes (default: 5)
  --without-peers    neither lmdb nor classic-level
  --directory DIR    where the stores are made and copied from: another disk (default: ${tmpdir()})
  --results DIR      where the JSON file goes (default: build/bench/results)
  --help             print this
`;

/** Throws an Error that says what is wrong with the arguments. */
export function parseOptions(args: string[]): DiskOptions {
  const { values } = parseArgs({
    args,
    options: {
      rounds: { type: 'string', default: '5' },
      keys: { type: 'string', default: '250000' },
      pages: { type: 'string', default: '65536' },
      reads: { type: 'string', default: '4000' },
      seconds: { type: 'string', default: '15' },
      'delay-ms': { type: 'string', default: '5' },
      'without-peers': { type: 'boolean', default: false },
      directory: { type: 'string', default: tmpdir() },
      results: { type: 'string', default: path.join(root, 'build/bench/results') },
      help: { type: 'boolean', default: false },
    },
  });
  return {
    rounds: toNumber('--rounds', values.rounds, 1, 1_000, true),
    keys: toNumber('--keys', values.keys, 100, 1_000_000, true),
    pages: toNumber('--pages', values.pages, 100, 1_000_000, true),
    reads: toNumber('--reads', values.reads, 10, 1_000_000, true),
    seconds: toNumber('--seconds', values.seconds, 0.1, 3_600, false),
    delayMs: toNumber('--delay-ms', values['delay-ms'], 0, 1_000, false),
    peers: !values['without-peers'],
    directory: path.resolve(values.directory),
    results: path.resolve(values.results),
    help: values.help,
  };
}
