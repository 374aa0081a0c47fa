// Purpose: starts the programs that the build and test drivers consist of.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** The repository's top directory. */
export const root = fileURLToPath(new URL('../..', import.meta.url));

/**
 * The environment that builds against the headers beside the running node, where they are installed (as distributions
 * and node's own archives do): no download. Elsewhere node-gyp fetches the headers of this version.
 */
export function buildEnvironment() {
  const prefix = path.resolve(process.execPath, '../..');
  const env = { ...process.env };
  env.PATH = path.join(root, 'node_modules/.bin') + path.delimiter + env.PATH;
  if (!env.npm_config_nodedir && existsSync(path.join(prefix, 'include/node/node_api.h'))) {
    env.npm_config_nodedir = prefix;
  }
  return env;
}

/** Runs a program in the top directory with our output; resolves to its exit code, 128 for a death by signal. */
export function run(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, env: buildEnvironment(), stdio: 'inherit', ...options });
    child.on('error', reject);
    child.on('exit', (code, signal) => {
      if (signal) console.error(`${command}: ended by ${signal}`);
      resolve(code ?? 128);
    });
  });
}

/** Does the jobs in their order, as many at a time as `most` says. */
export async function inTurn(jobs, most, job) {
  const queue = [...jobs];
  const work = async () => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) await job(next);
  };
  await Promise.all(Array.from({ length: most }, work));
}
