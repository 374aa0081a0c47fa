// What other shared stores and maps fell into, one test each. (Killed lock holders, also with the same PID in two
// namespaces: processes.test.ts.)
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, type TestContext, test } from 'node:test';
import { Store } from 'faultless';
import { prepare } from './fixtures/prepared-store.js';
import { startProcess } from './fixtures/start-process.js';
import { holdsWithin, run } from './rig/commands.js';
import type { TestProcess } from './rig/process-tools.js';
import { SlowDisk } from './rig/slow-disk.js';
import { endsWith, rejects, throws } from './store-fixture.js';

const directory = mkdtempSync(join(tmpdir(), 'faultless-traps-'));
after(() => rmSync(directory, { recursive: true, force: true }));

let files = 0;
const newPath = (): string => join(directory, `store-${files++}`);

async function endsWell(child: TestProcess): Promise<void> {
  const exit = await child.ended();
  assert.deepEqual([exit.code, exit.signal, exit.stderr], [0, null, '']);
}

/** What another process sees. */
async function seenElsewhere(t: TestContext, file: string, key: string): Promise<unknown> {
  const visitor = startProcess(t, 'visitor', [file, key, 'readOnly']);
  const value = await visitor.ready();
  visitor.send('close');
  await endsWell(visitor);
  return value;
}

for (const mode of ['readOnly', 'writable']) {
  test(`closing in another process, opened ${mode}, does not shrink the file under a writer`, async (t) => {
    const file = newPath();
    await using store = await Store.open(file);
    await store.set('key', 'first');
    const visitor = startProcess(t, 'visitor', [file, 'key', mode]);
    assert.equal(await visitor.ready(), 'first');
    for (let i = 0; i < 2000; i++) void store.set(`key-${i}`, 'x'.repeat(1000));
    await store.set('key', 'second');
    const { size } = statSync(file);
    visitor.send('close');
    await endsWell(visitor);
    assert.equal(statSync(file).size, size);
    for (let i = 0; i < 2000; i++) assert.equal(await store.get(`key-${i}`), 'x'.repeat(1000));
    for (let i = 0; i < 2000; i++) void store.set(`other-${i}`, 'x'.repeat(1000));
    await store.set('key', 'third');
    assert.equal(await seenElsewhere(t, file, 'key'), 'third');
    assert.equal(store.size, 4001);
  });
}

test('Buffers are good after close, and after the file is gone', async () => {
  const script = `
    import { readFileSync, rmSync } from 'node:fs';
    import { Store } from 'faultless';
    const path = process.argv[1];
    const sizes = [0, 1, 100, 5000, 70_000, 3 << 20];
    const made = sizes.map((size, i) => Buffer.alloc(size, i + 1));
    let store = await Store.open(path, { encoding: 'buffer' });
    await store.setMany(made.map((value, i) => ['key' + i, value]));
    const got = [];
    for (let i = 0; i < sizes.length; i++) {
      got.push([i, await store.get('key' + i)], [i, store.getSync('key' + i)]);
      const now = store.tryGet('key' + i);
      if (typeof now === 'object') got.push([i, now]);
    }
    got.push(...(await store.getMany(sizes.map((_, i) => 'key' + i))).map((value, i) => [i, value]));
    for await (const [key, value] of store) got.push([Number(key.slice(3)), value]);
    for (const [key, value] of store.entriesSync()) got.push([Number(key.slice(3)), value]);
    await store.close();
    store = undefined;
    rmSync(path);
    for (let turn = 0; readFileSync('/proc/self/maps', 'utf8').includes(path); turn++) {
      if (turn === 500) throw new Error('is still mapped');
      gc();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    if (got.length < 30) throw new Error(got.length + ' values');
    for (const [i, value] of got) {
      if (!value.equals(made[i])) throw new Error('value ' + i);
      value.fill(77);
    }`;
  await endsWith(0, script, [newPath()], ['--expose-gc']);
});

test('a key with a NUL byte is not cut short', async (t) => {
  const file = newPath();
  const keys = ['a', 'a\0', 'a\0b', 'a\0c', '\0', '\0\0', '\0a'];
  {
    await using store = await Store.open(file);
    for (const key of keys) await store.set(key, `value of ${JSON.stringify(key)}`);
    assert.equal(await store.delete('a\0c'), true);
    assert.equal(store.size, keys.length - 1);
  }
  await using store = await Store.open(file);
  const left = keys.filter((key) => key !== 'a\0c');
  for (const key of left) assert.equal(await store.get(key), `value of ${JSON.stringify(key)}`);
  assert.equal(await store.get('a\0c'), undefined);
  const found: string[] = [];
  for await (const key of store.keys()) found.push(key);
  assert.deepEqual(found.sort(), left.sort());
  assert.equal(await seenElsewhere(t, file, 'a'), 'value of "a"');
});

test('deleting a value does not bring the previous one back, whatever happens afterwards', async (t) => {
  const file = newPath();
  const keys = Array.from({ length: 200 }, (_, i) => `key-${i}`);
  const assertAbsent = async (store: Store, when: string): Promise<void> => {
    assert.deepEqual(await store.getMany(keys), Array(keys.length).fill(undefined), when);
    for await (const key of store.keys()) assert.ok(!keys.includes(key), `${key} ${when}`);
  };
  {
    await using store = await Store.open(file);
    for (const value of ['first', 'second', 'third']) {
      await Promise.all(keys.map((key) => store.set(key, value)));
      await store.flush();
    }
    assert.equal(await store.deleteMany(keys), keys.length);
    await assertAbsent(store, 'at once');
    await store.flush();
    await assertAbsent(store, 'after flush');
    // Space is reclaimed many times over.
    for (let i = 0; i < 30_000; i++) void store.set(`other-${i % 10}`, 'x'.repeat(1000));
    await store.flush();
    await assertAbsent(store, 'after cleaning');
    assert.equal(await seenElsewhere(t, file, 'key-7'), undefined);
  }
  {
    await using store = await Store.open(file);
    await assertAbsent(store, 'after reopening');
    await store.set('key-0', 'again');
    await store.delete('key-0');
  }
  const killed = `
    import { Store } from 'faultless';
    const store = await Store.open(process.argv[1]);
    await store.set('key-1', 'again');
    await store.delete('key-1');
    process.kill(process.pid, 'SIGKILL');`;
  await assert.rejects(endsWith(0, killed, [file]), /SIGKILL/);
  await using store = await Store.open(file);
  await assertAbsent(store, 'after a kill');
});

test('opening with another maxBytes is ERR_FORMAT, and changes nothing', async (t) => {
  const file = newPath();
  const maxBytes = 16 * 2 ** 20;
  const store = await Store.open(file, { maxBytes });
  await store.set('key', 'value');
  for (const other of [maxBytes / 2, maxBytes * 2, 2 ** 40]) {
    await rejects(Store.open(file, { maxBytes: other }), 'ERR_FORMAT');
    throws(() => Store.openSync(file, { maxBytes: other }), 'ERR_FORMAT');
  }
  const script = (given: string): string => `
    import { Store } from 'faultless';
    const store = await Store.open(process.argv[1], { maxBytes: ${given} });
    if (store.stats().maxBytes !== ${maxBytes}) process.exit(3);
    await store.set('elsewhere', 'x'.repeat(100_000));
    await store.close();`;
  await assert.rejects(endsWith(0, script(`${maxBytes * 4}`), [file]), /ERR_FORMAT/);
  await endsWith(0, script(`${maxBytes}`), [file]);
  await endsWith(0, script('undefined'), [file]);
  assert.equal(await store.get('elsewhere'), 'x'.repeat(100_000));
  await store.close();
  await rejects(Store.open(file, { maxBytes: maxBytes * 2 }), 'ERR_FORMAT');
  assert.equal(await seenElsewhere(t, file, 'key'), 'value');
});

test('writing one key again and again needs no more space, and ends nothing', async () => {
  const file = newPath();
  await using store = await Store.open(file);
  for (let i = 0; i < 17; i++) await store.set('key', i);
  assert.equal(await store.get('key'), 16);
  for (let i = 0; i < 100_000; i++) void store.set('key', `${i}${'x'.repeat(500)}`);
  for (let i = 0; i < 20_000; i++) store.setSync('key', `${i}${'x'.repeat(500)}`);
  assert.equal(await store.get('key'), `19999${'x'.repeat(500)}`);
  assert.equal(store.size, 1);
  assert.ok(statSync(file).size <= 4 * 2 ** 20, `${statSync(file).size} bytes`);
});

test('closing one of two opens, or any descriptor of the file, drops no lock of the process', async () => {
  const script = `
    import { closeSync, openSync, readFileSync, statSync } from 'node:fs';
    import { open } from 'node:fs/promises';
    import { MappedFile, Store } from 'faultless';
    const path = process.argv[1];
    const store = await Store.open(path);
    const { ino } = statSync(path);
    const locks = () => readFileSync('/proc/locks', 'utf8').split('\\n')
      .filter((line) => new RegExp(':' + ino + ' ').test(line)).map((line) => line.replace(/^\\d+: /, '')).sort();
    const before = locks();
    if (before.length === 0 || before.some((line) => !line.startsWith('OFDLCK'))) throw new Error(before.join('; '));
    const check = (what) => {
      if (locks().join() !== before.join()) throw new Error(what + ': ' + before.join('; ') + ' became ' + locks().join('; '));
    };
    closeSync(openSync(path, 'r'));
    closeSync(openSync(path, 'r+'));
    await (await open(path, 'r+')).close();
    check('descriptors');
    await (await Store.open(path)).close();
    Store.openSync(path).closeSync();
    await (await Store.open(path, { readOnly: true })).close();
    check('stores');
    await (await MappedFile.open(path)).close();
    check('a MappedFile');
    await store.close();
    if (locks().length !== 0) throw new Error(locks().join('; '));`;
  await endsWith(0, script, [newPath()]);
});

for (const when of ['while it is open', 'while it is closed']) {
  test(`a hole punched into the file ${when} reads as nothing or as damage, never as a value`, async (t) => {
    const file = newPath();
    await prepare(file);
    const { size } = statSync(file);
    // Single pages and larger pieces behind the control region's 512 KiB.
    const punch = async (): Promise<void> => {
      for (let offset = 2 ** 19 + 4096, pages = 1; offset < size; offset += 8 * 4096, pages = (pages % 4) + 1) {
        await run('fallocate', ['--punch-hole', '--offset', `${offset}`, '--length', `${pages * 4096}`, file]);
      }
    };
    if (when === 'while it is closed') await punch();
    const child = startProcess(t, 'punched-store', [file]);
    await child.ready();
    if (when === 'while it is open') await punch();
    child.send('punched');
    const { damaged, absent } = (await child.message('result', 60_000)) as { damaged: number; absent: number };
    assert.ok(damaged + absent > 100, `${damaged} damaged, ${absent} absent`);
    await endsWell(child);
  });
}

test('the kernel’s word about the pages of somebody else’s file is not taken: COLD or right, and get works', async (t) => {
  const disk = await SlowDisk.forTest(t, { sizeMiB: 64 });
  if (disk === undefined) return;
  const file = join(disk.directory, 'store');
  await prepare(file);
  chmodSync(file, 0o644);
  chmodSync(dirname(disk.directory), 0o755);
  await disk.dropCaches();
  const child = startProcess(t, 'unprivileged-reader', [file]);
  await child.ready();
  await disk.pause();
  child.send('paused');
  assert.ok(await holdsWithin(30_000, () => disk.statistics().inFlight > 0), 'get asks the device');
  assert.equal(await child.message('tried'), 100, 'all of them are cold');
  await disk.resume();
  child.send('resumed');
  await child.message('answered');
  await endsWell(child);
});

test('a flush that failed stays failed: the next one does not say that all is well', async (t) => {
  const disk = await SlowDisk.forTest(t, { sizeMiB: 64, journal: false });
  if (disk === undefined) return;
  const child = startProcess(t, 'failing-flush', [join(disk.directory, 'store')]);
  await child.ready();
  disk.failWrites(true);
  child.send('failing');
  await child.message('failed');
  disk.failWrites(false);
  child.send('working');
  await child.message('reopened');
  await endsWell(child);
});
