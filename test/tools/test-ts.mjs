// Compiles and runs the node:test suites: test-ts.mjs [WORD…] runs only files whose path contains one of the words.
// The list comes from the sources, so that what an earlier build left in build/test/ is not run.
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { root, run } from './run.mjs';

const words = process.argv.slice(2);
const suites = readdirSync(path.join(root, 'test'), { recursive: true })
  .filter((name) => name.endsWith('.test.ts') && (words.length === 0 || words.some((word) => name.includes(word))))
  .sort()
  .map((name) => path.join('build/test', name.replace(/\.ts$/, '.js')));
if (suites.length === 0) {
  console.error(`no test/**/*.test.ts named ${words.join(' or ')}`);
  process.exit(1);
}

// Suites run in spite of type errors, which fail the whole all the same.
const types = await run('tsc', ['-b', 'ts', 'test']);
const nodeOptions = ['--enable-source-maps', '--expose-gc', '--test', '--test-reporter=spec'];
process.exitCode = (await run(process.execPath, [...nodeOptions, ...suites])) || types;
