// What a store tells on node:diagnostics_channel.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import diagnostics from 'node:diagnostics_channel';
import { describe, type TestContext, test } from 'node:test';
import {
  Store,
  type StoreErrorMessage,
  type StoreGrowthMessage,
  type StoreOpenMessage,
  type StoreProgressMessage,
  type StoreSlowMessage,
} from 'faultless';
import { SlowDisk } from './rig/slow-disk.js';
import { newPath, newSharedName, rejects, throws } from './store-fixture.js';

/** What comes on a channel for as long as the test runs. */
function heard<Message>(t: TestContext, name: string): Message[] {
  const messages: Message[] = [];
  const listener = (message: unknown): void => void messages.push(message as Message);
  diagnostics.subscribe(`faultless:store:${name}`, listener);
  t.after(() => diagnostics.unsubscribe(`faultless:store:${name}`, listener));
  return messages;
}

describe('diagnostics channels', () => {
  test('open and close, in both ways', async (t) => {
    const opened = heard<StoreOpenMessage>(t, 'open');
    const closed = heard<StoreOpenMessage>(t, 'close');
    const name = newSharedName();
    const store = await Store.open(name);
    const reader = Store.openSync(name, { readOnly: true });
    assert.deepEqual(
      opened.map(({ location, readOnly }) => ({ location, readOnly })),
      [
        { location: name, readOnly: false },
        { location: name, readOnly: true },
      ],
    );
    reader.closeSync();
    reader.closeSync();
    await store.close();
    await store.close();
    assert.deepEqual(
      closed.map(({ location, readOnly }) => ({ location, readOnly })),
      [
        { location: name, readOnly: true },
        { location: name, readOnly: false },
      ],
    );
    for (const { durationMs } of [...opened, ...closed]) assert.ok(durationMs >= 0 && durationMs < 60_000);
  });

  test('growth, by this process and as it shows after a write of others', async (t) => {
    const grown = heard<StoreGrowthMessage>(t, 'growth');
    const name = newSharedName();
    await using store = await Store.open(name, { encoding: 'buffer' });
    const before = store.stats().fileBytes;
    for (let i = 0; i < 40; i++) await store.set(`${i}`, Buffer.alloc(1_000_000));
    assert.ok(grown.length > 0);
    let size = before;
    for (const { location, fileBytes, previousFileBytes } of grown) {
      assert.deepEqual([location, previousFileBytes], [name, size]);
      assert.ok(fileBytes > size);
      size = fileBytes;
    }
    assert.equal(size, store.stats().fileBytes);
    for (let i = 0; i < 40; i++) store.setSync(`more ${i}`, Buffer.alloc(1_000_000));
    assert.equal(grown.at(-1)?.fileBytes, store.stats().fileBytes);
  });

  test('errors, with the operation; neither wrong arguments nor aborts', async (t) => {
    const failed = heard<StoreErrorMessage>(t, 'error');
    const path = newPath();
    await rejects(Store.open(path, { create: false }), 'ERR_NOT_FOUND');
    throws(() => Store.openSync(path, { create: false }), 'ERR_NOT_FOUND');
    await using store = await Store.open<any>(path);
    await store.set('text', 'no number');
    await rejects(store.increment('text'), 'ERR_NOT_A_NUMBER');
    await rejects(store.set('', 1), 'ERR_KEY_EMPTY');
    await assert.rejects(store.get('text', { signal: AbortSignal.abort() }), { name: 'AbortError' });
    await assert.rejects(
      store.update('text', () => assert.fail('thrown by the caller')),
      /thrown by the caller/,
    );
    assert.deepEqual(
      failed.map(({ location, operation, error }) => [location, operation, error.code]),
      [
        [path, 'open', 'ERR_NOT_FOUND'],
        [path, 'open', 'ERR_NOT_FOUND'],
        [path, 'increment', 'ERR_NOT_A_NUMBER'],
      ],
    );
  });

  test('recovery and compaction tell how far they are', async (t) => {
    const recovered = heard<StoreProgressMessage>(t, 'recovery');
    const compacted = heard<StoreProgressMessage>(t, 'compaction');
    const path = newPath();
    const copy = newPath();
    await using store = await Store.open(path);
    await store.setMany(Array.from({ length: 5000 }, (_, i) => [`${i}`, 'x'.repeat(100)] as const));
    await store.flush();
    assert.equal(recovered.length, 0);
    execFileSync('cp', [path, copy]); // of an open file: it must be recovered
    await (await Store.open(copy)).close();
    const end = recovered.at(-1);
    assert.ok(end !== undefined && end.location === copy && end.done === end.total, JSON.stringify(end));
    await store.compact();
    const last = compacted.at(-1);
    assert.ok(last !== undefined && last.location === path && last.done === last.total, JSON.stringify(last));
  });

  test('slow operations: how long they had no thread, and how long one', async (t) => {
    const disk = await SlowDisk.forTest(t, { sizeMiB: 64 });
    if (disk === undefined) return;
    const slow = heard<StoreSlowMessage>(t, 'slow');
    const path = `${disk.directory}/store`;
    await using store = await Store.open(path, { encoding: 'buffer' });
    await store.set('cold', Buffer.alloc(1000));
    await store.get('cold');
    await store.flush();
    await store.close();
    await disk.dropCaches();
    await using again = await Store.open(path, { encoding: 'buffer' });
    await disk.pause();
    const reads = Promise.all([again.get('cold'), again.has('cold')]);
    // As long as the disk stands still it takes.
    await new Promise((resolve) => setTimeout(resolve, 150));
    await disk.resume();
    await reads;
    assert.equal(slow.length, 1);
    const [message] = slow as [StoreSlowMessage];
    assert.equal(message.location, path);
    assert.deepEqual([message.operations, message.kinds], [2, ['get', 'has']]);
    assert.ok(message.durationMs >= 100 && message.workedMs > 50, JSON.stringify(message));
    assert.ok(message.waitedMs + message.workedMs <= message.durationMs + 5, JSON.stringify(message));
  });
});
