/** The files with all figures of a run. */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Circumstances } from './circumstances.js';

/** What was measured: the first word of the file's name. */
export type Program = 'works' | 'disk' | 'scan' | 'growth' | 'compare';

/** Resolves with the file's path, relative to where we are. */
export async function writeResults(
  directory: string,
  program: Program,
  results: { circumstances: Circumstances } & Record<string, unknown>,
): Promise<string> {
  const date = results.circumstances.date.replace(/[:.]/g, '-');
  const file = path.join(directory, `${program}-${date}.json`);
  await mkdir(directory, { recursive: true });
  await writeFile(file, `${JSON.stringify({ program, ...results }, undefined, 2)}\n`);
  return path.relative(process.cwd(), file);
}
