/** The stores that faultless is measured against: packages of a package of their own, installed when they are needed. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { root } from './root.js';

const directory = path.join(root, 'bench/peers');
const manifest = path.join(directory, 'package.json');

export type PeerName = 'lmdb' | 'classic-level';
export const peerNames: readonly PeerName[] = ['lmdb', 'classic-level'];

export function requirePeer(name: PeerName): unknown {
  return createRequire(manifest)(name);
}

function readJson(file: string): any {
  return JSON.parse(readFileSync(file, 'utf8'));
}

/** Of an installed peer; undefined where it is not. */
export function peerVersion(name: PeerName): string | undefined {
  const file = path.join(directory, 'node_modules', name, 'package.json');
  return existsSync(file) ? readJson(file).version : undefined;
}

/** Installs what bench/peers/package-lock.json says, unless it is there. */
export async function installPeers(): Promise<void> {
  const wanted: Record<string, string> = readJson(manifest).dependencies;
  if (peerNames.every((name) => peerVersion(name) === wanted[name])) return;
  console.log(`installing ${peerNames.join(' and ')} in bench/peers …`);
  const args = ['ci', '--prefix', directory, '--no-audit', '--no-fund', '--loglevel=error'];
  // npm run tells which npm it is.
  const script = process.env.npm_execpath;
  const npm = script?.endsWith('.js')
    ? spawn(process.execPath, [script, ...args], { stdio: 'inherit' })
    : spawn('npm', args, { stdio: 'inherit' });
  const [code] = await once(npm, 'exit');
  if (code !== 0) throw new Error(`npm could not install the peers (exit code ${code})`);
}
