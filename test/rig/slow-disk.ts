import { spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { holdsWithin, run, toolPath } from './commands.js';
import { layout, makeDiskDirectory, removeDisk, removeLeftovers } from './disk-directory.js';
import { runsHere, slowDiskUnavailableReason } from './environment.js';
import { mountNewFilesystem } from './filesystem.js';
import { pauseServer, resumeServer } from './pause-control.js';
import { blockStatistics } from './proc.js';

export interface SlowDiskOptions {
  /** Lies in memory, as far as it is written to. At least 16. */
  sizeMiB: number;
  /** What each read request waits. About ten are served at once. Default 0. */
  readDelayMs?: number;
  /** The same for writes. Default 0. */
  writeDelayMs?: number;
  /** What reads, and writes, take at least, however many there are at once: the device's speed. Default: no limit. */
  mebibytesPerSecond?: number;
  /** What the kernel reads ahead. Default 0, so that each page is a request of its own. */
  readAheadKiB?: number;
  /**
   * Default true. An ext4 journal that meets one failed write is aborted for good and the filesystem with it; without a
   * journal it goes on once writes work again.
   */
  journal?: boolean;
}

/**
 * A whole ext4 filesystem on a block device that is slow, can be stopped dead and can fail: ext4 over a loop device with
 * direct I/O, over a file of nbdfuse, over nbdkit's memory plugin with its delay, pause and error filters.
 *
 * While the disk is paused every request to the device waits, without a time-out, and a process that waits for a write,
 * fsync or direct read cannot be killed. So the process that has the disk should not be the one that is tested if that
 * one might block its event loop: start it as a child, and destroy() in the parent lets it die.
 *
 * While paused:
 * - safe everywhere, always: all methods here (they use neither libuv's threadpool nor the mounted filesystem), kill of
 *   children, files elsewhere;
 * - answered from memory if used shortly before, and hanging if not: open and stat of a file, reads of cached pages,
 *   buffered writes to pages that are in memory (the first write of a page may wait for block allocation or the journal);
 * - hanging: reads of what is not in memory, fsync, fdatasync, sync() of the whole machine, create, rename, unlink.
 * A hanging call of node:fs takes one of libuv's threads, and a hanging *Sync call the event loop, until resume().
 * Each disk has servers of its own; only dropCaches() reaches beyond this one.
 */
export class SlowDisk {
  readonly #root: string;
  readonly #device: string;
  #paused = false;

  private constructor(root: string, device: string) {
    this.#root = root;
    this.#device = device;
  }

  /** Why no disk can be made here, or undefined. */
  static unavailableReason(): string | undefined {
    return slowDiskUnavailableReason();
  }

  /** A disk that is destroyed after the test; undefined if the test was skipped (see runsHere). */
  static async forTest(t: TestContext, options: SlowDiskOptions): Promise<SlowDisk | undefined> {
    if (!runsHere(t, 'SlowDisk', SlowDisk.unavailableReason())) return undefined;
    const disk = await SlowDisk.create(options);
    t.after(() => disk.destroy());
    return disk;
  }

  /** Takes some hundred milliseconds and a dozen reads of the device. First removes what killed processes left. */
  static async create(options: SlowDiskOptions): Promise<SlowDisk> {
    await removeLeftovers();
    const root = makeDiskDirectory();
    try {
      await startServer(root, 'nbdkit', serverArguments(root, options));
      const uri = `nbd+unix:///?socket=${layout.serverSocket(root)}`;
      await startServer(root, 'nbdfuse', ['-C', '16', layout.disk(root), uri]);
      const { readAheadKiB = 0, journal = true } = options;
      const mountOptions = { directIo: true, readAheadKiB, journal };
      const device = await mountNewFilesystem(layout.disk(root), layout.filesystem(root), mountOptions);
      return new SlowDisk(root, device);
    } catch (error) {
      await removeDisk(root);
      throw error;
    }
  }

  /** Where the filesystem is mounted: root's, empty but for lost+found. */
  get directory(): string {
    return layout.filesystem(this.#root);
  }

  get paused(): boolean {
    return this.#paused;
  }

  /**
   * Stops the device: once it resolves, no request is completed before resume(). Requests that the device had begun are
   * completed first.
   */
  async pause(): Promise<void> {
    this.#paused = true;
    await pauseServer(layout.pauseSocket(this.#root), 10_000);
  }

  /** Lets the device go on, beginning with the requests that have waited. */
  async resume(): Promise<void> {
    await resumeServer(layout.pauseSocket(this.#root), 10_000);
    this.#paused = false;
  }

  /**
   * Reads of the device end with EIO from now on, or work again. Pages in memory are served as ever; what cannot be read
   * becomes EIO for read calls and SIGBUS for mapped memory. A page that failed is read anew at its next use.
   */
  failReads(on: boolean): void {
    trigger(layout.failReads(this.#root), on);
  }

  /**
   * Writes of the device end with EIO from now on, or work again. The error shows at fsync, not at write; an error that
   * was reported once is not reported again, and the data may be lost. With a journal see SlowDiskOptions.journal.
   */
  failWrites(on: boolean): void {
    trigger(layout.failWrites(this.#root), on);
  }

  /** Requests that the device has completed so far, and how many wait or are worked on. Always answers at once. */
  statistics(): { reads: number; writes: number; flushes: number; inFlight: number } {
    return blockStatistics(this.#device);
  }

  /**
   * Writes back this disk's data, then drops the caches of the whole machine: pages, directory entries and inodes, so that
   * the next open of a file reads the device too. Pages that are mapped or locked by a process stay. Not while paused.
   */
  async dropCaches(): Promise<void> {
    this.#requireRunning('dropCaches');
    const sync = () => run('sync', ['--file-system', this.directory]);
    // A write error that nobody has been told of yet fails the first one, though everything may be written by now.
    await sync().catch(sync);
    await run('sh', ['-c', 'echo 3 > /proc/sys/vm/drop_caches']);
  }

  /**
   * Writes back one file and drops its pages only; its inode stays, and nothing else on the machine is touched. Pages that
   * are mapped or locked by a process stay. Not while paused.
   */
  async evict(file: string): Promise<void> {
    this.#requireRunning('evict');
    await run('dd', [`of=${file}`, 'oflag=nocache', 'conv=notrunc,nocreat,fdatasync', 'count=0', 'status=none']);
  }

  /**
   * Removes everything, whatever state the disk is in; see removeDisk(). Pending requests are completed, or end with EIO.
   * Close files before: what is still open is said on the console. Does nothing the second time.
   */
  async destroy(): Promise<void> {
    await removeDisk(this.#root);
  }

  #requireRunning(method: string): void {
    if (this.#paused) throw new Error(`${method}() would hang: the disk is paused`);
  }
}

function trigger(file: string, on: boolean): void {
  if (on) writeFileSync(file, '');
  else rmSync(file, { force: true });
}

/**
 * The first filter is the outermost: a request is delayed, then waits out a pause, then fails. So a pause waits for no
 * delay, and errors are decided after it.
 */
function serverArguments(root: string, options: SlowDiskOptions): string[] {
  const { sizeMiB, readDelayMs = 0, writeDelayMs = 0, mebibytesPerSecond } = options;
  // In bits; what was not used while nobody read counts for a twentieth of a second only.
  const bits = mebibytesPerSecond === undefined ? 0 : mebibytesPerSecond * 8 * 1024 * 1024;
  const failing = (kind: string, file: string) => [
    `error-${kind}=EIO`,
    `error-${kind}-rate=100%`,
    `error-${kind}-file=${file}`,
  ];
  return [
    ...['--foreground', '-U', layout.serverSocket(root), '-t', '64'],
    ...(bits > 0 ? ['--filter=rate'] : []),
    ...['--filter=delay', '--filter=pause', '--filter=error', 'memory', `${sizeMiB}M`],
    ...(bits > 0 ? [`rate=${bits}`, 'burstiness=0.05'] : []),
    ...[`rdelay=${readDelayMs}ms`, `wdelay=${writeDelayMs}ms`, `pause-control=${layout.pauseSocket(root)}`],
    ...failing('pread', layout.failReads(root)),
    ...['pwrite', 'zero', 'trim'].flatMap((kind) => failing(kind, layout.failWrites(root))),
  ];
}

/**
 * Starts the program; resolves once it says by its PID file that it serves. It has a session of its own, so that a
 * Ctrl-C that ends the tests does not take the disk away from a process that still has to leave it.
 */
async function startServer(root: string, program: string, args: readonly string[]): Promise<void> {
  const pidFile = join(root, `${program}.pid`);
  const logFile = join(root, `${program}.log`);
  const log = openSync(logFile, 'a');
  const child = spawn(program, ['-P', pidFile, ...args], {
    cwd: '/',
    detached: true,
    env: { ...process.env, PATH: toolPath },
    stdio: ['ignore', log, log],
  });
  closeSync(log);
  child.unref();
  let failure: string | undefined;
  child.once('error', (error) => {
    failure = error.message;
  });
  child.once('exit', (code, signal) => {
    failure = `ended with ${code ?? signal}`;
  });
  const served = await holdsWithin(20_000, () => failure !== undefined || existsSync(pidFile));
  if (failure !== undefined || !served) {
    throw new Error(`${program}: ${failure ?? 'does not serve after 20 s'}\n${readFileSync(logFile, 'utf8')}`);
  }
}
