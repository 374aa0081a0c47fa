// verify(): the report, its progress, aborting it. What kinds of damage it finds is tested natively.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Store } from 'faultless';
import { damage, newPath, newSharedName, rejects, wrong } from './store-fixture.js';

const count = 5000;
const large = 'x'.repeat(1 << 20);

async function fill(store: Store<string>): Promise<void> {
  await store.setMany(Array.from({ length: count }, (_, i) => [`key${i}`, `value${i}`] as const));
  await store.setMany(Array.from({ length: 8 }, (_, i) => [`large${i}`, `${i}${large}`] as const));
}

describe('verify', () => {
  test('a sound store, with progress', async () => {
    for (const location of [newPath(), newSharedName()]) {
      await using store = await Store.open(location, { encoding: 'utf8' });
      await fill(store);
      const progress: [number, number][] = [];
      const report = await store.verify({ onProgress: (done, total) => progress.push([done, total]) });
      assert.deepEqual(report.damaged, []);
      assert.ok(report.records >= count + 8, `${report.records} records`);
      assert.ok(report.bytes >= 8 * large.length, `${report.bytes} bytes`);
      assert.ok(progress.length > 0);
      const [, total] = progress[0] as [number, number];
      progress.forEach(([done, all], i) => {
        assert.ok(all === total && done >= (progress[i - 1]?.[0] ?? 0) && done <= total);
      });
      assert.equal(progress.at(-1)?.[0], total);
    }
  });

  test('damage is told, and thrown by nobody but who meets it', async () => {
    const path = newPath();
    const writable = await Store.open(path, { encoding: 'utf8' });
    await fill(writable);
    await writable.close();
    const position = damage(path, 'value1234');
    for (const readOnly of [true, false]) {
      await using store = await Store.open(path, { encoding: 'utf8', readOnly });
      const { damaged } = await store.verify();
      assert.equal(damaged.length, 1);
      const [{ offset, reason }] = damaged as [{ offset: number; reason: string }];
      assert.ok(offset < position && offset > position - 64, `${offset}, and the damage is at ${position}`);
      assert.match(reason, /checksum/);
      await rejects(store.get('key1234'), 'ERR_CORRUPT');
      assert.equal(await store.get('key1235'), 'value1235');
    }
  });

  test('while others write', async () => {
    await using store = await Store.open(newPath(), { encoding: 'utf8' });
    await fill(store);
    let over = false;
    const writing = (async () => {
      for (let round = 0; !over; round++) {
        await store.setMany(Array.from({ length: 200 }, (_, i) => [`key${(round * 200 + i) % count}`, `${round}`]));
        await store.set(`large${round % 8}`, `${round}${large}`);
      }
    })();
    for (let i = 0; i < 5; i++) assert.deepEqual((await store.verify()).damaged, []);
    over = true;
    await writing;
  });

  test('abort', async () => {
    await using store = await Store.open(newPath(), { encoding: 'utf8' });
    await fill(store);
    const reason = new Error('enough');
    await assert.rejects(store.verify({ signal: AbortSignal.abort(reason) }), reason);
    const controller = new AbortController();
    const verification = store.verify({ signal: controller.signal });
    controller.abort(reason);
    await assert.rejects(verification, reason);
    const between = new AbortController();
    let steps = 0;
    const onProgress = () => {
      if (++steps === 1) between.abort(reason);
    };
    await assert.rejects(store.verify({ signal: between.signal, onProgress }), reason);
    assert.equal(steps, 1);
    assert.deepEqual((await store.verify()).damaged, []);
  });

  test('close() waits for it; what onProgress throws ends it', async () => {
    const store = await Store.open(newPath(), { encoding: 'utf8' });
    await fill(store);
    const thrown = new Error('mine');
    const throwing = () => {
      throw thrown;
    };
    await assert.rejects(store.verify({ onProgress: throwing }), thrown);
    const verification = store.verify();
    await store.close();
    assert.deepEqual((await verification).damaged, []);
    await rejects(store.verify(), 'ERR_CLOSED');
  });

  test('wrong arguments', async () => {
    await using store = await Store.open(newPath());
    await rejects(store.verify(wrong(1)), 'ERR_INVALID_ARG_TYPE', TypeError);
    await rejects(store.verify({ signal: wrong({}) }), 'ERR_INVALID_ARG_TYPE', TypeError);
    await rejects(store.verify({ onProgress: wrong('f') }), 'ERR_INVALID_ARG_TYPE', TypeError);
  });
});
