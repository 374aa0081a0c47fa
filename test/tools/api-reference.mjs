// Makes the API reference of the docstrings in ts/, by TypeDoc, which lies in a package of its own:
//   api-reference.mjs [DIRECTORY]
//   DIRECTORY    where to (docs/api)
import { existsSync } from 'node:fs';
import path from 'node:path';
import { root, run } from './run.mjs';

const directory = path.join(root, 'test/api-reference');
const out = path.resolve(root, process.argv[2] ?? 'docs/api');
if (!existsSync(path.join(directory, 'node_modules/.package-lock.json'))) {
  const args = ['ci', '--prefix', directory, '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  if ((await run('npm', args)) !== 0) process.exit(1);
}
const typedoc = path.join(directory, 'node_modules/typedoc/bin/typedoc');
process.exit(await run(process.execPath, [typedoc, '--out', out], { cwd: directory, stdio: 'inherit' }));
