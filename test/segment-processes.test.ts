// Segments between processes: waiting and notifying, processes that die, a full /dev/shm, the counting problem.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { Segment } from 'faultless';
import { startProcess } from './fixtures/start-process.js';
import { run } from './rig/commands.js';
import { pidNamespaceUnavailableReason, runsHere } from './rig/environment.js';
import { endsWith, newSharedName, runScript } from './store-fixture.js';

const head = `import { Segment } from 'faultless';
const segment = Segment.openSync(process.argv[1]);
const words = new Int32Array(segment.buffer);
`;

describe('waiting across processes', () => {
  test('ping and pong', async () => {
    const name = newSharedName();
    using segment = Segment.openSync(name, { size: 16 });
    const words = new Int32Array(segment.buffer);
    const rounds = 500;
    const other = endsWith(
      0,
      `${head}
      for (let i = 0; i < ${rounds}; i++) {
        while (Atomics.load(words, 0) === i) await segment.wait(words, 0, i);
        Atomics.add(words, 1, 1);
        segment.notify(words, 1);
      }`,
      [name],
    );
    for (let i = 0; i < rounds; i++) {
      Atomics.add(words, 0, 1);
      segment.notify(words, 0);
      while (Atomics.load(words, 1) === i)
        assert.notEqual(await segment.wait(words, 1, i, { timeout: 30_000 }), 'timed-out');
    }
    await other;
  });

  test('a pending wait keeps the process alive, and uses no processor and no thread of libuv', async () => {
    const name = newSharedName();
    using segment = Segment.openSync(name, { size: 16 });
    const words = new Int32Array(segment.buffer);
    const other = endsWith(
      0,
      `${head}
      import { pbkdf2 } from 'node:crypto';
      import { statSync } from 'node:fs';
      import { stat } from 'node:fs/promises';
      const before = process.cpuUsage();
      for (let i = 0; i < 100; i++) segment.wait(words, 0, 0, { timeout: 60_000 });
      await new Promise((resolve) => setTimeout(resolve, 300));
      for (let i = 0; i < 20; i++) await stat('.');
      const { user, system } = process.cpuUsage(before);
      if (user + system > 250_000) throw new Error((user + system) + ' µs');
      Atomics.store(words, 1, 1);
      segment.wait(words, 0, 0).then((outcome) => console.log('woken', outcome));`,
      [name],
    );
    while (Atomics.load(words, 1) === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    let woken = 0;
    for (let i = 0; woken < 101 && i < 2_000; i++, await new Promise((resolve) => setTimeout(resolve, 5))) {
      woken += segment.notify(words, 0);
    }
    assert.equal(woken, 101);
    assert.match(await other, /woken ok/);
  });

  test('the waits of a killed process take no notification from the living', async (t) => {
    const name = newSharedName();
    using segment = Segment.openSync(name, { size: 16 });
    const words = new Int32Array(segment.buffer);
    const child = startProcess(t, 'waiting', [name]);
    await child.ready();
    await child.kill();
    const mine = segment.wait(words, 0, 0);
    assert.equal(segment.notify(words, 0, 1), 1);
    assert.equal(await mine, 'ok');
    // And their places are used again.
    const all = Array.from({ length: 16_384 }, () => segment.wait(words, 0, 0));
    assert.equal(segment.notify(words, 0), all.length);
    await Promise.all(all);
  });
});

describe('a full /dev/shm', () => {
  test('is ERR_NO_SPACE at creation, never a fault, and leaves nothing behind', async (t) => {
    if (!runsHere(t, 'a /dev/shm of its own', pidNamespaceUnavailableReason())) return;
    const script = `
      import { readdirSync } from 'node:fs';
      import { Segment } from 'faultless';
      const codes = [];
      for (const size of [64 << 20, 4 << 20, 2 << 20]) {
        await Segment.open('shm:full', { size }).catch((error) => codes.push(error.code));
        try { Segment.openSync('shm:full', { size }); } catch (error) { codes.push(error.code); }
      }
      if (codes.join() !== Array(6).fill('ERR_NO_SPACE').join()) throw new Error(codes);
      if (readdirSync('/dev/shm').length > 0) throw new Error(readdirSync('/dev/shm').join());
      const segment = Segment.openSync('shm:fits', { size: 1 << 20 });
      new Uint8Array(segment.buffer).fill(1);
      // The table of waits grows as far as there is room.
      const words = new Int32Array(segment.buffer);
      const some = Array.from({ length: 16_000 }, () => segment.wait(words, 0, 0x01010101).catch((error) => error.code));
      segment.notify(words, 0);
      console.log([...new Set(await Promise.all(some))].join());`;
    const shell = 'mount -t tmpfs -o size=1200k none /dev/shm && cd "$PLACE" && exec "$0" "$@"';
    const node = [process.execPath, '--input-type=module', '--eval', script];
    const stdout = await run('unshare', ['--mount', 'sh', '-c', shell.replace('$PLACE', import.meta.dirname), ...node]);
    assert.match(stdout, /^ok,ERR_NO_SPACE$/m);
  });
});

describe('the counting problem', () => {
  for (const children of [1, 2, 4]) {
    test(`every value counted by ${children} processes`, async () => {
      const name = newSharedName();
      const numbers = 20_000;
      const values = 100;
      using segment = Segment.openSync(name, { size: (numbers + values) * 4 });
      const all = new Int32Array(segment.buffer);
      const expected = new Int32Array(values);
      for (let i = 0; i < numbers; i++) {
        const value = (i * 7919) % values;
        all[i] = value;
        expected[value] = (expected[value] as number) + 1;
      }
      const script = `${head}
        const [, , first, step] = process.argv.map(Number);
        for (let value = first; value < ${values}; value += step) {
          let count = 0;
          for (let i = 0; i < ${numbers}; i++) if (words[i] === value) count++;
          words[${numbers} + value] = count;
        }`;
      const runs = Array.from({ length: children }, (_, i) => runScript(script, [name, String(i), String(children)]));
      for (const { code, output } of await Promise.all(runs)) assert.equal(code, 0, output);
      assert.deepEqual(all.subarray(numbers), expected);
    });
  }
});

test('the waiting thread is one, however much waits', async () => {
  const script = `${head}
    import { readdirSync } from 'node:fs';
    const threads = () => readdirSync('/proc/self/task').length;
    const before = threads();
    const others = Array.from({ length: 50 }, () => Segment.openSync(process.argv[1]));
    for (const other of others) other.wait(new Int32Array(other.buffer), 0, 0).catch(() => {});
    console.log('threads', threads() - before);
    for (const other of others) other.close();`;
  const name = newSharedName();
  using _ = Segment.openSync(name, { size: 16 });
  assert.match(await endsWith(0, script, [name]), /threads 1\n/);
  assert.ok(readFileSync('/proc/self/status', 'utf8').includes('Threads'));
});
