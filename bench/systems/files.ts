import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import type { Place } from './system.js';

export const ramDirectory = '/dev/shm';

/** The directory of a system that knows nothing but directories. */
export function directoryOf({ medium, directory, name }: Place): string {
  return path.join(medium === 'ram' ? ramDirectory : directory, name);
}

/** Bytes that a file, or all files of a directory, take of their device: holes do not count. */
export async function allocatedBytes(where: string): Promise<number> {
  const status = await stat(where);
  if (!status.isDirectory()) return 512 * status.blocks;
  const names = await readdir(where);
  const sizes = await Promise.all(names.map((name) => allocatedBytes(path.join(where, name))));
  return sizes.reduce((sum, size) => sum + size, 0);
}
