/**
 * How many reads a turn of the event loop may answer on the loop itself. A read of what is in memory takes a microsecond or two there
 * instead of some twenty by way of a thread; but promises that are resolved already keep the loop from turning, so
 * that a program awaiting one read after another would never come to its other work.
 */
export class TurnBudget {
  readonly #limit: number;
  #left: number;
  #refills = false;

  constructor(limit: number) {
    this.#limit = limit;
    this.#left = limit;
  }

  /** Whether one more is allowed; counts it. */
  take(): boolean {
    if (this.#left === 0) return false;
    this.#left--;
    if (!this.#refills) {
      this.#refills = true;
      setImmediate(this.#refill).unref();
    }
    return true;
  }

  readonly #refill = (): void => {
    this.#refills = false;
    this.#left = this.#limit;
  };
}
