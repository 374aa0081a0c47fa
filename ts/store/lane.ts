import { isWrite, type Operation } from './operation.js';

/** The operations under way on one key, in call order. */
export class Lane {
  readonly name: string;
  first: Operation | undefined;
  last: Operation | undefined;
  lastWrite: Operation | undefined;

  constructor(name: string) {
    this.name = name;
  }

  push(operation: Operation): void {
    operation.lane = this;
    operation.previous = this.last;
    if (this.last === undefined) this.first = operation;
    else this.last.next = operation;
    this.last = operation;
    if (isWrite(operation.kind)) this.lastWrite = operation;
  }

  remove(operation: Operation): void {
    const { previous, next } = operation;
    if (previous === undefined) this.first = next;
    else previous.next = next;
    if (next === undefined) this.last = previous;
    else next.previous = previous;
    operation.lane = undefined;
    operation.previous = undefined;
    operation.next = undefined;
    if (this.lastWrite !== operation) return;
    let write = previous;
    while (write !== undefined && !isWrite(write.kind)) write = write.previous;
    this.lastWrite = write;
  }

  /** Whether a new operation must come after one of these. */
  holdsUp(write: boolean): boolean {
    return (write ? this.last : this.lastWrite) !== undefined;
  }

  /** The operations that a new one must come after, and that do not themselves come before another of these. */
  *conflicts(write: boolean): IterableIterator<Operation> {
    let operation = write ? this.last : this.lastWrite;
    while (operation !== undefined) {
      yield operation;
      if (isWrite(operation.kind)) return;
      operation = operation.previous;
    }
  }
}
