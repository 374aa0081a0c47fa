/** Packages that only the benchmarks need: in packages of their own below bench/, installed when they are needed. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { root } from './root.js';

/** `peers`: the stores that faultless is measured against; `caches`: likewise; `plots`: what draws figures. */
export type Group = 'peers' | 'caches' | 'plots';

const directoryOf = (group: Group): string => path.join(root, 'bench', group);
const manifestOf = (group: Group): string => path.join(directoryOf(group), 'package.json');

/** What makes the module of a package: for require(), and for import where it is one that can only be imported. */
export function requireFrom(group: Group): NodeJS.Require {
  return createRequire(manifestOf(group));
}

function readJson(file: string): any {
  return JSON.parse(readFileSync(file, 'utf8'));
}

/** Of an installed package; undefined where it is not. */
export function installedVersion(group: Group, name: string): string | undefined {
  const file = path.join(directoryOf(group), 'node_modules', name, 'package.json');
  return existsSync(file) ? readJson(file).version : undefined;
}

/** Installs what the group's package-lock.json says, unless it is there. */
export async function install(group: Group): Promise<void> {
  const wanted: Record<string, string> = readJson(manifestOf(group)).dependencies;
  const names = Object.keys(wanted);
  if (names.every((name) => installedVersion(group, name) === wanted[name])) return;
  console.log(`installing ${names.join(' and ')} in bench/${group} …`);
  const args = ['ci', '--prefix', directoryOf(group), '--no-audit', '--no-fund', '--loglevel=error'];
  // npm run tells which npm it is.
  const script = process.env.npm_execpath;
  const npm = script?.endsWith('.js')
    ? spawn(process.execPath, [script, ...args], { stdio: 'inherit' })
    : spawn('npm', args, { stdio: 'inherit' });
  const [code] = await once(npm, 'exit');
  if (code !== 0) throw new Error(`npm could not install ${names.join(' and ')} (exit code ${code})`);
}
