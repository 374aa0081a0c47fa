import { createRequire } from 'node:module';
import path from 'node:path';

/** The repository's top directory: where the package is that this belongs to. */
export const root: string = path.dirname(createRequire(import.meta.url).resolve('faultless/package.json'));
