// Compiles what changed of the addon. (node-gyp-build alone would keep a stale build/Release.) Configuring each time
// picks up new source files; make then compiles only what its dependency files call for.
import { run } from './run.mjs';

const quiet = ['--loglevel', 'warn'];
process.exitCode =
  (await run('node-gyp', ['configure', ...quiet])) || (await run('node-gyp', ['build', '--jobs', '2', ...quiet]));
