import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Random } from '../fixtures/random.js';
import { describeViolation, findViolation, type Operation } from './checker.js';

/**
 * '2-5 set 7': an operation called at 2, answered at 5; without the second number: never. 'get -' is absent. 'swap 1>2' is
 * one that did, 'swap 1!2' one that was refused.
 */
function operation(text: string): Operation {
  const swap = /^(\d+)-(\d*) swap (\d+|-)([>!])(\d+|-)$/.exec(text);
  if (swap !== null) {
    const [invoked, returned, expected, , value] = swap.slice(1).map((word) => (word === '-' ? 0 : Number(word)));
    const times = { invoked: invoked as number, returned: swap[2] === '' ? Infinity : (returned as number) };
    const done = swap[2] === '' ? {} : { done: swap[4] === '>' };
    return { kind: 'swap', value: value as number, expected: expected as number, ...done, ...times, label: text };
  }
  const [, invoked, returned, kind, value] = /^(\d+)-(\d*) (set|delete|get|has|add) (\d+|-)$/.exec(text) ?? [];
  assert.ok(kind !== undefined, text);
  const number = value === '-' ? 0 : Number(value);
  const end = returned === '' ? Infinity : Number(returned);
  return { kind: kind as Operation['kind'], value: number, invoked: Number(invoked), returned: end, label: text };
}

const legal: Record<string, string[]> = {
  'nothing at all': [],
  'one after the other': ['0-1 get -', '2-3 set 7', '4-5 get 7', '6-7 delete 1', '8-9 get -', '10-11 delete 0'],
  'a get beside a set, before it': ['0-1 set 1', '2-9 set 2', '3-4 get 1', '10-11 get 2'],
  'a get beside a set, after it': ['0-1 set 1', '2-9 set 2', '3-4 get 2', '10-11 get 2'],
  'two sets at a time, either last': ['0-9 set 1', '0-9 set 2', '10-11 get 1', '12-13 get 1'],
  'two gets at a time that see different ones': ['0-1 set 1', '2-9 set 2', '3-8 get 2', '3-8 get 1'],
  'an old value seen by a get that began before the newer one was seen': [
    '0-1 set 1',
    '2-9 set 2',
    '3-8 get 1',
    '4-5 get 2',
  ],
  'an overwritten set that nobody saw': ['0-9 set 1', '1-8 set 2', '3-4 get 2', '10-11 get 2'],
  'calls and answers in one instant': ['0-1 set 1', '1-2 get -', '3-4 get 1'],
  'a delete between two sets': ['0-1 set 1', '2-9 set 2', '2-9 delete 1', '10-11 has 0'],
  'a delete that found nothing, before the set': ['0-9 set 1', '2-3 delete 0', '4-5 has 0', '10-11 get 1'],
  'a lost write that never happened': ['0-1 set 1', '2- set 2', '3-4 get 1', '90-91 get 1'],
  'a lost write that happened at once': ['0-1 set 1', '2- set 2', '3-4 get 2', '90-91 get 2'],
  'a lost write that was seen late': ['0-1 set 1', '2- set 2', '3-4 get 1', '90-91 get 2', '92-93 has 1'],
  'a lost delete': ['0-1 set 1', '2- delete 1', '3-4 get 1', '90-91 get -'],
  'a lost set that only a has and a delete saw': ['0- set 1', '3-4 has 1', '5-6 delete 1', '7-8 get -'],
  'lost writes, each of them seen': ['0- set 1', '0- set 2', '0- delete 1', '1-2 get 2', '3-4 get -', '5-6 get 1'],
  'swaps, one after the other': ['0-1 swap ->1', '2-3 swap 1>2', '4-5 swap 1!3', '6-7 swap 2>-', '8-9 get -'],
  'two swaps at a time, one of them refused': ['0-1 set 1', '2-9 swap 1>2', '2-9 swap 1!3', '10-11 get 2'],
  'a swap of what a set beside it wrote': ['0-1 set 1', '2-9 set 2', '2-9 swap 2>3', '10-11 get 3'],
  'a swap that was refused before a set': ['0-9 set 1', '2-3 swap 1!2', '10-11 get 1'],
  'a lost swap that happened': ['0-1 set 1', '2- swap 1>2', '3-4 get 2'],
  'a lost swap that did not': ['0-1 set 1', '2- swap 1>2', '3-4 get 1', '5-6 swap 1>4', '7-8 get 4'],
  'a lost swap of what a lost set wrote': ['0-1 set 1', '2- set 2', '2- swap 2>3', '3-4 get 3'],
  'a lost swap of what a lost swap wrote, of what a lost set did': [
    '0- set 1',
    '0- swap 1>2',
    '0- swap 2>3',
    '3-4 get 3',
  ],
  'additions at a time, in any order': ['0-9 add 2', '0-9 add 3', '0-9 add 1', '10-11 add 4', '12-13 get 4'],
  'a lost addition that happened, and one that did not': ['0- add 1', '0- add 1', '2-3 add 2', '4-5 get 2'],
  'lost additions, each of them needed': ['0- add 1', '0- add 1', '2-3 add 3'],
  'a get that was never answered': ['0-1 set 1', '2- get 9', '3-4 get 1'],
};

const illegal: Record<string, string[]> = {
  'a value that nobody wrote': ['0-1 set 1', '2-3 get 2'],
  'an old value': ['0-1 set 1', '2-3 set 2', '4-5 get 1'],
  'an old value after the new one was seen': ['0-1 set 1', '2-9 set 2', '3-4 get 2', '5-6 get 1'],
  'absent while nobody deletes': ['0-1 set 1', '2-9 set 2', '3-4 get -'],
  'absent to has alone': ['0-1 set 1', '2-9 set 2', '3-4 has 0'],
  'there after a delete': ['0-1 set 1', '2-3 delete 1', '4-5 get 1'],
  'two deletes of one value': ['0-1 set 1', '2-9 delete 1', '2-9 delete 1'],
  'a delete that missed it': ['0-1 set 1', '2-3 delete 0'],
  'a value before its set': ['0-1 get 1', '2-3 set 1'],
  'both orders of two sets': ['0-9 set 1', '0-9 set 2', '10-11 get 1', '12-13 get 2'],
  'both orders of two sets, to two readers': ['0-9 set 1', '0-9 set 2', '1-2 get 1', '3-4 get 2', '5-6 get 1'],
  'a lost write before its call': ['0-1 get 2', '2- set 2'],
  'a lost write that happened twice': ['0- set 2', '1-2 get 2', '3-4 set 1', '5-6 get 2'],
  'a lost write taken back': ['0-1 set 1', '2- set 2', '3-4 get 2', '5-6 get 1'],
  'two swaps of one value': ['0-1 set 1', '2-9 swap 1>2', '2-9 swap 1>3'],
  'a swap that should have been refused': ['0-1 set 1', '2-3 swap 2>3'],
  'a swap that should not have been': ['0-1 set 1', '2-3 swap 1!3'],
  'a swap of nothing, where something was': ['0-1 set 1', '2-3 swap ->3'],
  'a swap that was done and not seen': ['0-1 set 1', '2-3 swap 1>2', '4-5 get 1'],
  'a refused swap that was seen': ['0-1 set 1', '2-3 swap 5!2', '4-5 get 2'],
  'a lost swap of what was not there': ['0-1 set 1', '2- swap 5>2', '3-4 get 2'],
  'a lost count': ['0-9 add 1', '0-9 add 1', '10-11 get 1'],
  'a count too many': ['0-1 add 2'],
  'a lost addition that happened twice': ['0- add 1', '2-3 add 3'],
  'a lost delete that happened twice': ['0-1 set 1', '2- delete 1', '3-4 get -', '5-6 set 2', '7-8 get -'],
};

describe('the checker of histories', () => {
  for (const [name, lines] of Object.entries(legal)) {
    test(`legal: ${name}`, () => {
      assert.equal(findViolation(lines.map(operation)), undefined);
      assert.equal(findViolation(lines.map(operation).reverse()), undefined, 'the order of the list does not matter');
    });
  }
  for (const [name, lines] of Object.entries(illegal)) {
    test(`illegal: ${name}`, () => {
      assert.ok(findViolation(lines.map(operation)));
      assert.ok(findViolation(lines.map(operation).reverse()), 'the order of the list does not matter');
    });
  }

  test('the answer that has no explanation is named, and what was under way', () => {
    const violation = findViolation(['0-1 set 1', '2-9 set 2', '3-4 get 2', '5-6 get 1', '7-8 get 1'].map(operation));
    assert.ok(violation);
    assert.equal(violation.operation.label, '5-6 get 1');
    assert.deepEqual(
      violation.meanwhile.map(({ label }) => label),
      ['2-9 set 2', '5-6 get 1'],
    );
    assert.match(describeViolation(violation), /\n {2}set 2, .*\n→ get 1, /);
  });

  test('judges small histories of all kinds as trying every order does', () => {
    const random = new Random(1);
    const judged = { legal: 0, illegal: 0 };
    for (let i = 0; i < 20_000; i++) {
      const history = randomHistory(random);
      const expected = isExplainedBySomeOrder(history, 0);
      const violation = findViolation(history);
      assert.equal(violation === undefined, expected, history.map(({ label }) => label).join(', '));
      judged[expected ? 'legal' : 'illegal']++;
    }
    assert.ok(judged.legal > 2000 && judged.illegal > 2000, JSON.stringify(judged));
  });

  test('a long history with lost writes takes time in proportion', () => {
    const history: Operation[] = [];
    for (let i = 0; i < 20; i++) history.push(operation(`${i}- ${i % 2 === 0 ? 'set' : 'delete'} ${i + 1}`));
    for (let i = 1; i <= 50_000; i++) {
      const at = i * 100;
      history.push({ kind: 'set', value: 100 + 2 * i, invoked: at, returned: at + 150 });
      history.push({ kind: 'set', value: 101 + 2 * i, invoked: at + 1, returned: at + 151 });
      history.push({ kind: 'get', value: 100 + 2 * i, invoked: at + 60, returned: at + 70 });
    }
    const start = performance.now();
    assert.equal(findViolation(history), undefined);
    assert.ok(performance.now() - start < 20_000);
  });
});

/** Up to six operations of few values in a short time: many overlap, and about half of the histories are legal. */
function randomHistory(random: Random): Operation[] {
  let values = 0;
  return Array.from({ length: 1 + random.below(6) }, () => {
    const kind = random.pick(['set', 'set', 'delete', 'get', 'get', 'has', 'swap', 'swap', 'add'] as const);
    const invoked = random.below(10);
    const returned = random.below(6) === 0 ? '' : invoked + random.below(8);
    // Values are unique here or not: the checker does not need them to be.
    if (kind === 'swap') {
      const [from, to] = [random.below(3), random.below(4)].map((each) => each || '-');
      return operation(`${invoked}-${returned} swap ${from}${random.below(2) === 0 ? '>' : '!'}${to}`);
    }
    if (kind === 'add') return operation(`${invoked}-${returned} add ${1 + random.below(3)}`);
    const value = kind === 'set' ? (random.below(8) === 0 ? 1 : ++values) : random.below(kind === 'get' ? 4 : 2);
    return operation(`${invoked}-${returned} ${kind} ${value}`);
  });
}

/** By trying: each operation that no other one has to precede may be next; one without answer may also be left out. */
function isExplainedBySomeOrder(left: readonly Operation[], state: number): boolean {
  if (left.every(({ returned }) => returned === Infinity)) return true;
  const earliestAnswer = Math.min(...left.map(({ returned }) => returned));
  return left.some((next) => {
    if (next.invoked > earliestAnswer) return false;
    const others = left.filter((other) => other !== next);
    const { kind, value, returned } = next;
    const isLost = returned === Infinity;
    if (kind === 'set') return isExplainedBySomeOrder(others, value);
    if (kind === 'add') return (isLost || value === state + 1) && isExplainedBySomeOrder(others, state + 1);
    if (kind === 'swap') {
      const meets = state === next.expected;
      return (isLost || next.done === meets) && isExplainedBySomeOrder(others, meets ? value : state);
    }
    if (kind === 'get') return (isLost || value === state) && isExplainedBySomeOrder(others, state);
    if (!isLost && (value !== 0) !== (state !== 0)) return false;
    return isExplainedBySomeOrder(others, kind === 'delete' ? 0 : state);
  });
}
