/** Pages of a file that is in memory: MappedFile against a FileHandle. */
import { mkdir, open, rm } from 'node:fs/promises';
import path from 'node:path';
import { MappedFile } from 'faultless';
import { Random } from '../data.js';
import { inFlight, measure, warmUpOf } from './timing.js';
import type { Measurement, Round, Work } from './work.js';

const pageBytes = 4_096;
const pages = 16_384;
const width = 256;

/** Number of the page at its start and at its end. */
async function makeFile(file: string): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  const bytes = Buffer.alloc(pages * pageBytes, 'page');
  for (let page = 0; page < pages; page++) {
    bytes.writeUInt32LE(page, page * pageBytes);
    bytes.writeUInt32LE(page, (page + 1) * pageBytes - 4);
  }
  const handle = await open(file, 'w');
  await handle.writeFile(bytes);
  await handle.close();
}

function check(page: number, bytes: Buffer): void {
  if (bytes.length === pageBytes && bytes.readUInt32LE(0) === page && bytes.readUInt32LE(pageBytes - 4) === page)
    return;
  throw new Error(`wrong bytes in page ${page}`);
}

interface Reader {
  read(position: number): Promise<Buffer>;
  close(): Promise<void>;
}

async function openReader({ system }: Round, file: string): Promise<Reader> {
  if (system === 'faultless') {
    const map = await MappedFile.open(file);
    return { read: (position) => map.read(position, pageBytes), close: () => map.close() };
  }
  const handle = await open(file);
  return {
    read: async (position) => {
      const { buffer, bytesRead } = await handle.read(Buffer.allocUnsafe(pageBytes), 0, pageBytes, position);
      return bytesRead === pageBytes ? buffer : buffer.subarray(0, bytesRead);
    },
    close: () => handle.close(),
  };
}

async function run(round: Round): Promise<Measurement> {
  const file = path.join(round.place.directory, `${round.place.name}.pages`);
  await makeFile(file);
  try {
    const reader = await openReader(round, file);
    const operations = Math.max(1_000, Math.round(60_000 * round.scale.effort));
    const picks = new Random(round.seed).list(operations + warmUpOf(operations), pages);
    const measured = await measure(operations, (from, to) =>
      inFlight(
        from,
        to,
        width,
        (i) => reader.read((picks[i] as number) * pageBytes),
        (i, bytes) => check(picks[i] as number, bytes),
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
