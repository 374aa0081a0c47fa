// The table of operations under way, beside a plain list of them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hashOf, KeyTable } from '#internal/store/key-table.js';
import { isWrite, Kind, Operation } from '#internal/store/operation.js';
import type { Request } from '#internal/store/request.js';
import { newSeed, Random } from './store-fixture.js';

const nobody = {} as Request;

function newOperation(name: string, kind: Kind, hash: number): Operation {
  return new Operation(kind, nobody, 0, name, hash, undefined, undefined, false);
}

/** What the table should answer, of the operations on one key in call order. */
function expected(all: readonly Operation[], write: boolean): { conflicts: Operation[]; before: Operation[] } {
  const last = all.findLastIndex(({ kind }) => isWrite(kind));
  if (!write) return { conflicts: last < 0 ? [] : [all[last] as Operation], before: all.slice(0, last + 1) };
  return { conflicts: all.slice(Math.max(last, 0)).reverse(), before: [...all] };
}

function compare(table: KeyTable, all: readonly Operation[], name: string, hash: number): void {
  const mine = all.filter((operation) => operation.name === name);
  assert.equal(
    table.lastWrite(name, hash),
    mine.findLast(({ kind }) => isWrite(kind)),
  );
  for (const write of [false, true]) {
    const { conflicts, before } = expected(mine, write);
    assert.deepEqual(table.conflicts(name, hash, write), conflicts);
    assert.deepEqual(table.before(name, hash, write), before);
    assert.equal(table.holdsUp(name, hash, write), conflicts.length > 0);
  }
}

// Few hashes: names that share one must still be told apart.
for (const [what, hash] of [
  ['each name a hash of its own', hashOf],
  ['all names in two slots', (name: string) => name.length % 2],
] as const) {
  test(`answers as a list would: ${what}`, () => {
    const random = new Random(newSeed('key table'));
    const table = new KeyTable();
    const all: Operation[] = [];
    for (let i = 0; i < 3_000; i++) {
      const name = 'k'.repeat(1 + random.below(8));
      if (all.length > 0 && random.below(100) < 48) {
        const [gone] = all.splice(random.below(all.length), 1);
        table.remove(gone as Operation);
      } else {
        const operation = newOperation(name, [Kind.get, Kind.set, Kind.delete][random.below(3)] as Kind, hash(name));
        all.push(operation);
        table.add(operation);
      }
      compare(table, all, name, hash(name));
    }
  });
}

test('grows, keeps the order then, and is small again in the end', () => {
  const table = new KeyTable();
  const all: Operation[] = [];
  for (let i = 0; i < 20_000; i++) {
    const name = `key ${i % 7_000}`;
    const operation = newOperation(name, i % 3 === 0 ? Kind.set : Kind.get, hashOf(name));
    all.push(operation);
    table.add(operation);
  }
  for (const name of ['key 0', 'key 1', 'key 6999']) compare(table, all, name, hashOf(name));
  for (const operation of all.splice(0)) table.remove(operation);
  compare(table, all, 'key 0', hashOf('key 0'));
});

test('a name is hashed the same each time, whole where it is short and at both ends where it is long', () => {
  assert.equal(hashOf('a key'), hashOf(['a', 'key'].join(' ')));
  assert.notEqual(hashOf(`${'x'.repeat(300)}1`), hashOf(`${'x'.repeat(300)}2`));
  assert.notEqual(hashOf(`1${'x'.repeat(300)}`), hashOf(`2${'x'.repeat(300)}`));
});
