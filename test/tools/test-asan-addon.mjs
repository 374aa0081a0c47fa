// Runs node:test suites with an addon that is compiled with AddressSanitizer and UndefinedBehaviorSanitizer:
// test-asan-addon.mjs [WORD…] runs those whose path contains one of the words; without any, the ones below.
//
// That addon has a directory of its own, build/asan-addon/: what npm run build made stays as it is. Node itself is an
// ordinary one, so the sanitizer's library is preloaded into it and into all that the tests start. Nothing of ours is
// suppressed. Leaks are not looked for: what V8 and Node keep until the process ends cannot be told from them.
// Reports go to files, so that none gets lost in a child's output; any file is a failure.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { buildEnvironment, root, run } from './run.mjs';

const suites = ['store-', 'mapped-file', 'lifecycle', 'traps', 'hostile-files', 'segment', 'exchange', 'log.test'];
const words = process.argv.slice(2);
const directory = path.join(root, 'build/asan-addon');
const reports = path.join(directory, 'reports');

// node-gyp's Makefile, told to put its products elsewhere; what it compiles is what the addon's own build does.
const sanitize = '-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-sanitize=vptr';
const made =
  (await run('node-gyp', ['configure', '--loglevel', 'warn'])) ||
  (await run('make', [
    ...['--no-print-directory', '-C', 'build', '-j2', 'BUILDTYPE=Release', 'builddir_name=asan-addon/build'],
    ...[`CXXFLAGS.target=${sanitize} -O1 -fno-omit-frame-pointer`, `LDFLAGS.target=${sanitize}`, 'faultless'],
  ]));
if (made !== 0) process.exit(made);

// The library to preload is the one that the addon names. (The compiler's libasan.so may be a linker script.)
const loaded = execFileSync('ldd', [path.join(directory, 'build/Release/faultless.node')], { encoding: 'utf8' });
const preload = /libasan\S* => (\/\S+)/.exec(loaded)?.[1];
if (!preload) {
  console.error(`the addon names no libasan that is there:\n${loaded}`);
  process.exit(1);
}
rmSync(reports, { recursive: true, force: true });
mkdirSync(reports);

const env = {
  ...buildEnvironment(),
  FAULTLESS_PREBUILD: directory,
  LD_PRELOAD: preload,
  ASAN_OPTIONS: [
    // SIGBUS is ours: a page that cannot be had. SIGSEGV is V8's.
    ...['handle_sigbus=0', 'handle_segv=0', 'allow_user_segv_handler=1'],
    // As malloc does: what is too large is refused, and must be survived.
    'allocator_may_return_null=1',
    ...['detect_leaks=0', 'strict_string_checks=1', `log_path=${reports}/asan`],
  ].join(':'),
  UBSAN_OPTIONS: `print_stacktrace=1:log_path=${reports}/ubsan`,
};
// Types first, without the sanitizer.
const types = await run('tsc', ['-b', 'ts', 'test']);
const tested = await run(process.execPath, ['test/tools/test-ts.mjs', ...(words.length > 0 ? words : suites)], { env });
const found = readdirSync(reports);
for (const name of found) console.error(`── ${name}\n${readFileSync(path.join(reports, name), 'utf8')}`);
console.log(`${found.length} reports of the sanitizers`);
process.exitCode = types || tested || (found.length > 0 ? 1 : 0);
