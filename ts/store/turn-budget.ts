/**
 * How much a turn of the event loop may answer on the loop itself. A read of what is in memory takes a microsecond or
 * two there instead of some twenty by way of a thread; but promises that are resolved already keep the loop from
 * turning, so that a program awaiting one read after another would never come to its other work.
 */
export class TurnBudget {
  readonly #limit: number;
  #left: number;
  #lastTaken = false;
  #refills = false;

  constructor(limit: number) {
    this.#limit = limit;
    this.#left = limit;
  }

  /** Whether so much more is allowed; counts it. */
  take(cost: number): boolean {
    if (this.#left < cost) return false;
    this.#left -= cost;
    if (!this.#refills) {
      this.#refills = true;
      setImmediate(this.#refill).unref();
    }
    return true;
  }

  /** Once in a turn, beyond what is allowed: for a read that is answered only when the loop has turned. */
  takeLast(): boolean {
    if (this.#lastTaken) return false;
    this.#lastTaken = true;
    return true;
  }

  readonly #refill = (): void => {
    this.#refills = false;
    this.#left = this.#limit;
    this.#lastTaken = false;
  };
}

/** Resolves when the event loop has turned: whoever awaits one read after another lets the rest of the program run. */
export function afterTurn<T>(value: T): Promise<T> {
  return new Promise((resolve) => setImmediate(resolve, value));
}
