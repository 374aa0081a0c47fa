// Builds and runs the native tests: test-native.mjs VARIANT [FILE] [TEST]
//   VARIANT  plain, asan, ubsan, tsan or asan-ubsan
//   FILE     only programs (test/native/FILE_test.cc) whose name contains this
//   TEST     only tests whose "Suite.Name" contains this
// Environment: NATIVE_OUT puts objects and programs elsewhere than build/native/VARIANT; NATIVE_TIMEOUT_MS bounds each
// program (600,000).
// On two cores or more, programs that keep one of them busy run two at a time, each with its output in a file that is
// shown when it has ended; then come all others, one by one.
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { inTurn, root, run } from './run.mjs';

const [variant = 'plain', fileFilter = '', testFilter = ''] = process.argv.slice(2);
const out = path.resolve(root, process.env.NATIVE_OUT ?? `build/native/${variant}`);
const timeoutMs = Number(process.env.NATIVE_TIMEOUT_MS ?? 600_000);

const tests = readdirSync(path.join(root, 'test/native'))
  .filter((name) => name.endsWith('_test.cc') && name.includes(fileFilter))
  .map((name) => name.slice(0, -'.cc'.length));
if (tests.length === 0) fail(`no test/native/*${fileFilter}*_test.cc`);

// -k: report everything that does not compile, not only the first.
const makeArguments = [`VARIANT=${variant}`, `OUT=${path.relative(root, out)}`, `TESTS=${tests.join(' ')}`];
const made = await run('make', ['--no-print-directory', '-k', '-j2', '-f', 'test/native/Makefile', ...makeArguments]);
if (made !== 0) fail(`native tests (${variant}): not everything compiles`);

// GCC's ThreadSanitizer cannot live with every layout that the kernel randomizes; containers may forbid to turn it off.
const fixedLayout = ['setarch', process.arch === 'x64' ? 'x86_64' : 'aarch64', '-R'];
const prefix =
  variant === 'tsan' && spawnSync(fixedLayout[0], [...fixedLayout.slice(1), 'true']).status === 0 ? fixedLayout : [];

const env = {
  ...process.env,
  ASAN_OPTIONS: 'detect_stack_use_after_return=1:strict_string_checks=1:check_initialization_order=1',
  UBSAN_OPTIONS: 'print_stacktrace=1',
  TSAN_OPTIONS: 'halt_on_error=0:second_deadlock_stack=1',
};

/** What a program exits with when the filter selects none of its tests. */
const NOTHING_SELECTED = 3;
/**
 * Programs that may run beside each other, those that take longest first: most of what they do is done by one thread or
 * process at a time, and what they measure is counted, not timed. What is not named here runs alone.
 */
const pairable = [
  ...['store_cuts_test', 'store_fail_points_test', 'store_merge_test', 'store_space_test', 'store_limits_test'],
  ...['store_test', 'store_damage_test', 'store_verify_moments_test', 'store_faults_test', 'store_open_test'],
  ...['map_test', 'os_faults_test', 'os_faults_test.portable', 'os_files_test', 'os_files_test.portable'],
  ...['os_mapping_test', 'os_mapping_test.portable'],
];
const groups = new Set(); // of the programs that run

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    for (const group of groups) process.kill(-group, 'SIGKILL');
    process.exit(1);
  });
}

/** Runs a program and notes how it ended. Its output comes at once when it is alone, otherwise as a whole at its end. */
async function runProgram(program, alone) {
  const title = `${program} (${variant})`;
  if (alone) console.log(title);
  const file = path.join(out, `${program}.output`);
  const output = alone ? 'inherit' : openSync(file, 'w');
  const start = performance.now();
  const outcome = await ended(program, output);
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  if (!alone) {
    closeSync(output);
    process.stdout.write(`${title}\n${readFileSync(file, 'utf8')}`);
  }
  console.log(`  ${seconds} s`);
  if (outcome === 0) passed++;
  else if (outcome !== NOTHING_SELECTED || testFilter === '') failed.push(`${program}: ended with ${outcome}`);
}

/** Resolves to the exit code, or to the name of the signal that ended the program. */
function ended(program, output) {
  return new Promise((resolve, reject) => {
    const [command, ...args] = [...prefix, path.join(out, program), testFilter];
    // A process group of its own: a time-out ends its children, too.
    const child = spawn(command, args, { cwd: root, env, stdio: ['ignore', output, output], detached: true });
    groups.add(child.pid);
    const timer = setTimeout(() => {
      console.log(`  ${program}: no end after ${timeoutMs} ms`);
      process.kill(-child.pid, 'SIGKILL');
    }, timeoutMs);
    child.on('error', reject);
    child.on('exit', (code, signal) => {
      clearTimeout(timer);
      groups.delete(child.pid);
      resolve(code ?? signal);
    });
  });
}

const programs = tests.flatMap((test) => (test.startsWith('os') ? [test, `${test}.portable`] : [test]));
const failed = [];
let passed = 0;
const paired = pairable.filter((program) => programs.includes(program));
// A pair needs two programs and two cores; and who has chosen one program wants to see it run.
if (paired.length < 2 || availableParallelism() < 2) paired.length = 0;
await inTurn(paired, 2, (program) => runProgram(program, false));
for (const program of programs) {
  if (!paired.includes(program)) await runProgram(program, true);
}
if (failed.length > 0) fail(`native tests (${variant}): failed:\n  ${failed.join('\n  ')}`);
if (passed === 0) fail(`native tests (${variant}): no test is named *${testFilter}*`);
console.log(`native tests (${variant}): ${passed} programs passed`);

function fail(message) {
  console.error(message);
  process.exit(1);
}
