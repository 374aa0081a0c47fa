// Builds and runs the native tests: test-native.mjs VARIANT [FILE] [TEST]
//   VARIANT  plain, asan, ubsan, tsan or asan-ubsan
//   FILE     only programs (test/native/FILE_test.cc) whose name contains this
//   TEST     only tests whose "Suite.Name" contains this
// Environment: NATIVE_OUT puts objects and programs elsewhere than build/native/VARIANT; NATIVE_TIMEOUT_MS bounds each
// program (600,000).
import { spawn, spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { root, run } from './run.mjs';

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
let group; // of the program that runs

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    if (group) process.kill(-group, 'SIGKILL');
    process.exit(1);
  });
}

/** Resolves to the exit code, or to the name of the signal that ended the program. */
function runProgram(program) {
  return new Promise((resolve, reject) => {
    const [command, ...args] = [...prefix, path.join(out, program), testFilter];
    // A process group of its own: a time-out ends its children, too.
    const child = spawn(command, args, { cwd: root, env, stdio: 'inherit', detached: true });
    group = child.pid;
    const timer = setTimeout(() => {
      console.log(`  ${program}: no end after ${timeoutMs} ms`);
      process.kill(-child.pid, 'SIGKILL');
    }, timeoutMs);
    child.on('error', reject);
    child.on('exit', (code, signal) => {
      clearTimeout(timer);
      group = undefined;
      resolve(code ?? signal);
    });
  });
}

const programs = tests.flatMap((test) => (test.startsWith('os') ? [test, `${test}.portable`] : [test]));
const failed = [];
let passed = 0;
for (const program of programs) {
  console.log(`${program} (${variant})`);
  const outcome = await runProgram(program);
  if (outcome === 0) passed++;
  else if (outcome !== NOTHING_SELECTED || testFilter === '') failed.push(`${program}: ended with ${outcome}`);
}
if (failed.length > 0) fail(`native tests (${variant}): failed:\n  ${failed.join('\n  ')}`);
if (passed === 0) fail(`native tests (${variant}): no test is named *${testFilter}*`);
console.log(`native tests (${variant}): ${passed} programs passed`);

function fail(message) {
  console.error(message);
  process.exit(1);
}
