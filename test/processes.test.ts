// Several real processes on one file: what they read meanwhile, what is there at the end, and what becomes of the others
// when one is killed while it holds a lock.
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, type TestContext, test } from 'node:test';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { Store } from 'faultless';
import { Board } from './fixtures/board.js';
import { keyOfVictim, keysOfVictim, wordOfVictim } from './fixtures/lock-holders.js';
import { heldLocks, oddVersions } from './fixtures/lock-words.js';
import * as traffic from './fixtures/mixed-traffic.js';
import { stampOf } from './fixtures/stamped-values.js';
import { startProcess } from './fixtures/start-process.js';
import { runsHere } from './rig/environment.js';
import { TestProcess } from './rig/process-tools.js';

const directory = mkdtempSync(join(tmpdir(), 'faultless-processes-'));
after(() => rmSync(directory, { recursive: true, force: true }));

describe('four writers and four readers on one file', () => {
  test('every answer is right, and the totals are exact', async (t) => {
    const file = join(directory, 'traffic');
    const boardFile = join(directory, 'traffic-board');
    using board = new Board(boardFile);
    await (await Store.open(file, { encoding: 'buffer' })).close();
    const start = (name: string, ...args: string[]): TestProcess => startProcess(t, name, [file, boardFile, ...args]);
    const writers = Array.from({ length: traffic.writers }, (_, number) => start('writer', String(number)));
    const readers = ['readOnly', '', '', ''].map((mode) => start('reader', mode));
    const all = [...writers, ...readers];
    await Promise.all(all.map((child) => child.ready(60_000)));
    for (const child of all) child.send('go');

    const written = await Promise.all(writers.map((writer) => writer.message('written', 120_000)));
    const own = Array.from({ length: traffic.ownKeys }, (_, index) => traffic.lastOfOwn(index));
    const expected = own.reduce((sum, last) => sum + last, traffic.sharedKeys * traffic.lastOfShared);
    assert.deepEqual(written, [expected, expected, expected, expected]);
    for (const reader of readers) reader.send('stop');
    for (const reader of readers) {
      const counts = (await reader.message('counts', 60_000)) as Record<string, number>;
      for (const [what, count] of Object.entries(counts)) assert.ok(count > 0, `no ${what}: ${JSON.stringify(counts)}`);
    }
    for (const child of all) {
      const exit = await child.ended();
      assert.deepEqual([exit.code, exit.signal, exit.stderr], [0, null, '']);
    }

    await using store = await Store.open(file, { encoding: 'buffer' });
    const found = new Map<string, Buffer>();
    for await (const [key, value] of store) {
      assert.ok(!found.has(key), `${key} was delivered twice`);
      found.set(key, value);
    }
    assert.equal(store.size, found.size);
    let keys = 0;
    for (let index = 0; index < traffic.sharedKeys; index++) {
      const key = traffic.sharedKey(index);
      // Whoever was last: it was his last one.
      assert.equal(stampOf(key, found.get(key) ?? Buffer.alloc(0)).sequence, traffic.lastOfShared);
      keys++;
    }
    for (let writer = 0; writer < traffic.writers; writer++) {
      own.forEach((sequence, index) => {
        const key = traffic.ownKey(writer, index);
        assert.equal(board.get(traffic.ownWord(writer, index)), sequence);
        const value = found.get(key);
        if (traffic.isDelete(sequence)) {
          assert.equal(value, undefined, key);
        } else {
          assert.deepEqual(stampOf(key, value ?? Buffer.alloc(0)), { writer, sequence });
          keys++;
        }
      });
    }
    for (let writer = 0; writer < traffic.writers; writer++) {
      const [first, second] = traffic.pairKeys(writer).map((key) => stampOf(key, found.get(key) ?? Buffer.alloc(0)));
      assert.deepEqual(first, second);
      keys += 2;
    }
    assert.equal(found.size, keys);
  });
});

/** Whether every thread of the process is stopped by SIGSTOP. */
function isStopped(pid: number): boolean {
  const tasks = `/proc/${pid}/task`;
  return readdirSync(tasks).every((task) => / [tT] /.test(readFileSync(`${tasks}/${task}/stat`, 'utf8')));
}

/** Stops the writer by SIGSTOP at some moment at which the condition holds. */
async function stopWhen(writer: TestProcess, condition: () => boolean): Promise<void> {
  const { pid } = writer;
  // Some states last for a few instructions: mostly it is met within seconds, though that is a matter of chance.
  const end = performance.now() + 240_000;
  while (performance.now() < end) {
    await sleep(Math.random() * 2);
    process.kill(pid, 'SIGSTOP');
    while (!isStopped(pid)) await nextTurn();
    if (condition()) return;
    process.kill(pid, 'SIGCONT');
  }
  assert.fail('the writer was never met in this state');
}

/** Stops the writer at some moment at which it holds a lock of the file. */
const stopHoldingLock = (writer: TestProcess, file: string): Promise<void> =>
  stopWhen(writer, () => heldLocks(file) > 0);

interface Victim {
  number: number;
  child: TestProcess;
}

/** Two survivors that have the file open and do nothing until they are told to; victims that write. */
class Scene {
  readonly file: string;
  readonly board: Board;
  readonly survivors: readonly TestProcess[];
  readonly #test: TestContext;
  readonly #boardFile: string;
  readonly #pidNamespace: boolean;
  #victims = 0;

  constructor(t: TestContext, name: string, pidNamespace: boolean) {
    this.#test = t;
    this.#pidNamespace = pidNamespace;
    this.file = join(directory, name);
    this.#boardFile = join(directory, `${name}-board`);
    this.board = new Board(this.#boardFile);
    t.after(() => this.board[Symbol.dispose]());
    this.survivors = ['0', '1'].map((number) => startProcess(t, 'survivor', [this.file, number], { pidNamespace }));
  }

  async ready(): Promise<void> {
    for (const survivor of this.survivors) {
      const pid = await survivor.ready();
      if (this.#pidNamespace) assert.equal(pid, 1, 'all of them have the same PID');
    }
  }

  async startVictim(way: 'sync' | 'async', valueBytes: number): Promise<Victim> {
    const number = this.#victims++;
    const args = [this.file, this.#boardFile, String(number), way, String(valueBytes)];
    const child = startProcess(this.#test, 'victim', args, { pidNamespace: this.#pidNamespace });
    await child.ready();
    return { number, child };
  }

  /** To all survivors at once. */
  order(what: string, { sequence = 0, victim = 0 } = {}): Promise<unknown[]> {
    for (const survivor of this.survivors) survivor.send('order', { what, sequence, victim });
    return Promise.all(this.survivors.map((survivor) => survivor.message('done')));
  }
}

/** What the victim was told is written is there; a write that was under way may be there, too. */
function assertNothingMissing(board: Board, victim: number, sequences: readonly number[]): void {
  assert.equal(sequences.length, keysOfVictim);
  sequences.forEach((sequence, index) => {
    if (index % 8 === 7) return; // is everybody's
    const acknowledged = board.get(wordOfVictim(victim, index));
    assert.ok(
      sequence === acknowledged || sequence === acknowledged + 1,
      `${keyOfVictim(victim, index)}: acknowledged ${acknowledged}, found ${sequence}`,
    );
  });
}

/** A writer that holds a lock and is stopped keeps it; killed, it is survived. */
async function surviveKills(scene: Scene, kills: readonly (readonly ['sync' | 'async', number])[]): Promise<void> {
  const { file, board } = scene;
  await scene.ready();
  let sequence = 1;
  await scene.order('write', { sequence });
  for (const [way, valueBytes] of kills) {
    const { number, child } = await scene.startVictim(way, valueBytes);
    await stopHoldingLock(child, file);
    const { signal } = await child.kill();
    assert.equal(signal, 'SIGKILL');
    assert.ok(heldLocks(file) > 0, 'it died with the lock');

    await scene.order('write', { sequence: ++sequence });
    assert.equal(heldLocks(file), 0, 'somebody took it over and let go of it');
    for (const sequences of await scene.order('readVictim', { victim: number })) {
      assertNothingMissing(board, number, sequences as number[]);
    }
  }
  await scene.order('close');
  for (const survivor of scene.survivors) {
    const exit = await survivor.ended();
    assert.deepEqual([exit.code, exit.signal, exit.stderr], [0, null, '']);
  }

  await using store = await Store.open(file, { encoding: 'buffer' });
  let keys = 0;
  for await (const [key, value] of store) {
    stampOf(key, value);
    keys++;
  }
  assert.equal(store.size, keys);
  for (let victim = 0; victim < kills.length; victim++) {
    const sequences: number[] = [];
    for (let index = 0; index < keysOfVictim; index++) {
      const key = keyOfVictim(victim, index);
      const value = await store.get(key);
      sequences.push(value === undefined ? 0 : stampOf(key, value).sequence);
    }
    assertNothingMissing(board, victim, sequences);
  }
}

const kills = [
  ['sync', 100],
  ['async', 20_000],
  ['sync', 20_000],
  ['async', 300_000],
  ['sync', 300_000],
  ['async', 100],
] as const;

describe('a writer killed while it holds a lock', () => {
  test('the others go on, nothing acknowledged is missing', async (t) => {
    await surviveKills(new Scene(t, 'killed', false), kills);
  });

  test('the same where all of them have the same PID, in namespaces of their own', async (t) => {
    if (!runsHere(t, 'a PID namespace', TestProcess.pidNamespaceUnavailableReason())) return;
    await surviveKills(new Scene(t, 'killed-in-namespaces', true), kills.slice(0, 4));
  });
});

describe('a writer killed in the middle of a change', () => {
  test('readers without write permission read on, though nobody can mend the file', async (t) => {
    const file = join(directory, 'nobody-mends');
    const boardFile = `${file}-board`;
    using board = new Board(boardFile);
    const victim = startProcess(t, 'victim', [file, boardFile, '0', 'sync', '100']);
    await victim.ready();
    const reader = startProcess(t, 'survivor', [file, '0', 'readOnly']);
    await reader.ready();
    await stopWhen(victim, () => oddVersions(file) > 0);
    await victim.kill();
    assert.ok(oddVersions(file) > 0);
    reader.send('order', { what: 'readVictim', sequence: 0, victim: 0 });
    assertNothingMissing(board, 0, (await reader.message('done')) as number[]);
    assert.ok(oddVersions(file) > 0, 'it has not written');
    reader.send('order', { what: 'close', sequence: 0, victim: 0 });
    await reader.message('done');
    const exit = await reader.ended();
    assert.deepEqual([exit.code, exit.signal, exit.stderr], [0, null, '']);
  });
});

describe('a writer stopped while it holds a lock', () => {
  for (const pidNamespace of [false, true]) {
    const where = pidNamespace ? 'in namespaces where all have the same PID' : 'in one namespace';
    test(`keeps it: the others are told ERR_BUSY, until it goes on, ${where}`, async (t) => {
      if (pidNamespace && !runsHere(t, 'a PID namespace', TestProcess.pidNamespaceUnavailableReason())) return;
      const scene = new Scene(t, `stopped-${pidNamespace}`, pidNamespace);
      await scene.ready();
      const { number, child } = await scene.startVictim('sync', 20_000);
      await stopHoldingLock(child, scene.file);
      const held = heldLocks(scene.file);
      for (const outcome of await scene.order('attempt', { sequence: 1 })) {
        const { done, codes } = outcome as { done: number; codes: string[] };
        assert.ok(done > 0, 'keys of other shards');
        assert.deepEqual(codes, ['ERR_BUSY']);
      }
      assert.equal(heldLocks(scene.file), held, 'nobody took it over');
      child.signal('SIGCONT');
      await scene.order('write', { sequence: 2 });
      await child.kill();
      for (const sequences of await scene.order('readVictim', { victim: number })) {
        assertNothingMissing(scene.board, number, sequences as number[]);
      }
    });
  }
});
