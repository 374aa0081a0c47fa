import { execFileSync } from 'node:child_process';
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

/** The files that git tracks or would track, from `root`: nothing that was built. */
export function listFiles(): string[] {
  // A checkout may belong to another user, as it does in containers.
  const options = ['-c', 'safe.directory=*', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'];
  const paths = new Set(execFileSync('git', options, { cwd: root, encoding: 'utf8' }).split('\0'));
  // What was deleted in the work tree may be in the index still.
  return [...paths].filter((path) => path !== '' && existsSync(join(root, path)));
}
