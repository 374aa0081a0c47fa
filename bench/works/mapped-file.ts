/** Pages of a file that is in memory: MappedFile against a FileHandle. */
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { Random } from '../data.js';
import { checkPage, makePages, openPages, pageBytes } from '../pages.js';
import { inFlight, measure, operationsOf, warmUpOf } from './timing.js';
import type { Measurement, Round, Work } from './work.js';

const pages = 16_384;
const width = 256;

async function run(round: Round): Promise<Measurement> {
  const file = path.join(round.place.directory, `${round.place.name}.pages`);
  await makePages(file, pages);
  try {
    const reader = await openPages(round.system, file);
    const operations = operationsOf(60_000, round.scale);
    const picks = new Random(round.seed).list(operations + warmUpOf(operations), pages);
    const measured = await measure(operations, (from, to) =>
      inFlight(
        from,
        to,
        width,
        (i) => reader.read((picks[i] as number) * pageBytes),
        (i, bytes) => checkPage(picks[i] as number, bytes),
      ),
    );
    await reader.close();
    return measured;
  } finally {
    await rm(file, { force: true });
  }
}

export const mappedFileRead: Work = {
  name: 'mapped-file-read',
  title: 'MappedFile.read 4 KiB hot, 256 in flight (fs: FileHandle.read)',
  unit: 'ns',
  store: undefined,
  goals: { fs: 4 },
  run,
};
