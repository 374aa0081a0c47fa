/** Files of pages that tell where they belong: for MappedFile and what it is compared with. */
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdir, open } from 'node:fs/promises';
import path from 'node:path';
import { MappedFile } from 'faultless';
import type { SystemName } from './systems/system.js';

export const pageBytes = 4_096;

/** Number of the page at its start and at its end. */
export async function makePages(file: string, pages: number): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  const stream = createWriteStream(file);
  const some = 4_096;
  for (let from = 0; from < pages; from += some) {
    const count = Math.min(some, pages - from);
    const bytes = Buffer.alloc(count * pageBytes, 'page');
    for (let i = 0; i < count; i++) {
      bytes.writeUInt32LE(from + i, i * pageBytes);
      bytes.writeUInt32LE(from + i, (i + 1) * pageBytes - 4);
    }
    if (!stream.write(bytes)) await once(stream, 'drain');
  }
  stream.end();
  await once(stream, 'close');
}

export function checkPage(page: number, bytes: Buffer): void {
  if (bytes.length === pageBytes && bytes.readUInt32LE(0) === page && bytes.readUInt32LE(pageBytes - 4) === page)
    return;
  throw new Error(`wrong bytes in page ${page}`);
}

export interface PageReader {
  read(position: number): Promise<Buffer>;
  close(): Promise<void>;
}

/** By MappedFile, or by a FileHandle. */
export async function openPages(system: SystemName, file: string): Promise<PageReader> {
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
