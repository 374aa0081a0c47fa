// docs/api/ is what the docstrings say now.
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { runThere } from './fixtures/own-package.js';
import { root } from './repository/files.js';

const fresh = mkdtempSync(join(tmpdir(), 'faultless-reference-'));
after(() => rmSync(fresh, { recursive: true, force: true }));

test('the API reference is up to date (npm run docs:api)', { timeout: 900_000 }, () => {
  runThere(root, process.execPath, ['test/tools/api-reference.mjs', fresh]);
  const kept = join(root, 'docs/api');
  const names = readdirSync(fresh).sort();
  assert.ok(names.includes('index.Class.Store.md'));
  assert.deepEqual(readdirSync(kept).sort(), names);
  for (const name of names) {
    assert.equal(readFileSync(join(kept, name), 'utf8'), readFileSync(join(fresh, name), 'utf8'), name);
  }
});
