import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { runProgram } from './repository/commands.js';
import { listFiles, root } from './repository/files.js';
import { runsHere } from './rig/environment.js';
import { SlowDisk } from './rig/slow-disk.js';

const directory = mkdtempSync(join(tmpdir(), 'faultless-bench-test-'));
const keys = 1_000;

/** Little to do, by faultless alone: no peers are installed for it, and no figure counts. */
const small = ['--systems', 'faultless', '--keys', String(keys), '--effort', '0.005', '--rounds', '2'];
const places = ['--directory', directory, '--results', join(directory, 'results')];
const programOf = (name: string): string => join(root, 'build/bench', `${name}.js`);
const program = programOf('main');

async function bench(...args: string[]): Promise<string> {
  return run('main', ...small, ...args);
}

async function run(name: string, ...args: string[]): Promise<string> {
  return (await runProgram(process.execPath, [programOf(name), ...places, ...args], { cwd: root })).stdout;
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
    assert.ok(comparisons.length >= 18);
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

  test('memory that processes share: everything is measured, and nothing is left behind', async () => {
    const ipc = join(root, 'build/bench/ipc.js');
    const { stdout } = await runProgram(process.execPath, [ipc, '0.002', 'alone'], { cwd: root });
    for (const what of [
      'counting, 8 children',
      'elements by pushMany',
      'process.send',
      'round trip',
      'log lines written',
    ]) {
      assert.ok(stdout.includes(what), `${what} in ${stdout}`);
    }
    assert.ok(!readdirSync('/dev/shm').some((name) => name.includes('faultless-bench-')));
  });

  test('the slow disk: reads, the event loop and fs.stat meanwhile, beside an idle process', async (t) => {
    if (!runsHere(t, 'bench:disk', SlowDisk.unavailableReason())) return;
    const little = ['--keys', '300', '--pages', '200', '--reads', '40', '--rounds', '1', '--delay-ms', '1'];
    const output = await run('disk/main', '--without-peers', ...little);
    assert.match(output, /^faultless get +[\d,]+ \(/m);
    const { program, circumstances, results: measured, verdicts } = readResults();
    assert.equal(program, 'disk');
    assert.equal(circumstances.versions.node, process.versions.node);
    assert.deepEqual(Object.keys(measured), ['ours', 'mapped', 'handle', 'device']);
    for (const [only, ...others] of Object.values<any>(measured)) {
      assert.deepEqual(others, []);
      assert.equal(only.reads, 40);
      assert.equal(only.latencies.count, 40);
      assert.ok(only.deviceReads > 0 && only.seconds > 0);
      for (const { max, series, stats } of [only.loop, only.idle])
        assert.ok(max >= 0 && series.length > 0 && stats[0] > 0);
    }
    assert.equal(verdicts.length, 5);
    for (const { met } of verdicts) assert.equal(typeof met, 'boolean');
    assert.deepEqual(readdirSync(directory), ['results']);
  });

  test('a scan of what a control group’s memory does not hold', async (t) => {
    if (!runsHere(t, 'bench:scan', SlowDisk.unavailableReason())) return;
    const output = await run('scan/main', '--memory', '64', '--times', '0.05', '--rounds', '1').catch(
      (error: Error) => {
        const reason = error.message.match(/memory cannot be limited here.*/)?.[0];
        if (runsHere(t, 'bench:scan', reason)) throw error;
      },
    );
    if (output === undefined) return;
    assert.match(output, /^a device of 500 MiB\/s, values of 1500 bytes, \d+ MiB: read \d+ MiB\/s, scan \d+ MiB\/s/m);
    const { program, rows } = readResults();
    assert.equal(program, 'scan');
    assert.deepEqual(
      rows.map(({ valueBytes }: any) => valueBytes),
      [128, 128, 1_500, 1_500],
    );
    for (const { keys, fileBytes, rounds } of rows) {
      assert.ok(keys > 1_000 && fileBytes > 2 ** 20);
      assert.ok(rounds.length === 1 && rounds[0].read.deviceBytes >= 2 ** 21 && rounds[0].scan.ms > 0);
    }
    assert.deepEqual(readdirSync(directory), ['results']);
  });

  test('a store that grows', async () => {
    const output = await run('growth/main', '--keys', '20000');
    assert.match(output, /^slowest stretch ÷ quickest: \d/m);
    const { program, stretches, bytesPerEntry } = readResults();
    assert.equal(program, 'growth');
    assert.deepEqual(
      stretches.map(({ from, to }: any) => [from, to]),
      [
        [0, 10_000],
        [10_000, 18_000],
        [18_000, 20_000],
      ],
    );
    for (const { meanNs, worstMs, heapBytes } of stretches) assert.ok(meanNs > 0 && worstMs > 0 && heapBytes > 0);
    assert.ok(bytesPerEntry > 0);
    assert.deepEqual(readdirSync(directory), ['results']);
  });

  test('figures of what there are runs of', async (t) => {
    const figures = ['--figures', join(directory, 'figures'), '--results', join(directory, 'results')];
    const draw = () => runProgram(process.execPath, [programOf('figures/main'), ...figures], { cwd: root });
    await assert.rejects(draw(), /there is no run of npm run bench/);
    // Under CI it installs them.
    const installed = process.env.CI === 'true' || existsSync(join(root, 'bench/plots/node_modules/vega-lite'));
    const reason = installed ? undefined : 'its packages are not installed (npm ci --prefix bench/plots)';
    if (!runsHere(t, 'bench:figures', reason)) return;
    await bench('--only', 'get-in-flight', '--only', 'set-write-back');
    await draw();
    const svg = readFileSync(join(directory, 'figures/throughput.svg'), 'utf8');
    assert.match(svg, /^<svg .*await get, 1,024 in flight.*<\/svg>\n$/s);
    assert.ok(!svg.includes('NaN'));
    assert.deepEqual(readdirSync(join(directory, 'figures')), ['throughput.svg']);
    for (const name of ['figures', 'results']) rmSync(join(directory, name), { recursive: true });
  });

  test('wrong arguments', async () => {
    await assert.rejects(bench('--only', 'nothing'), /no work named nothing/);
    await assert.rejects(bench('--systems', 'lmdb'), /must have faultless/);
    await assert.rejects(bench('--rounds', '0'), /--rounds must be an integer/);
    await assert.rejects(run('disk/main', '--reads', '1'), /--reads must be an integer/);
    await assert.rejects(run('compare/main', 'HEAD'), /two commits, please/);
    await assert.rejects(run('compare/main', 'HEAD', 'nothing-of-this-name'), /no commit nothing-of-this-name/);
  });

  for (const group of ['peers', 'plots']) {
    test(`bench/${group} is a package of its own, whose lock file names no hosts and every platform`, () => {
      const lock = JSON.parse(readFileSync(join(root, 'bench', group, 'package-lock.json'), 'utf8'));
      const packages: Record<string, any> = lock.packages;
      for (const [path, { resolved, optionalDependencies = {} }] of Object.entries(packages)) {
        assert.equal(resolved, undefined, path);
        for (const name of Object.keys(optionalDependencies)) assert.ok(packages[`node_modules/${name}`], name);
      }
      const manifest = readFileSync(join(root, 'package.json'), 'utf8');
      for (const name of Object.keys(packages[''].dependencies)) assert.ok(!manifest.includes(`"${name}"`), name);
      assert.ok(listFiles().every((path) => !path.includes('node_modules/')));
    });
  }
});
