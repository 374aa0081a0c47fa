/**
 * `npm run bench:recovery -- [MIB] [ROUNDS] [DIRECTORY]`: how fast Store.open recovers a store that nobody closed, beside
 * reading the same file from its begin to its end, 1 MiB at a time. Both begin with nothing of the file in memory and take
 * turns, each round with a fresh copy; that all of it came from the device is checked by what the kernel counts. First in
 * DIRECTORY, whatever device that is; then, where the tests' slow disk can be made, on a device of a known speed: that of a
 * SATA SSD, served by two processes on this machine, which take processor time away from the recovery. Needs Linux, dd and
 * a filesystem with a page cache that it can drop.
 */
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  fsyncSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Store } from 'faultless';
import { SlowDisk } from '../test/rig/slow-disk.js';

const MiB = 1024 * 1024;
const [mebibytes = '256', roundsText = '5', parent = tmpdir()] = process.argv.slice(2);
const storeBytes = Number(mebibytes) * MiB;
const rounds = Number(roundsText);
const directory = mkdtempSync(path.join(parent, 'faultless-bench-recovery-'));
const SATA_SSD = 500; // MiB/s

/** Writes back the file and drops its pages. */
function evict(file: string): void {
  const args = [`of=${file}`, 'oflag=nocache', 'conv=notrunc,nocreat,fdatasync', 'count=0', 'status=none'];
  const { status, stderr } = spawnSync('dd', args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`dd: ${stderr}`);
}

/** A store as its writer left it, with everything flushed and not closed: a copy of it must be recovered. */
async function prepare(file: string, valueBytes: number): Promise<number> {
  const source = path.join(directory, 'source');
  const store = await Store.open(source, { encoding: 'buffer' });
  const count = Math.floor(storeBytes / valueBytes);
  const value = Buffer.alloc(valueBytes);
  const some = 64;
  for (let i = 0; i < count; i += some) {
    const entries = Array.from({ length: Math.min(some, count - i) }, (_, j) => {
      value.writeUInt32LE(i + j, 0);
      return [`key-${i + j}`, Buffer.from(value)] as const;
    });
    await store.setMany(entries);
  }
  await store.flush();
  copyFileSync(source, file);
  await store.close();
  rmSync(source);
  return count;
}

/** Bytes that this process has had read from devices. */
function deviceBytes(): number {
  return Number(/^read_bytes: (\d+)$/m.exec(readFileSync('/proc/self/io', 'utf8'))?.[1]);
}

/** Fails where less than `bytes` came from the device: some of it was in memory. */
async function cold(what: string, bytes: number, measure: () => number | Promise<number>): Promise<number> {
  const before = deviceBytes();
  const ms = await measure();
  const read = deviceBytes() - before;
  if (!(read >= bytes)) throw new Error(`${what} was not cold: ${read} of ${bytes} bytes came from the device`);
  return ms;
}

function readMs(file: string): number {
  const buffer = Buffer.alloc(MiB);
  const fd = openSync(file, 'r');
  const start = performance.now();
  while (readSync(fd, buffer) > 0);
  const ms = performance.now() - start;
  closeSync(fd);
  return ms;
}

async function recoveryMs(file: string, keys: number): Promise<number> {
  let recovered = false;
  const onProgress = (): void => {
    recovered = true;
  };
  const start = performance.now();
  const store = await Store.open(file, { encoding: 'buffer', onProgress });
  const ms = performance.now() - start;
  if (!recovered || store.size !== keys) throw new Error(`recovered: ${recovered}, ${store.size} of ${keys} keys`);
  await store.close();
  return ms;
}

const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1] as number;
const rate = (bytes: number, ms: number): string => `${(bytes / MiB / (ms / 1000)).toFixed(0)} MiB/s`;

async function measure(where: string, device: string): Promise<void> {
  for (const valueBytes of [1000, MiB]) {
    const pristine = path.join(directory, 'pristine');
    const copy = path.join(where, 'copy');
    const keys = await prepare(pristine, valueBytes);
    const bytes = statSync(pristine).size;
    const reads: number[] = [];
    const recoveries: number[] = [];
    const ratios: number[] = [];
    for (let round = 0; round < rounds; round++) {
      copyFileSync(pristine, copy);
      const fd = openSync(copy, 'r+');
      fsyncSync(fd);
      closeSync(fd);
      evict(copy);
      const read = await cold('the read', keys * valueBytes, () => readMs(copy));
      evict(copy);
      const recovery = await cold('the recovery', keys * valueBytes, () => recoveryMs(copy, keys));
      reads.push(read);
      recoveries.push(recovery);
      ratios.push(read / recovery);
      rmSync(copy);
    }
    rmSync(pristine);
    console.log(
      `${device}, values of ${valueBytes} bytes, ${(bytes / MiB).toFixed(0)} MiB, ${rounds} rounds: ` +
        `sequential read ${rate(bytes, median(reads))}, recovery ${rate(bytes, median(recoveries))}, ` +
        `ratio ${median(ratios).toFixed(2)} (${ratios.map((ratio) => ratio.toFixed(2)).join(' ')}); goal 0.5`,
    );
  }
}

try {
  await measure(directory, parent);
  const reason = SlowDisk.unavailableReason();
  if (reason === undefined) {
    const options = { sizeMiB: Number(mebibytes) * 2 + 64, mebibytesPerSecond: SATA_SSD, readAheadKiB: 1024 };
    const disk = await SlowDisk.create(options);
    try {
      await measure(disk.directory, `a device of ${SATA_SSD} MiB/s`);
    } finally {
      await disk.destroy();
    }
  } else {
    console.log(`a device of ${SATA_SSD} MiB/s: not measured: ${reason}`);
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}
