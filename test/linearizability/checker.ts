// Is there an order of a register's operations, each taking effect at one moment between its call and its answer, that
// explains all answers? A key of a store is such a register: its value, or absent.
//
// The search is Wing and Gong's ("Testing and Verifying Concurrent Objects", 1993) in Lowe's just-in-time form ("Testing
// for Linearizability", 2017), which is also what Knossos does: calls and answers are gone through in time order with the
// set of all configurations that are possible so far (memoized: each is looked at once). An operation is made to take
// effect no earlier than some answer calls for it. It is exact: no history is judged wrongly, in either direction.

export interface Operation {
  readonly kind: 'set' | 'delete' | 'get' | 'has' | 'swap' | 'add';
  /**
   * set: what it wrote, not 0; get: what it answered, 0 where absent; delete, has: 1 where the key was there, else 0;
   * swap: what it was to write, 0 where it was to delete; add: the sum that it answered, by one more than what was there.
   */
  readonly value: number;
  /** swap: what it wrote in the place of, 0 where absent. */
  readonly expected?: number;
  /** swap: whether it did; missing where it was never answered. */
  readonly done?: boolean;
  /** Times of one clock for all processes. Operations that meet in one instant count as simultaneous. */
  readonly invoked: number;
  /** Infinity: never answered. Such a write has happened at some moment, or will happen, or never. */
  readonly returned: number;
  /** Who did it and how, for reports only. */
  readonly label?: string;
}

export interface Violation {
  /** The first answer, in time, for which there is no explanation. */
  readonly operation: Operation;
  /** Everything that was under way during it, itself included, in the order of the calls. */
  readonly meanwhile: readonly Operation[];
}

const absent = 0;

interface Configuration {
  /** The register's value. */
  readonly state: number;
  /** The operations under way, by their slots, that have taken effect. */
  readonly done: number;
  /** The writes without answer, by their slots, that have taken effect. */
  readonly spent: number;
}

/** Slots are bits of a number. */
const maxSlots = 31;

/** The earliest answer that no order explains; undefined: the history is linearizable. The register starts absent. */
export function findViolation(history: readonly Operation[]): Violation | undefined {
  const search = new Search();
  for (const { operation, isCall } of eventsOf(history)) {
    if (isCall) search.call(operation);
    else if (!search.answer(operation)) return { operation, meanwhile: overlapping(history, operation) };
  }
  return undefined;
}

export function describeViolation({ operation, meanwhile }: Violation): string {
  const start = Math.min(...meanwhile.map(({ invoked }) => invoked));
  const lines = meanwhile.map((other) => {
    const { kind, value, invoked, returned, label = '' } = other;
    const time = `${((invoked - start) / 1000).toFixed(1)} … ${((returned - start) / 1000).toFixed(1)} µs`;
    return `${other === operation ? '→' : ' '} ${kind} ${value || (kind === 'get' ? 'absent' : 0)}, ${time}  ${label}`;
  });
  return `no order explains what is marked:\n${lines.join('\n')}`;
}

interface Event {
  readonly time: number;
  readonly isCall: boolean;
  readonly operation: Operation;
}

function eventsOf(history: readonly Operation[]): Event[] {
  const events: Event[] = [];
  for (const operation of history) {
    const isPending = operation.returned === Infinity;
    if (isPending && isRead(operation)) continue; // explains nothing, needs no explanation
    events.push({ time: operation.invoked, isCall: true, operation });
    if (!isPending) events.push({ time: operation.returned, isCall: false, operation });
  }
  return events.sort((a, b) => a.time - b.time || Number(b.isCall) - Number(a.isCall));
}

const isRead = ({ kind }: Operation): boolean => kind === 'get' || kind === 'has';

function overlapping(history: readonly Operation[], { invoked, returned }: Operation): Operation[] {
  return history
    .filter((other) => other.invoked <= returned && other.returned >= invoked)
    .sort((a, b) => a.invoked - b.invoked);
}

/** Whether the operation has this answer in this state and leaves the state as it is. */
function isSeen(operation: Operation, state: number): boolean {
  const { kind, value } = operation;
  if (kind === 'get') return value === state;
  if (kind === 'has') return (value !== 0) === (state !== absent);
  if (kind === 'swap') return operation.done === false && state !== operation.expected;
  return kind === 'delete' && value === 0 && state === absent;
}

/** The state that the operation, answered as it was or not at all, makes of this one; undefined: it cannot have met it. */
function madeOf(operation: Operation, state: number): number | undefined {
  const { kind, value, returned } = operation;
  switch (kind) {
    case 'set':
      return value;
    case 'delete':
      return returned === Infinity || (value !== 0 && state !== absent) ? absent : undefined;
    case 'swap':
      return operation.done !== false && state === operation.expected ? value : undefined;
    case 'add':
      return returned === Infinity || value === state + 1 ? state + 1 : undefined;
    default:
      return undefined;
  }
}

/** Whether the operation can tell this state from others. */
function tells(operation: Operation, state: number): boolean {
  return isSeen(operation, state) || (operation.kind !== 'set' && madeOf(operation, state) !== undefined);
}

class Search {
  /** Under way; a slot is free where it is undefined. */
  readonly #open: (Operation | undefined)[] = [];
  readonly #slots = new Map<Operation, number>();
  /** Writes that never get an answer, from their calls on. */
  readonly #pending: Operation[] = [];
  /** The slots of those of them that depend on the state. */
  readonly #depending: number[] = [];
  #possible: Configuration[] = [{ state: absent, done: 0, spent: 0 }];

  call(operation: Operation): void {
    if (operation.returned === Infinity) {
      const { kind } = operation;
      if (kind === 'swap' || kind === 'add') this.#depending.push(this.#pending.length);
      if (this.#pending.push(operation) > maxSlots) throw new RangeError(`more than ${maxSlots} writes without answer`);
      return;
    }
    const free = this.#open.indexOf(undefined);
    const slot = free < 0 ? this.#open.length : free;
    if (slot === maxSlots) throw new RangeError(`more than ${maxSlots} operations at a time`);
    this.#open[slot] = operation;
    this.#slots.set(operation, slot);
    this.#possible = this.#possible.map((configuration) => this.#see(configuration));
  }

  /** Leaves what is possible where the operation has taken effect; false: nothing is. */
  answer(operation: Operation): boolean {
    const slot = this.#slots.get(operation) ?? 0;
    const bit = 1 << slot;
    const met = new Memo();
    const kept = new Memo();
    const toVisit = this.#possible.filter((configuration) => met.add(configuration));
    for (let next = toVisit.pop(); next !== undefined; next = toVisit.pop()) {
      if ((next.done & bit) !== 0) {
        kept.add({ ...next, done: next.done & ~bit });
        continue;
      }
      for (const successor of this.#successors(next)) if (met.add(successor)) toVisit.push(successor);
    }
    this.#open[slot] = undefined;
    this.#slots.delete(operation);
    this.#possible = kept.configurations();
    return this.#possible.length > 0;
  }

  /** One more write takes effect. */
  *#successors({ state, done, spent }: Configuration): Generator<Configuration> {
    for (const [slot, operation] of this.#open.entries()) {
      if (operation === undefined || (done & (1 << slot)) !== 0) continue;
      const next = madeOf(operation, state);
      if (next !== undefined) yield this.#see({ state: next, done: done | (1 << slot), spent });
    }
    for (const [slot, operation] of this.#pending.entries()) {
      const next = (spent & (1 << slot)) === 0 ? madeOf(operation, state) : undefined;
      if (next === undefined || !this.#isNoticed(next, done, spent | (1 << slot))) continue;
      yield this.#see({ state: next, done, spent: spent | (1 << slot) });
    }
  }

  /**
   * Whether what is under way can tell this state: a write without answer that nothing notices might as well not be. What
   * depends on the state may be without answer itself.
   */
  #isNoticed(state: number, done: number, spent: number): boolean {
    for (let slot = 0; slot < this.#open.length; slot++) {
      const operation = this.#open[slot];
      if (operation !== undefined && (done & (1 << slot)) === 0 && tells(operation, state)) return true;
    }
    return this.#depending.some(
      (slot) => (spent & (1 << slot)) === 0 && tells(this.#pending[slot] as Operation, state),
    );
  }

  /** What changes nothing takes effect as soon as it can: putting it off opens no other way. */
  #see({ state, done, spent }: Configuration): Configuration {
    let seen = done;
    for (const [slot, operation] of this.#open.entries()) {
      if (operation !== undefined && isSeen(operation, state)) seen |= 1 << slot;
    }
    return { state, done: seen, spent };
  }
}

/**
 * Configurations, without those that others make superfluous: a write without answer need not take effect, so of two that
 * differ in nothing else the one that has spent fewer can do all that the other can.
 */
class Memo {
  readonly #spent = new Map<number, Map<number, number[]>>();

  /** False where it is superfluous. */
  add({ state, done, spent }: Configuration): boolean {
    let ofState = this.#spent.get(state);
    if (ofState === undefined) {
      ofState = new Map();
      this.#spent.set(state, ofState);
    }
    const least = ofState.get(done) ?? [];
    if (least.some((fewer) => (fewer & spent) === fewer)) return false;
    ofState.set(done, [...least.filter((more) => (more & spent) !== spent), spent]);
    return true;
  }

  configurations(): Configuration[] {
    const all: Configuration[] = [];
    for (const [state, ofState] of this.#spent)
      for (const [done, least] of ofState) for (const spent of least) all.push({ state, done, spent });
    return all;
  }
}
