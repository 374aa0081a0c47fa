import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

/** What csrc/binding/ exports to JavaScript. */
export interface Addon {
  readonly version: string;
}

const load = createRequire(import.meta.url)('node-gyp-build') as (directory: string) => Addon;

/** The native part: the prebuilt binary for this platform, or what was compiled at installation. */
export const addon: Addon = load(fileURLToPath(new URL('..', import.meta.url)));
