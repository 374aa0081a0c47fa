// Builds and runs the fuzz targets: fuzz.mjs [TARGET] [SECONDS]
//   TARGET     only test/fuzz/TARGET_fuzzer.cc whose name contains this (all)
//   SECONDS    for each of them (60)
// It begins with the inputs of test/fuzz/corpus/NAME_fuzzer.hex, one a line; what reaches something new is added to
// build/fuzz/corpus/NAME_fuzzer/, from where `xxd -p -c 0 FILE` makes another line. An input that fails stays in
// build/fuzz/failures; `build/fuzz/NAME_fuzzer FILE` runs it again. Needs clang with libFuzzer (Debian 12: clang and
// libclang-rt-14-dev).
// Environment: FUZZ_OUT puts objects and programs elsewhere than build/fuzz.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { root, run } from './run.mjs';

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
for (const target of targets) {
  const corpus = path.join(out, 'corpus', target);
  mkdirSync(corpus, { recursive: true });
  const given = readFileSync(path.join(root, `test/fuzz/corpus/${target}.hex`), 'utf8')
    .trimEnd()
    .split('\n');
  for (const [i, line] of given.entries()) writeFileSync(path.join(corpus, `given-${i}`), Buffer.from(line, 'hex'));
  console.log(`\n── ${target}, ${seconds} s`);
  // One input may take long on a busy machine, but an operation that never ends takes longer.
  const options = [
    `-max_total_time=${seconds}`,
    '-timeout=60',
    '-len_control=0',
    '-max_len=600',
    '-print_final_stats=1',
  ];
  const quiet = ['-verbosity=1', '-reduce_inputs=0', '-print_pcs=0', `-artifact_prefix=${failures}/${target}-`];
  if ((await run(path.join(out, target), [...options, ...quiet, corpus])) !== 0) failed.push(target);
}
if (failed.length > 0) fail(`fuzz targets: failed: ${failed.join(', ')}; inputs in ${failures}`);
console.log(`fuzz targets: ${targets.length} without a failure`);

function fail(message) {
  console.error(message);
  process.exit(1);
}
