import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { root } from './repository/files.js';
import { checkNativeLayers } from './repository/native-layers.js';
import { checkConsumers, checkScriptLayers } from './repository/script-layers.js';

const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const dependencies = Object.keys(manifest.dependencies);

/** Runs `check` on a directory that holds these files. */
function withFiles(files: Record<string, string>, check: (directory: string) => string[]): string[] {
  const directory = mkdtempSync(join(tmpdir(), 'faultless-layers-'));
  try {
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(directory, path)), { recursive: true });
      writeFileSync(join(directory, path), text);
    }
    return check(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

describe('layers of csrc/', () => {
  test('arrows point down only', () => {
    assert.deepEqual(checkNativeLayers(join(root, 'csrc')), []);
  });

  test('both implementations of os/ are there', () => {
    for (const folder of ['linux', 'portable']) {
      const directory = join(root, 'csrc/os', folder);
      assert.ok(existsSync(directory) && readdirSync(directory).some((name) => name.endsWith('.cc')), folder);
    }
  });

  const headers = {
    'base/a.h': '',
    'os/os.h': '#include "base/a.h"\n',
    'os/posix/a.h': '#include <unistd.h>\n',
    'os/linux/a.h': '#include "os/os.h"\n#include "os/posix/a.h"\n',
    'store/a.h': '#include <vector>\n#include "os/os.h"\n#include "store/b.h"\n',
    'store/b.h': '',
    'map/a.h': '',
    'binding/a.h': '#include <napi.h>\n#include "store/a.h"\n',
  };
  const bad: Record<string, readonly [path: string, include: string]> = {
    'an upward include': ['base/bad.cc', '"store/a.h"'],
    'an include of the layer beside it': ['store/bad.cc', '"map/a.h"'],
    'an include of the binding': ['store/bad.cc', '"binding/a.h"'],
    'N-API below the binding': ['store/bad.cc', '<napi.h>'],
    'N-API in C below the binding': ['os/bad.cc', '"node_api.h"'],
    'libuv below the binding': ['os/bad.cc', '<uv.h>'],
    'libuv in the binding': ['binding/bad.cc', '<uv.h>'],
    'a system header above os/': ['store/bad.cc', '<sys/mman.h>'],
    'an implementation of os/ seen from above': ['store/bad.cc', '"os/linux/a.h"'],
    'one implementation of os/ seen from another': ['os/portable/bad.cc', '"os/linux/a.h"'],
    'the shared part of os/ looking up': ['os/posix/bad.cc', '"os/linux/a.h"'],
    'a path that is not relative to csrc/': ['store/bad.cc', '"b.h"'],
    'a file in no layer': ['bad.cc', '<vector>'],
  };
  test('thread-local memory above os/ is found', () => {
    const file = { 'store/bad.cc': 'thread_local char buffer[4096];\n' };
    assert.equal(withFiles({ ...headers, ...file }, checkNativeLayers).length, 1);
  });
  test('the sample without faults passes', () => {
    assert.deepEqual(withFiles(headers, checkNativeLayers), []);
  });
  for (const [what, [path, include]] of Object.entries(bad)) {
    test(`${what} is found`, () => {
      const findings = withFiles({ ...headers, [path]: `#include ${include}\n` }, checkNativeLayers);
      assert.equal(findings.length, 1);
      assert.ok(findings[0]?.startsWith(`${path}: `), findings[0]);
    });
  }
});

describe('layers of ts/', () => {
  test('arrows point down only', () => {
    assert.deepEqual(checkScriptLayers(join(root, 'ts'), dependencies), []);
  });
  test('test/ uses the package by its name', () => {
    assert.deepEqual(checkConsumers(join(root, 'test')), []);
  });
  test('bench/ uses the package by its name, and the slow devices of test/rig/', () => {
    assert.deepEqual(checkConsumers(join(root, 'bench'), '../test/rig'), []);
  });

  const modules = {
    'index.ts': "export { a } from './a.js';\n",
    'a.ts': "import { b } from './core/b.js';\nimport pLimit from 'p-limit';\nexport const a = [b, pLimit];\n",
    'core/b.ts': "import type { C } from './c.js';\nexport const b = 1 as C;\n",
    'core/c.ts': "import { b } from './b.js';\nexport type C = typeof b;\n",
    'leaf/d.ts': 'export const d = 1;\n',
  };
  const check = (directory: string) => checkScriptLayers(directory, ['p-limit']);
  const bad: Record<string, Record<string, string>> = {
    'an import of index.ts': { 'bad.ts': "import { a } from './index.js';\n" },
    'a circle of modules': { 'bad.ts': "import './worse.js';\n", 'worse.ts': "export * from './bad.js';\n" },
    'a circle of folders, by types': {
      'core/bad.ts': "import type { d } from '../leaf/d.js';\n",
      'leaf/bad.ts': "export const x: import('../core/b.js').b = 1;\n",
    },
    'an import from outside of ts/': { 'bad.ts': "import '../test/a.js';\n" },
    'an undeclared dependency': { 'bad.ts': "const x = await import('typescript');\n" },
    'a second loader of the binary': { 'bad.ts': "const name = 'node-gyp-build';\n" },
  };
  test('the sample without faults passes', () => {
    assert.deepEqual(withFiles(modules, check), []);
  });
  for (const [what, files] of Object.entries(bad)) {
    test(`${what} is found`, () => {
      assert.equal(withFiles({ ...modules, ...files }, check).length, 1);
    });
  }
  test('a test that reaches into dist/ is found', () => {
    assert.equal(withFiles({ 'deep/bad.ts': "import '../../dist/index.js';\n" }, checkConsumers).length, 1);
  });
});
