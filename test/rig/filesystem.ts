// An ext4 filesystem on a loop device over a file.
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { run } from './commands.js';

export interface FilesystemOptions {
  /** Whether the loop device goes past the page cache of the filesystem below it. */
  directIo: boolean;
  readAheadKiB: number;
  journal: boolean;
}

/** Resolves with the loop device (/dev/loopN) on which the new filesystem was made and mounted at `mountPoint`. */
export async function mountNewFilesystem(
  file: string,
  mountPoint: string,
  options: FilesystemOptions,
): Promise<string> {
  const { directIo, readAheadKiB, journal } = options;
  // --find looks for a free device and takes it in two steps: another process may have been faster.
  let device = '';
  for (let attempt = 1; device === ''; attempt++) {
    try {
      device = (await run('losetup', ['--find', '--show', `--direct-io=${directIo ? 'on' : 'off'}`, file])).trim();
    } catch (error) {
      if (attempt === 5) throw error;
    }
  }
  if (directIo && readFileSync(`/sys/block/${basename(device)}/loop/dio`, 'utf8').trim() !== '1') {
    throw new Error(`${device} has no direct I/O on ${file}: pages would be cached twice`);
  }
  // In sectors of 512 bytes.
  await run('blockdev', ['--setra', String(readAheadKiB * 2), device]);
  // Everything written now: nothing that the filesystem would do later, in the background, disturbs a test.
  const extended = 'lazy_itable_init=0,lazy_journal_init=0,nodiscard';
  const journalOptions = journal ? ['-J', 'size=4'] : ['-O', '^has_journal'];
  await run('mkfs.ext4', ['-q', '-b', '4096', '-m', '0', '-N', '1024', ...journalOptions, '-E', extended, device]);
  // A read error of metadata shall not turn the whole filesystem read-only.
  await run('mount', ['-t', 'ext4', '-o', 'noatime,errors=continue', device, mountPoint]);
  return device;
}
