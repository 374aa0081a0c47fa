// Temporary stores: gone with the last process that has them open, however it ends.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readlinkSync, statfsSync, writeFileSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { Store } from 'faultless';
import { startProcess } from './fixtures/start-process.js';
import { holdsWithin } from './rig/commands.js';
import { runsHere } from './rig/environment.js';
import { TestProcess } from './rig/process-tools.js';
import { newPath, newSharedName, rejects, throws, wrong } from './store-fixture.js';

const fileOf = (location: string): string =>
  location.startsWith('shm:') ? `/dev/shm/faultless.${location.slice(4)}` : location;

/** Starts a process that has the store open; answers it, and how many keys it has found. */
async function user(t: TestContext, location: string, how = 'opens', options = {}): Promise<[TestProcess, unknown]> {
  const child = startProcess(t, 'temporary-user', [location, how], options);
  return [child, await child.message('ready')];
}

for (const [place, newLocation] of [
  ['disk', newPath],
  ['RAM', newSharedName],
] as const) {
  describe(`a temporary store, ${place}`, () => {
    test('is shared while somebody has it open, and gone when the last one has closed it', async (t) => {
      const location = newLocation();
      const store = await Store.open<number>(location, { temporary: true });
      assert.equal(store.location, location);
      await store.set('here', 1);
      const [first, seen] = await user(t, location);
      assert.equal(seen, 2);
      const [second, seenByJoining] = await user(t, location, 'joins');
      assert.equal(seenByJoining, 3);
      assert.equal(await store.get(String(second.pid)), second.pid);
      await using reader = await Store.open<number>(location, { readOnly: true });
      assert.equal(await reader.get('here'), 1);
      await reader.close();
      // Who made it may go first.
      await store.close();
      first.send('stop');
      await first.message('over');
      const [third, seenByThird] = await user(t, location);
      assert.equal(seenByThird, 4);
      for (const child of [second, third]) child.send('stop');
      for (const child of [second, third]) await child.message('over');
      assert.ok(!existsSync(fileOf(location)));
      await rejects(Store.open(location, { create: false }), 'ERR_NOT_FOUND');
      await using again = await Store.open(location, { temporary: true });
      assert.equal(again.size, 0);
    });

    test('outlives those who are killed, but not the last of them', async (t) => {
      const location = newLocation();
      const users: TestProcess[] = [];
      for (let i = 0; i < 3; i++) users.push((await user(t, location))[0]);
      await users[0]?.kill();
      const [next, seen] = await user(t, location);
      assert.equal(seen, 4, 'what the killed one wrote is there');
      users.push(next);
      for (const child of users) await child.kill();
      // Its name is nobody's.
      await rejects(Store.open(location, { create: false }), 'ERR_NOT_FOUND');
      await rejects(Store.open(location, { readOnly: true }), 'ERR_NOT_FOUND');
      const [late, seenByLate] = await user(t, location);
      assert.equal(seenByLate, 1, 'a new one');
      await rejects(Store.open(location, { temporary: true, exclusive: true }), 'ERR_EXISTS');
      await late.kill();
      await using exclusive = await Store.open(location, { temporary: true, exclusive: true });
      assert.equal(exclusive.size, 0);
    });

    test('takes no space when the last one is killed', async (t) => {
      const location = newLocation();
      const free = (): number => {
        const { bfree, bsize } = statfsSync(dirname(fileOf(location)));
        return bfree * bsize;
      };
      const [child] = await user(t, location);
      const bytes = 64 * 2 ** 20;
      const filler = await Store.open(location, { encoding: 'auto' });
      for (let i = 0; i < bytes / 2 ** 20; i++) await filler.set(`large ${i}`, Buffer.alloc(2 ** 20, i));
      await filler.close();
      const before = free();
      await child.kill();
      // Others use the filesystem, too.
      assert.ok(await holdsWithin(30_000, () => free() > before + bytes / 2), `${free() - before} bytes came back`);
    });

    test('many come and go at once, and some are killed: there is one store at any time', async (t) => {
      const location = newLocation();
      const holder = await Store.open<number>(location, { temporary: true });
      await holder.set('holder', 0);
      const rounds = 6;
      for (let round = 0; round < rounds; round++) {
        const all = await Promise.all(Array.from({ length: 5 }, () => user(t, location)));
        for (const [child, seen] of all) {
          assert.ok((seen as number) >= 2, `${seen}`);
          assert.equal(await holder.get(String(child.pid)), child.pid);
        }
        await Promise.all(
          all.map(async ([child], i) => {
            if (i % 2 === 0) return child.kill();
            child.send('stop');
            return child.message('over');
          }),
        );
      }
      assert.equal(holder.size, 1 + 5 * rounds);
      await holder.close();
      assert.ok(!existsSync(fileOf(location)));
    });

    test('several Stores of one process, and a failing open: each counts', async () => {
      const location = newLocation();
      const first = await Store.open(location, { temporary: true, encoding: 'utf8' });
      const second = Store.openSync(location, { temporary: true, encoding: 'utf8' });
      await rejects(Store.open(location, { temporary: true, encoding: 'json' }), 'ERR_FORMAT');
      await first.set('key', 'value');
      await first.close();
      assert.equal(second.getSync('key'), 'value');
      await rejects(Store.open(location, { temporary: true, maxBytes: 2 ** 25 }), 'ERR_FORMAT');
      assert.equal(second.getSync('key'), 'value');
      second.closeSync();
      assert.ok(!existsSync(fileOf(location)));
      const open = readdirSync('/proc/self/fd').filter((fd) => {
        try {
          return readlinkSync(`/proc/self/fd/${fd}`).includes(basename(fileOf(location)));
        } catch {
          return false;
        }
      });
      assert.deepEqual(open, []);
    });

    test('can be destroyed: who has it open goes on, the next one makes another', async () => {
      const location = newLocation();
      const store = await Store.open<number>(location, { temporary: true });
      await store.set('key', 1);
      await Store.destroy(location);
      assert.equal(await store.get('key'), 1);
      await using other = await Store.open<number>(location, { temporary: true });
      assert.equal(other.size, 0);
      await store.close();
      await other.set('key', 2);
      await using joined = await Store.open<number>(location);
      assert.equal(await joined.get('key'), 2);
    });

    test('all of it works: flush, clean-up, compaction, verification, backup', async () => {
      const location = newLocation();
      await using store = await Store.open(location, { temporary: true, encoding: 'buffer' });
      for (let round = 0; round < 20; round++) {
        await store.setMany(Array.from({ length: 1000 }, (_, i) => [`${i}`, Buffer.alloc(1000, round)] as const));
        await store.set('large', Buffer.alloc(300_000, round), { durability: 'system' });
      }
      await store.flush();
      const { fileBytes, freeBytes, liveBytes } = store.stats();
      assert.ok(fileBytes - freeBytes < 4 * liveBytes, JSON.stringify(store.stats()));
      await store.compact();
      assert.deepEqual((await store.verify()).damaged, []);
      const copy = newPath();
      await store.backup(copy);
      await using restored = await Store.open(copy, { encoding: 'buffer' });
      assert.equal(restored.size, 1001);
      assert.deepEqual(await restored.get('large'), Buffer.alloc(300_000, 19));
    });
  });
}

describe('temporary stores and other things', () => {
  test('what is there and no temporary store stays as it is', async () => {
    const path = newPath();
    const store = await Store.open<number>(path);
    await store.set('key', 1);
    await rejects(Store.open(path, { temporary: true }), 'ERR_FORMAT');
    throws(() => Store.openSync(path, { temporary: true }), 'ERR_FORMAT');
    await store.close();
    await rejects(Store.open(path, { temporary: true }), 'ERR_FORMAT');
    const foreign = newPath();
    writeFileSync(foreign, 'not one of ours'.repeat(1000));
    await rejects(Store.open(foreign, { temporary: true }), 'ERR_FORMAT');
    for (const temporary of [1, 'yes', null]) {
      await rejects(Store.open(newPath(), wrong({ temporary })), 'ERR_INVALID_ARG_TYPE', TypeError);
    }
    await rejects(Store.open(newPath(), { temporary: true, readOnly: true }), 'ERR_NOT_FOUND');
    await rejects(Store.open('/nowhere/at/all', { temporary: true }), 'ERR_NOT_FOUND');
    await using again = await Store.open<number>(path);
    assert.equal(await again.get('key'), 1);
  });

  test('a damaged door is ERR_FORMAT, or a store that nobody has', async () => {
    const path = newPath();
    const bytes = Buffer.alloc(64 + 8 * 512);
    bytes.write('FLDOOR01');
    for (let i = 8; i < bytes.length; i++) bytes[i] = i * 31;
    writeFileSync(path, bytes);
    await rejects(Store.open(path, { create: false }), 'ERR_NOT_FOUND');
    {
      await using store = await Store.open<number>(path, { temporary: true });
      await store.set('key', 1);
    }
    assert.ok(!existsSync(path));
    writeFileSync(path, bytes.subarray(0, 1000));
    await rejects(Store.open(path, { temporary: true }), 'ERR_FORMAT');
  });

  test('is out of reach from another PID namespace, and not split', async (t) => {
    if (!runsHere(t, 'a PID namespace', TestProcess.pidNamespaceUnavailableReason())) return;
    const path = newPath();
    await using store = await Store.open<number>(path, { temporary: true });
    await store.set('key', 1);
    const [, answer] = await user(t, path, 'opens', { pidNamespace: true });
    assert.equal(answer, 'ERR_UNSUPPORTED');
    assert.equal(store.size, 1);
  });
});
