// node remove-disks.js [DIRECTORY…]: removes these disks of the rig; without any, all those whose owner is gone.
import { removeDisk, removeLeftovers } from './disk-directory.js';

const directories = process.argv.slice(2);
const removals = directories.length > 0 ? directories.map(removeDisk) : [removeLeftovers()];
for (const { reason } of (await Promise.allSettled(removals)).filter((result) => result.status === 'rejected')) {
  console.error(String(reason));
  process.exitCode = 1;
}
