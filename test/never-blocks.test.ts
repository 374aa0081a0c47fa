// The event loop waits for no device: with the disk of a store stopped dead it goes on turning, and so does everything
// that needs another disk. No clock decides: while the disk is paused, what needs it cannot end.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, type TestContext, test } from 'node:test';
import {
  prepareMap,
  prepareStore,
  probes,
  type Scene,
  stats,
  type Turned,
  turns,
} from './fixtures/paused-disk-scene.js';
import { startProcess } from './fixtures/start-process.js';
import { holdsWithin } from './rig/commands.js';
import { processStat } from './rig/proc.js';
import type { TestProcess } from './rig/process-tools.js';
import { SlowDisk } from './rig/slow-disk.js';

const elsewhere = mkdtempSync(join(tmpdir(), 'faultless-elsewhere-'));
after(() => rmSync(elsewhere, { recursive: true, force: true }));

interface Stage {
  disk: SlowDisk;
  child: TestProcess;
}

function sceneOn({ directory }: SlowDisk, stores: string[], probe: Scene['probe']): Scene {
  const on = (name: string): string => join(directory, name);
  return { files: stores.map(on), unopened: [on('unopened')], map: on('map'), elsewhere, probe };
}

/** The child has everything open, the disk is paused, and calls that need it are on their way. */
async function pauseUnder(
  t: TestContext,
  threads: 'main' | 'workers',
  scenes: Scene[],
  disk: SlowDisk,
): Promise<Stage> {
  for (const file of new Set(scenes.flatMap((scene) => [...scene.files, ...scene.unopened]))) await prepareStore(file);
  for (const file of new Set(scenes.map((scene) => scene.map))) await prepareMap(file);
  await disk.dropCaches();
  const child = startProcess(t, 'paused-disk', [threads, ...scenes.map((scene) => JSON.stringify(scene))]);
  await child.ready();
  await disk.pause();
  child.send('paused');
  await child.message('pending');
  assert.ok(await holdsWithin(30_000, () => disk.statistics().inFlight > 0), 'the device was asked');
  return { disk, child };
}

/** Everything is answered once the disk goes on. */
async function finish({ disk, child }: Stage): Promise<void> {
  await disk.resume();
  await child.message('answered', 60_000);
  const exit = await child.ended();
  assert.deepEqual([exit.code, exit.signal, exit.stderr], [0, null, '']);
}

function assertTurned(turned: Turned, stores: number): void {
  assert.ok(turned.pending > 200 * stores && turned.pending > 0);
  assert.deepEqual(turned, {
    turns,
    stats,
    elsewhere: stats,
    cold: probes * stores,
    settled: 0,
    pending: turned.pending,
  });
}

describe('while the disk is paused', () => {
  test('the loop turns, fs.stat and stores elsewhere answer, tryGet says COLD', async (t) => {
    const disk = await SlowDisk.forTest(t, { sizeMiB: 64 });
    if (disk === undefined) return;
    const scene = sceneOn(disk, ['store'], 'tryGet');
    const stage = await pauseUnder(t, 'main', [scene], disk);
    const { reads } = disk.statistics();
    assertTurned((await stage.child.message('turned', 60_000)) as Turned, 1);
    assert.equal(disk.statistics().reads, reads, 'the device has answered nothing meanwhile');
    assert.ok(disk.statistics().inFlight > 0);
    await finish(stage);
  });

  test('the same in four worker_threads with two stores each', async (t) => {
    const disk = await SlowDisk.forTest(t, { sizeMiB: 128 });
    if (disk === undefined) return;
    const scenes = [0, 1, 2, 3].map((worker) => sceneOn(disk, [`store-${worker}-0`, `store-${worker}-1`], 'tryGet'));
    const stage = await pauseUnder(t, 'workers', scenes, disk);
    const { reads } = disk.statistics();
    const turned = (await stage.child.message('turned', 60_000)) as Turned[];
    assert.equal(turned.length, scenes.length);
    for (const one of turned) assertTurned(one, 2);
    assert.equal(disk.statistics().reads, reads, 'the device has answered nothing meanwhile');
    assert.ok(disk.statistics().inFlight > 0);
    await finish(stage);
  });

  test('the same while stores are being opened', async (t) => {
    const disk = await SlowDisk.forTest(t, { sizeMiB: 64 });
    if (disk === undefined) return;
    const unopened = ['first', 'second', 'third'].map((name) => join(disk.directory, name));
    const stage = await pauseUnder(t, 'main', [{ ...sceneOn(disk, [], 'tryGet'), unopened }], disk);
    assertTurned((await stage.child.message('turned', 60_000)) as Turned, 0);
    assert.ok(disk.statistics().inFlight > 0);
    await finish(stage);
  });

  test('one that reads on the loop is found out: getSync in the place of tryGet', async (t) => {
    const disk = await SlowDisk.forTest(t, { sizeMiB: 64 });
    if (disk === undefined) return;
    const scene = sceneOn(disk, ['store'], 'getSync');
    const stage = await pauseUnder(t, 'main', [scene], disk);
    // The state of the thread whose number is the process's: it waits for a device, without the possibility to wake up.
    const isStuck = (): boolean => processStat(stage.child.pid)?.state === 'D';
    assert.ok(await holdsWithin(30_000, isStuck), 'the loop waits for the device');
    await assert.rejects(stage.child.message('turned', 1_000), /has not said 'turned'/);
    assert.ok(isStuck(), 'it has not moved');
    await disk.resume();
    const turned = (await stage.child.message('turned', 60_000)) as Turned;
    assert.equal(turned.cold, 0);
    await finish(stage);
  });
});
