import { isWrite, type Operation } from './operation.js';

const leastSlots = 2048;
/** Of a longer name only so much at either end goes into its hash. */
const hashedEnds = 128;
/** Another one in each process, so that nobody can choose keys that all meet in one slot. */
const seed = Math.trunc(Math.random() * 0x7fff_ffff);

/** Hash of a key's name, 0 … 2^31 - 1. */
export function hashOf(name: string): number {
  const { length } = name;
  let hash = seed ^ length;
  if (length <= 2 * hashedEnds) return mix(hash, name, 0, length);
  hash = mix(hash, name, 0, hashedEnds);
  return mix(hash, name, length - hashedEnds, length);
}

function mix(begin: number, name: string, from: number, to: number): number {
  let hash = begin;
  for (let i = from; i < to; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x0100_0193);
  return (hash ^ (hash >>> 15)) & 0x7fff_ffff;
}

/**
 * The operations under way that have a key, and who of them comes before a new one: a write comes after everything on
 * its key, a read after the last write only.
 *
 * A hash table whose entries are the operations themselves, because there is one for each call: an entry of a Map and
 * an object for each key took a quarter of what a get costs on the JavaScript thread. Each slot has two chains, newest
 * first: of writes, and of reads, so that a read finds the write before it however many read the same key.
 */
export class KeyTable {
  #writes: (Operation | undefined)[] = newSlots(leastSlots);
  #reads: (Operation | undefined)[] = newSlots(leastSlots);
  #count = 0;
  #order = 0;

  add(operation: Operation): void {
    if (this.#count >= this.#writes.length) this.#resize(2 * this.#writes.length);
    this.#count++;
    operation.order = this.#order++;
    this.#link(operation);
  }

  remove(operation: Operation): void {
    const { newer, older } = operation;
    if (newer !== undefined) {
      newer.older = older;
    } else {
      const slots = isWrite(operation.kind) ? this.#writes : this.#reads;
      slots[operation.hash & (slots.length - 1)] = older;
    }
    if (older !== undefined) older.newer = newer;
    operation.newer = undefined;
    operation.older = undefined;
    this.#count--;
    if (this.#count > 0) return;
    this.#order = 0;
    // What a flood needed is not kept after it.
    if (this.#writes.length > leastSlots) this.#resize(leastSlots);
  }

  /** The newest write of the key, where one is under way. */
  lastWrite(name: string, hash: number): Operation | undefined {
    const slots = this.#writes;
    return next(slots[hash & (slots.length - 1)], name, hash);
  }

  /** Whether a new operation must come after one of these. */
  holdsUp(name: string, hash: number, write: boolean): boolean {
    return this.lastWrite(name, hash) !== undefined || (write && this.#lastRead(name, hash) !== undefined);
  }

  /** The operations that a new one must come after, and that do not themselves come before another of these. */
  conflicts(name: string, hash: number, write: boolean): Operation[] {
    const last = this.lastWrite(name, hash);
    const found: Operation[] = [];
    if (write) {
      let read = this.#lastRead(name, hash);
      for (; read !== undefined; read = next(read.older, name, hash)) {
        if (last !== undefined && read.order < last.order) break;
        found.push(read);
      }
    }
    if (last !== undefined) found.push(last);
    return found;
  }

  /** All that has to take effect before a new operation does, oldest first. */
  before(name: string, hash: number, write: boolean): Operation[] {
    const found: Operation[] = [];
    const last = this.lastWrite(name, hash);
    for (let operation = last; operation !== undefined; operation = next(operation.older, name, hash)) {
      found.push(operation);
    }
    let read = write || last !== undefined ? this.#lastRead(name, hash) : undefined;
    for (; read !== undefined; read = next(read.older, name, hash)) {
      // Reads before the write as well: they are not to see it.
      if (write || read.order < (last as Operation).order) found.push(read);
    }
    return found.sort((a, b) => a.order - b.order);
  }

  #lastRead(name: string, hash: number): Operation | undefined {
    const slots = this.#reads;
    return next(slots[hash & (slots.length - 1)], name, hash);
  }

  #link(operation: Operation): void {
    const slots = isWrite(operation.kind) ? this.#writes : this.#reads;
    const slot = operation.hash & (slots.length - 1);
    const older = slots[slot];
    operation.newer = undefined;
    operation.older = older;
    if (older !== undefined) older.newer = operation;
    slots[slot] = operation;
  }

  #resize(size: number): void {
    const former = [this.#writes, this.#reads];
    this.#writes = newSlots(size);
    this.#reads = newSlots(size);
    for (const slots of former) {
      for (const newest of slots) {
        const chain: Operation[] = [];
        for (let operation = newest; operation !== undefined; operation = operation.older) chain.push(operation);
        for (const operation of chain.reverse()) this.#link(operation);
      }
    }
  }
}

function newSlots(size: number): (Operation | undefined)[] {
  return new Array<Operation | undefined>(size).fill(undefined);
}

/** The first operation on the key, from this one of the chain on. */
function next(from: Operation | undefined, name: string, hash: number): Operation | undefined {
  let operation = from;
  while (operation !== undefined && (operation.hash !== hash || operation.name !== name)) operation = operation.older;
  return operation;
}
