// Whether a part of the rig can run here, and what a test does where it cannot.
import { accessSync, closeSync, constants, openSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { toolPath } from './commands.js';
import { hasCapability } from './proc.js';

const SYS_ADMIN = 21;

function hasTool(name: string): boolean {
  return toolPath.split(':').some((directory) => {
    try {
      accessSync(join(directory, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** A device node may be there and forbidden all the same, as in most containers. */
function opens(device: string): boolean {
  try {
    closeSync(openSync(device, 'r+'));
    return true;
  } catch {
    return false;
  }
}

function reasonAgainst(tools: Record<string, string>, devices: readonly string[]): string | undefined {
  if (process.platform !== 'linux') return `needs Linux, this is ${process.platform}`;
  if (process.getuid?.() !== 0 || !hasCapability(SYS_ADMIN)) return 'needs root with CAP_SYS_ADMIN';
  for (const device of devices) {
    if (!opens(device)) return `cannot open ${device}`;
  }
  const missing = Object.keys(tools).filter((tool) => !hasTool(tool));
  if (missing.length === 0) return undefined;
  const packages = new Set(missing.map((tool) => tools[tool]));
  return `missing tools: ${missing.join(', ')} (Debian: apt-get install ${[...packages].join(' ')})`;
}

// Tool → Debian package.
const filesystemTools = {
  'mkfs.ext4': 'e2fsprogs',
  losetup: 'mount',
  mount: 'mount',
  umount: 'mount',
  blockdev: 'util-linux',
};
const networkDiskTools = { nbdkit: 'nbdkit', nbdfuse: 'libnbd-bin', fusermount3: 'fuse3' };

/** Why a SlowDisk cannot be made here; undefined if it can. */
export function slowDiskUnavailableReason(): string | undefined {
  return reasonAgainst({ ...filesystemTools, ...networkDiskTools }, ['/dev/fuse', '/dev/loop-control']);
}

/** Why a SmallDisk cannot be made here; undefined if it can. */
export function smallDiskUnavailableReason(): string | undefined {
  return reasonAgainst(filesystemTools, ['/dev/loop-control']);
}

/** Why a child cannot be started in a PID namespace of its own here; undefined if it can. */
export function pidNamespaceUnavailableReason(): string | undefined {
  return reasonAgainst({ unshare: 'util-linux' }, []);
}

/**
 * True if there is no reason against running the test. Otherwise says so on the console, skips the test and returns
 * false; under CI=true it throws: there a test that could not run is a test that failed.
 */
export function runsHere(t: TestContext, what: string, reason: string | undefined): boolean {
  if (reason === undefined) return true;
  const message = `${what} is not available: ${reason}`;
  if (process.env.CI === 'true') throw new Error(message);
  console.warn(`NOT TESTED: ${t.name}: ${message}`);
  t.skip(message);
  return false;
}
