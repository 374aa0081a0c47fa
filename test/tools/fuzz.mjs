// Builds and runs the fuzz targets: fuzz.mjs [TARGET] [SECONDS]
//   TARGET     only test/fuzz/TARGET_fuzzer.cc whose name contains this (all)
//   SECONDS    for each of them (60)
// It begins with the inputs of test/fuzz/corpus/NAME_fuzzer.hex, one a line; what reaches something new is added to
// build/fuzz/corpus/NAME_fuzzer/, from where `xxd -p -c 0 FILE` makes another line. An input that fails stays in
// build/fuzz/failures; `build/fuzz/NAME_fuzzer FILE` runs it again. Needs clang with libFuzzer (Debian 12: clang and
// libclang-rt-14-dev).
// A target uses one core: of several, two run at a time where there are two cores, and what they say is in
// build/fuzz/NAME_fuzzer.output until all have ended; those that failed come last, with the input in hexadecimal.
// Environment: FUZZ_OUT puts objects and programs elsewhere than build/fuzz.
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { inTurn, root, run } from './run.mjs';

const [filter = '', seconds = '60'] = process.argv.slice(2);
const out = path.resolve(root, process.env.FUZZ_OUT ?? 'build/fuzz');
const targets = readdirSync(path.join(root, 'test/fuzz'))
  .filter((name) => name.endsWith('_fuzzer.cc') && name.includes(filter))
  .map((name) => name.slice(0, -'.cc'.length));
if (targets.length === 0) fail(`no test/fuzz/*${filter}*_fuzzer.cc`);

const makeArguments = [`OUT=${path.relative(root, out)}`, `TARGETS=${targets.join(' ')}`];
if ((await run('make', ['--no-print-directory', '-j2', '-f', 'test/fuzz/Makefile', ...makeArguments])) !== 0) {
  fail('fuzz targets: not everything compiles');
}

const failures = path.join(out, 'failures');
mkdirSync(failures, { recursive: true });
process.env.UBSAN_OPTIONS = 'print_stacktrace=1';
const failed = [];
const together = Math.min(2, targets.length, availableParallelism());
const outputOf = (target) => path.join(out, `${target}.output`);
const titleOf = (target) => `\n── ${target}, ${seconds} s`;
await inTurn(targets, together, async (target) => {
  const corpus = path.join(out, 'corpus', target);
  mkdirSync(corpus, { recursive: true });
  const given = readFileSync(path.join(root, `test/fuzz/corpus/${target}.hex`), 'utf8')
    .trimEnd()
    .split('\n');
  for (const [i, line] of given.entries()) writeFileSync(path.join(corpus, `given-${i}`), Buffer.from(line, 'hex'));
  // One input may take long on a busy machine, but an operation that never ends takes longer.
  const options = [
    `-max_total_time=${seconds}`,
    '-timeout=60',
    '-len_control=0',
    '-max_len=600',
    '-print_final_stats=1',
  ];
  const quiet = ['-verbosity=1', '-reduce_inputs=0', '-print_pcs=0', `-artifact_prefix=${failures}/${target}-`];
  const output = together > 1 ? openSync(outputOf(target), 'w') : 'inherit';
  if (together === 1) console.log(titleOf(target));
  const stdio = ['ignore', output, output];
  if ((await run(path.join(out, target), [...options, ...quiet, corpus], { stdio })) !== 0) failed.push(target);
  if (together > 1) closeSync(output);
});
if (together > 1) {
  const inOrder = [...targets.filter((target) => !failed.includes(target)), ...failed];
  for (const target of inOrder) process.stdout.write(`${titleOf(target)}\n${readFileSync(outputOf(target), 'utf8')}`);
}
// A run elsewhere may leave nothing behind but what it printed.
for (const name of readdirSync(failures)) {
  if (!failed.some((target) => name.startsWith(`${target}-`))) continue;
  console.error(`${name}: ${readFileSync(path.join(failures, name)).toString('hex')}`);
}
if (failed.length > 0) fail(`fuzz targets: failed: ${failed.join(', ')}; inputs in ${failures}`);
console.log(`fuzz targets: ${targets.length} without a failure`);

function fail(message) {
  console.error(message);
  process.exit(1);
}
