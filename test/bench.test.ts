import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { runProgram } from './repository/commands.js';
import { listFiles, root } from './repository/files.js';

const directory = mkdtempSync(join(tmpdir(), 'faultless-bench-test-'));
const keys = 1_000;

/** Little to do, by faultless alone: no peers are installed for it, and no figure counts. */
const small = ['--systems', 'faultless', '--keys', String(keys), '--effort', '0.005', '--rounds', '2'];
const places = ['--directory', directory, '--results', join(directory, 'results')];
const program = join(root, 'build/bench/main.js');

async function bench(...args: string[]): Promise<string> {
  return (await runProgram(process.execPath, [program, ...small, ...places, ...args], { cwd: root })).stdout;
}

function readResults(): any {
  const [name = '', ...others] = readdirSync(join(directory, 'results'));
  assert.deepEqual(others, []);
  const results = JSON.parse(readFileSync(join(directory, 'results', name), 'utf8'));
  rmSync(join(directory, 'results', name));
  return results;
}

describe('bench', { timeout: 300_000 }, () => {
  before(async () => {
    const compiler = join(root, 'node_modules/typescript/bin/tsc');
    await runProgram(process.execPath, [compiler, '-b', 'bench'], { cwd: root });
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  test('measures one work, writes the figures and leaves nothing else behind', async () => {
    const output = await bench('--only', 'get-in-flight');
    assert.match(output, /^await get, 1,024 in flight, hot cache off +[\d,]+ +[\d,]+$/m);
    const { circumstances, comparisons, rounds, scale } = readResults();
    assert.deepEqual({ rounds, keys: scale.keys }, { rounds: 2, keys });
    assert.equal(circumstances.versions.node, process.versions.node);
    assert.ok(circumstances.versions.faultless);
    assert.equal(comparisons.length, 1);
    const [ours, ...others] = comparisons[0].systems;
    assert.deepEqual(others, []);
    assert.equal(ours.measurements.length, 2);
    for (const { value, operations } of ours.measurements) assert.ok(value > 0 && operations >= 1_000);
    assert.deepEqual(readdirSync(directory), ['results']);
  });

  test('every work runs', async () => {
    const output = await bench('--rounds', '1');
    const { comparisons } = readResults();
    assert.ok(comparisons.length >= 16);
    for (const { work, systems } of comparisons) {
      // Where the limit of locked memory is low, this one could not run, and said so.
      if (work === 'try-get-pinned' && systems[0].refused) continue;
      assert.equal(systems[0].error, undefined, `${work}\n${output}`);
    }
    assert.deepEqual(readdirSync(directory), ['results']);
    assert.deepEqual(
      readdirSync('/dev/shm').filter((name) => name.includes('faultless-bench-')),
      [],
    );
  });

  test('leaves nothing behind when it is ended', async () => {
    const bench = spawn(process.execPath, [program, ...small, ...places, '--only', 'set-sync-ram', '--rounds', '1000']);
    const ended = once(bench, 'exit');
    const inRam = () => readdirSync('/dev/shm').some((name) => name.includes('faultless-bench-'));
    while (!inRam() && bench.exitCode === null) await setTimeout(10);
    assert.ok(inRam());
    bench.kill('SIGTERM');
    assert.deepEqual(await ended, [1, null]);
    assert.ok(!inRam());
    assert.deepEqual(
      readdirSync(directory).filter((name) => name !== 'results'),
      [],
    );
  });

  test('wrong arguments', async () => {
    await assert.rejects(bench('--only', 'nothing'), /no work named nothing/);
    await assert.rejects(bench('--systems', 'lmdb'), /must have faultless/);
    await assert.rejects(bench('--rounds', '0'), /--rounds must be an integer/);
  });

  test('the peers are in a package of their own, whose lock file names no hosts and every platform', () => {
    const lock = JSON.parse(readFileSync(join(root, 'bench/peers/package-lock.json'), 'utf8'));
    const packages: Record<string, any> = lock.packages;
    for (const [path, { resolved, optionalDependencies = {} }] of Object.entries(packages)) {
      assert.equal(resolved, undefined, path);
      for (const name of Object.keys(optionalDependencies)) assert.ok(packages[`node_modules/${name}`], name);
    }
    const manifest = readFileSync(join(root, 'package.json'), 'utf8');
    for (const name of Object.keys(packages[''].dependencies)) assert.ok(!manifest.includes(`"${name}"`), name);
    assert.ok(listFiles().every((path) => !path.includes('node_modules/')));
  });
});
