// One directory per disk of the rig holds everything that belongs to it: sockets, logs, image, mount points. Its name
// says who made it, and whatever the kernel has to do with the disk (mounts, loop devices, servers) carries the
// directory's path. So everything can be found and removed by the path alone, at any moment, by anybody: there is no
// record that a SIGKILL could leave unwritten.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { holdsWithin, run } from './commands.js';
import { resumeServer } from './pause-control.js';
import {
  isRunning,
  loopDevicesWithin,
  mountsWithin,
  pidNamespace,
  processStat,
  serversWithin,
  usersOf,
} from './proc.js';

const PREFIX = 'faultless-rig';
const SERVERS = ['nbdkit', 'nbdfuse'];

/** Paths in a disk's directory. */
export const layout = {
  /** Where the filesystem is mounted. */
  filesystem: (directory: string): string => join(directory, 'fs'),
  /** Where nbdfuse is mounted, and the file that it shows there. */
  fuse: (directory: string): string => join(directory, 'nbd'),
  disk: (directory: string): string => join(directory, 'nbd', 'disk'),
  image: (directory: string): string => join(directory, 'image'),
  serverSocket: (directory: string): string => join(directory, 'nbd.sock'),
  pauseSocket: (directory: string): string => join(directory, 'pause.sock'),
  failReads: (directory: string): string => join(directory, 'fail-reads'),
  failWrites: (directory: string): string => join(directory, 'fail-writes'),
};

/** Directories of this process that are to be removed before it ends. */
const live = new Set<string>();
const signals: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/**
 * A directory of this process, on the list of what is removed when the process ends: by exit, by an uncaught error, by
 * SIGINT, SIGTERM or SIGHUP if its event loop turns. What a SIGKILL leaves is found by removeLeftovers().
 */
export function makeDiskDirectory(): string {
  const startTime = processStat(process.pid)?.startTime;
  const owner = `${PREFIX}-${pidNamespace()}-${process.pid}-${startTime}-`;
  const directory = mkdtempSync(join(realpathSync(tmpdir()), owner));
  if (live.size === 0) watchEnd(true);
  live.add(directory);
  mkdirSync(layout.filesystem(directory));
  mkdirSync(layout.fuse(directory));
  return directory;
}

function watchEnd(on: boolean): void {
  const change = on ? 'on' : 'off';
  process[change]('exit', removeLive);
  for (const signal of signals) process[change](signal, endBySignal);
}

/** In a process of its own: at exit no event loop turns here, and nothing may wait here for the disk. */
function removeLive(): void {
  const script = fileURLToPath(new URL('./remove-disks.js', import.meta.url));
  spawnSync(process.execPath, [script, ...live], { stdio: ['ignore', 'inherit', 'inherit'] });
}

function endBySignal(signal: NodeJS.Signals): void {
  removeLive();
  watchEnd(false);
  process.kill(process.pid, signal);
}

/** Whether the process that made the directory may still be using it. True where that cannot be told. */
function ownerLives(name: string): boolean {
  const [namespace, pid, startTime] = name.slice(PREFIX.length + 1).split('-');
  if (namespace !== pidNamespace()) return true;
  return processStat(Number(pid))?.startTime === startTime && isRunning(Number(pid));
}

/**
 * Removes what processes left behind that are gone. Safe beside other processes that do the same or use disks of their
 * own.
 */
export async function removeLeftovers(): Promise<void> {
  const parent = realpathSync(tmpdir());
  for (const name of readdirSync(parent)) {
    if (!name.startsWith(`${PREFIX}-`) || ownerLives(name)) continue;
    await removeDisk(join(parent, name));
  }
}

/**
 * Removes the disk, whatever state it is in: paused, failing, in use, half made. Waits for no device: first the disk is
 * resumed and unmounted in order; what is not unmounted then loses its server, which ends each pending request with an
 * error. Files that are still open on the disk keep only the (dead) filesystem itself in the kernel until they are
 * closed; who has them is said on the console. Rejects if something remains.
 */
export async function removeDisk(directory: string): Promise<void> {
  rmSync(layout.failReads(directory), { force: true });
  rmSync(layout.failWrites(directory), { force: true });
  await resumeServer(layout.pauseSocket(directory), 2_000).catch(() => {});
  await unmount(layout.filesystem(directory), 2_000);
  for (const device of loopDevicesWithin(directory)) await run('losetup', ['--detach', device], 5_000).catch(() => {});
  await holdsWithin(1_000, () => loopDevicesWithin(directory).length === 0);
  // A loop device that is still there will not let go of it soon.
  await unmount(layout.fuse(directory), loopDevicesWithin(directory).length === 0 ? 2_000 : 0);
  await endServers(directory);
  for (const mount of mountsWithin(directory)) await run('umount', ['--lazy', mount], 5_000).catch(() => {});
  await holdsWithin(2_000, () => remains(directory).length === 0);

  const rest = remains(directory);
  if (rest.length > 0) throw new Error(`the rig could not remove ${rest.join(', ')}`);
  rmSync(directory, { recursive: true, force: true });
  if (live.delete(directory) && live.size === 0) watchEnd(false);
}

/** What the kernel still has of the disk. */
export function remains(directory: string): string[] {
  const servers = serversWithin(directory, SERVERS).map((pid) => `process ${pid}`);
  return [...mountsWithin(directory), ...loopDevicesWithin(directory), ...servers];
}

/** What is in use for longer than `patienceMs` is only taken out of sight. */
async function unmount(mount: string, patienceMs: number): Promise<void> {
  const end = performance.now() + patienceMs;
  let used: string[] = [];
  while (mountsWithin(mount).length > 0) {
    try {
      await run('umount', [mount], 10_000);
    } catch {
      if (performance.now() < end) {
        // Killed processes let go of their files a little later.
        await holdsWithin(100, () => mountsWithin(mount).length === 0);
        continue;
      }
      used = usersOf(mount);
      await run('umount', ['--lazy', mount], 10_000).catch(() => {});
      break;
    }
  }
  if (used.length > 0) console.warn(`rig: ${mount} was still in use by:\n  ${used.join('\n  ')}`);
}

/** nbdfuse first: its end aborts the FUSE connection, and with it every request that waits there. */
async function endServers(directory: string): Promise<void> {
  for (const program of ['nbdfuse', 'nbdkit']) {
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      for (const pid of serversWithin(directory, [program])) {
        try {
          process.kill(pid, signal);
        } catch {
          // It has ended in the meantime.
        }
      }
      if (await holdsWithin(2_000, () => serversWithin(directory, [program]).length === 0)) break;
    }
  }
}
