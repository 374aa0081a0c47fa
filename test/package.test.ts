import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import * as faultless from 'faultless';
import { npmScript, runProgram } from './repository/commands.js';
import { listFiles, root } from './repository/files.js';

const npm = npmScript();
const prebuilt = `prebuilds/${process.platform}-${process.arch}/faultless.${existsSync('/etc/alpine-release') ? 'musl' : 'glibc'}.node`;

/** Names of the packages that an installation needs, without the optional ones. */
function dependencyClosure(name: string | undefined, found: Set<string> = new Set()): Set<string> {
  const directory = name === undefined ? root : join(root, 'node_modules', name);
  const manifest = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8'));
  for (const dependency of Object.keys(manifest.dependencies ?? {})) {
    if (!found.has(dependency)) dependencyClosure(dependency, found.add(dependency));
  }
  return found;
}

describe('the package, packed with a prebuilt binary and installed without a compiler', { timeout: 300_000 }, () => {
  const temporary = mkdtempSync(join(tmpdir(), 'faultless-package-'));
  const stage = join(temporary, 'stage');
  const project = join(temporary, 'project');
  const archives = join(temporary, 'archives');
  // All of PATH: neither compiler nor make nor Python.
  const programs = join(temporary, 'programs');
  const env = { PATH: programs, HOME: temporary, npm_config_update_notifier: 'false' };
  let packed: string[] = [];

  before(async () => {
    for (const directory of [stage, project, archives, programs]) mkdirSync(directory);
    symlinkSync(process.execPath, join(programs, 'node'));
    symlinkSync('/bin/sh', join(programs, 'sh'));

    // A copy of the checkout as it stands, built anew: what earlier builds left in dist/ is not packed.
    for (const path of listFiles()) cpSync(join(root, path), join(stage, path), { recursive: true });
    symlinkSync(join(root, 'node_modules'), join(stage, 'node_modules'));
    await runProgram(join(root, 'node_modules/.bin/tsc'), ['-b', 'ts'], { cwd: stage });

    // prebuildify on the binary that is there: `true` in the place of node-gyp saves the compilation.
    cpSync(join(root, 'build/Release/faultless.node'), join(stage, 'build/Release/faultless.node'));
    const prebuildify = join(root, 'node_modules/.bin/prebuildify');
    await runProgram(prebuildify, ['--napi', '--strip', '--tag-libc'], {
      cwd: stage,
      env: { ...process.env, PREBUILD_NODE_GYP: 'true' },
    });

    // Dependencies are packed from node_modules/, so that the installation needs no network.
    const pack = ['pack', '--json', '--ignore-scripts', '--pack-destination', archives];
    const own = await runProgram(process.execPath, [npm, ...pack], { cwd: stage });
    const [{ filename, files }] = JSON.parse(own.stdout);
    packed = files.map((file: { path: string }) => file.path);
    const directories = [...dependencyClosure(undefined)].map((name) => join(root, 'node_modules', name));
    const others = await runProgram(process.execPath, [npm, ...pack, ...directories], { cwd: stage });
    const names = [filename, ...JSON.parse(others.stdout).map((result: { filename: string }) => result.filename)];

    writeFileSync(join(project, 'package.json'), '{ "private": true }\n');
    const install = ['install', '--offline', '--cache', join(temporary, 'cache'), '--no-audit', '--no-fund'];
    const tarballs = names.map((name) => join(archives, name));
    await runProgram(process.execPath, [npm, ...install, ...tarballs], { cwd: project, env });
  });
  after(() => rmSync(temporary, { recursive: true, force: true }));

  const node = (...args: string[]) => runProgram(process.execPath, args, { cwd: project, env });

  test('it holds what is needed and nothing else', () => {
    const needed = [
      'package.json',
      'README.md',
      'LICENSE',
      'CHANGELOG.md',
      'binding.gyp',
      'dist/index.js',
      'dist/index.d.ts',
    ];
    for (const path of [...needed, prebuilt]) assert.ok(packed.includes(path), path);
    const allowed =
      /^(package\.json|binding\.gyp|[A-Z]+(\.md)?|dist\/.*\.(js|d\.ts)|csrc\/.*\.(cc|h|cjs)|prebuilds\/.*\.node)$/;
    assert.deepEqual(
      packed.filter((path) => !allowed.test(path)),
      [],
    );
  });

  test('the installation compiled nothing', () => {
    assert.ok(!existsSync(join(project, 'node_modules/faultless/build')));
    assert.ok(existsSync(join(project, 'node_modules/faultless', prebuilt)));
  });

  const report = `
    const binary = process.report.getReport().sharedObjects.find((path) => path.endsWith('.node') && path.includes('faultless'));
    console.log(JSON.stringify({ names: Object.keys(faultless).sort(), binary }));`;
  const check = (stdout: string) => {
    const { names, binary } = JSON.parse(stdout);
    assert.deepEqual(
      names.filter((name: string) => name !== 'module.exports'),
      Object.keys(faultless).sort(),
    );
    assert.ok(binary.endsWith(`/node_modules/faultless/${prebuilt}`), binary);
  };
  test('import works', async () => {
    check((await node('--input-type=module', '-e', `import * as faultless from 'faultless';${report}`)).stdout);
  });
  test('require works', async () => {
    check((await node('-e', `const faultless = require('faultless');${report}`)).stdout);
  });
  test('it works: a store and a mapped file', async () => {
    const use = `
      (async () => {
        const { Store, MappedFile } = await loaded;
        const store = await Store.open('installed.store');
        await store.set('key', { list: [1, -0, 2n] });
        const { list } = await store.get('key');
        await store.close();
        const file = await MappedFile.open('installed.store');
        const magic = await file.read(0, 8);
        await file.close();
        console.log(JSON.stringify([list.length, Object.is(list[1], -0), typeof list[2], magic.toString()]));
      })();`;
    for (const args of [
      ['--input-type=module', '-e', `const loaded = import('faultless');${use}`],
      ['-e', `const loaded = require('faultless');${use}`],
    ]) {
      const { stdout } = await node(...args);
      assert.deepEqual(JSON.parse(stdout), [3, true, 'bigint', 'FULTLESS']);
    }
  });
  test('its package.json can be had, and nothing inside of it', async () => {
    await node('-e', "if (require('faultless/package.json').name !== 'faultless') process.exit(1)");
    await assert.rejects(node('-e', "require('faultless/dist/addon.js')"), /ERR_PACKAGE_PATH_NOT_EXPORTED/);
  });

  test('types work for import and for require', async () => {
    const use = `
      export const name: keyof typeof faultless = '${Object.keys(faultless)[0]}';
      // @ts-expect-error: the types are there, and they are not \`any\`
      export const nothing = faultless.thereIsNoSuchName;\n`;
    writeFileSync(join(project, 'module.mts'), `import * as faultless from 'faultless';${use}`);
    writeFileSync(join(project, 'common.cts'), `import faultless = require('faultless');${use}`);
    const compilerOptions = {
      module: 'nodenext',
      target: 'es2023',
      lib: ['es2023', 'esnext.disposable'],
      types: ['node'],
      typeRoots: [join(root, 'node_modules/@types')],
      strict: true,
      noEmit: true,
    };
    writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['*.mts', '*.cts'] }));
    await runProgram(join(root, 'node_modules/.bin/tsc'), ['-p', project], { cwd: project });
  });

  test('nothing to compile with was within reach', async () => {
    const { stdout } = await runProgram('/bin/sh', ['-c', 'command -v cc gcc g++ clang++ make python3 || true'], {
      cwd: project,
      env,
    });
    assert.equal(stdout, '');
  });
});
