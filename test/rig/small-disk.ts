import { closeSync, ftruncateSync, openSync } from 'node:fs';
import type { TestContext } from 'node:test';
import { layout, makeDiskDirectory, removeDisk, removeLeftovers } from './disk-directory.js';
import { runsHere, smallDiskUnavailableReason } from './environment.js';
import { mountNewFilesystem } from './filesystem.js';

export interface SmallDiskOptions {
  /** Of the device; the filesystem's own structures (some 5 MiB with a journal) included. At least 8. */
  sizeMiB: number;
  /** Default true. */
  journal?: boolean;
}

/** A real ext4 filesystem that is soon full. Its data lies in a file of the temporary directory. */
export class SmallDisk {
  readonly #root: string;

  private constructor(root: string) {
    this.#root = root;
  }

  /** Why no disk can be made here, or undefined. */
  static unavailableReason(): string | undefined {
    return smallDiskUnavailableReason();
  }

  /** A disk that is destroyed after the test; undefined if the test was skipped (see runsHere). */
  static async forTest(t: TestContext, options: SmallDiskOptions): Promise<SmallDisk | undefined> {
    if (!runsHere(t, 'SmallDisk', SmallDisk.unavailableReason())) return undefined;
    const disk = await SmallDisk.create(options);
    t.after(() => disk.destroy());
    return disk;
  }

  static async create(options: SmallDiskOptions): Promise<SmallDisk> {
    await removeLeftovers();
    const root = makeDiskDirectory();
    try {
      const image = openSync(layout.image(root), 'wx');
      ftruncateSync(image, options.sizeMiB * 1024 * 1024);
      closeSync(image);
      const { journal = true } = options;
      const mountOptions = { directIo: false, readAheadKiB: 128, journal };
      await mountNewFilesystem(layout.image(root), layout.filesystem(root), mountOptions);
      return new SmallDisk(root);
    } catch (error) {
      await removeDisk(root);
      throw error;
    }
  }

  /** Where the filesystem is mounted: root's, empty but for lost+found. */
  get directory(): string {
    return layout.filesystem(this.#root);
  }

  /** Removes everything; see removeDisk(). Does nothing the second time. */
  async destroy(): Promise<void> {
    await removeDisk(this.#root);
  }
}
