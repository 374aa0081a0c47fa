/** More operations than this, or more bytes, wait until others have settled. */
const maxPending = 4096;
const maxPendingBytes = 8 * 2 ** 20;

interface Settling {
  resolve: (value?: unknown) => void;
  reject: (reason: unknown) => void;
}

/** The operations that a setMany or deleteMany consists of: how many are pending, and what failed first. */
export class Gathering {
  #pending = 0;
  #pendingBytes = 0;
  #failed = false;
  #error: unknown;
  #wake: (() => void) | undefined;
  /** What settles an operation without bytes. */
  readonly settling: Settling = this.#newSettling(0);

  /** The first failure; nothing further should be begun then. */
  get failed(): boolean {
    return this.#failed;
  }

  /** Counts an operation in; answers what settles it. Those without bytes share one pair. */
  begin(bytes: number): Settling {
    this.#pending++;
    this.#pendingBytes += bytes;
    return bytes === 0 ? this.settling : this.#newSettling(bytes);
  }

  /** Takes a begun operation back: it was refused. */
  refuse(bytes: number): void {
    this.#end(bytes);
  }

  fail(reason: unknown): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#error = reason;
  }

  /** Resolves when there is room for more. */
  async room(): Promise<void> {
    while (!this.#failed && (this.#pending >= maxPending || this.#pendingBytes >= maxPendingBytes))
      await this.#change();
  }

  /** Resolves when all have settled; rejects then with the first failure. */
  async all(): Promise<void> {
    while (this.#pending > 0) await this.#change();
    if (this.#failed) throw this.#error;
  }

  #newSettling(bytes: number): Settling {
    return {
      resolve: () => this.#end(bytes),
      reject: (reason) => {
        this.fail(reason);
        this.#end(bytes);
      },
    };
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  #end(bytes: number): void {
    this.#pending--;
    this.#pendingBytes -= bytes;
    // Somebody waits for room, or for the last one: half a room is soon enough, and wakes rarely.
    if (this.#pending > 0 && (this.#pending > maxPending / 2 || this.#pendingBytes > maxPendingBytes / 2)) return;
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}
