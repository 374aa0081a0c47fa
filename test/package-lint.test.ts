// The package as it is published, looked at by publint and by Are the types wrong.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { installOwnPackage, runThere } from './fixtures/own-package.js';
import { root } from './repository/files.js';

const packed = mkdtempSync(join(tmpdir(), 'faultless-packed-'));
after(() => rmSync(packed, { recursive: true, force: true }));

describe('the package', { timeout: 900_000 }, () => {
  let tools: string;
  let tarball: string;
  before(() => {
    tools = join(installOwnPackage('package-lint'), 'node_modules');
    // Without scripts: they would build dist/ anew under the suites that run beside this one.
    const name = runThere(root, 'npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', packed]);
    tarball = join(packed, name.trim());
  });

  test('publint has nothing to say', () => {
    runThere(root, process.execPath, [join(tools, 'publint/src/cli.js'), 'run', tarball, '--strict']);
  });

  test('its types resolve', () => {
    const attw = join(tools, '@arethetypeswrong/cli/dist/index.js');
    runThere(root, process.execPath, [attw, tarball, '--profile', 'esm-only']);
  });
});
