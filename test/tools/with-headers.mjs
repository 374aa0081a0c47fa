// Runs a program of node_modules/.bin with what it needs to find Node's headers: with-headers.mjs PROGRAM [ARGUMENT…]
import { run } from './run.mjs';

const [command, ...args] = process.argv.slice(2);
process.exitCode = await run(command, args);
