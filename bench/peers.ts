/** What faultless is measured against. */
import { install, installedVersion, requireFrom } from './packages.js';

export type StoreName = 'lmdb' | 'classic-level';
export type PeerName = StoreName | 'pino';
/** The stores among them. */
export const peerNames: readonly StoreName[] = ['lmdb', 'classic-level'];

export function requirePeer(name: PeerName): unknown {
  return requireFrom('peers')(name);
}

/** Of an installed peer; undefined where it is not. */
export function peerVersion(name: PeerName): string | undefined {
  return installedVersion('peers', name);
}

export function installPeers(): Promise<void> {
  return install('peers');
}
