import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The repository's top directory, seen from build/test/repository/. */
export const root: string = fileURLToPath(new URL('../../../', import.meta.url));

export interface SourceFile {
  /** From the directory that was searched, with forward slashes. */
  readonly path: string;
  readonly text: string;
}

/** The files below `directory` whose names match; none where there is no such directory. */
export function readSources(directory: string, name: RegExp): SourceFile[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((path) => name.test(path) && !path.split('/').includes('node_modules'))
    .sort()
    .map((path) => ({ path, text: readFileSync(join(directory, path), 'utf8') }));
}
