// Everything that must hold before a change is merged: test.mjs. Each part runs whatever became of those before it; the
// exit code is 0 only if all of them passed. The node:test suites (layering, tidiness, package and README among them)
// come last, so that the runner's summary is at the end.
import { run } from './run.mjs';

const tool = (name, ...args) => [process.execPath, [`test/tools/${name}.mjs`, ...args]];
const parts = [
  ['addon', ...tool('build-addon')],
  ['types', 'tsc', ['-b', 'ts', 'test', 'bench']],
  ['lint', 'biome', ['check']],
  ['format of C++', ...tool('format-native', '--check')],
  ['native tests', ...tool('test-native', 'plain')],
  ['suites', ...tool('test-ts')],
];

const results = [];
for (const [name, command, args] of parts) {
  console.log(`\n── ${name}`);
  const start = performance.now();
  const code = await run(command, args);
  results.push({ name, passed: code === 0, seconds: (performance.now() - start) / 1000 });
}

console.log('');
for (const { name, passed, seconds } of results) {
  console.log(`${passed ? 'passed' : 'FAILED'}  ${name.padEnd(15)} ${seconds.toFixed(1).padStart(7)} s`);
}
process.exitCode = results.every(({ passed }) => passed) ? 0 : 1;
