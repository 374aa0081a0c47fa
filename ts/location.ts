import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { newError } from './errors.js';

/**
 * A file path, a file: URL, or `shm:NAME` (1–200 of A-Z a-z 0-9 . _ -): a region in RAM shared by this host's
 * processes, which is the file /dev/shm/faultless.NAME.
 */
export type Location = string | URL;

const sharedMemory = '/dev/shm/faultless.';
const validName = /^[A-Za-z0-9._-]{1,200}$/;

/**
 * The absolute path that a location means.
 *
 * Throws ERR_INVALID_ARG_TYPE for what is neither string nor URL, ERR_INVALID_ARG_VALUE for an empty path, one with a
 * NUL, a URL of another scheme, or a name that is not allowed.
 */
export function toPath(location: Location): string {
  if (location instanceof URL) return urlToPath(location);
  if (typeof location !== 'string') {
    throw newError('ERR_INVALID_ARG_TYPE', 'The location must be a path, a file: URL or shm:NAME');
  }
  if (location.startsWith('shm:')) return nameToPath(location.slice('shm:'.length));
  if (location.startsWith('file:')) {
    if (!URL.canParse(location)) throw newError('ERR_INVALID_ARG_VALUE', `Not a URL: ${location}`);
    return urlToPath(new URL(location));
  }
  if (location === '') throw newError('ERR_INVALID_ARG_VALUE', 'The path is empty');
  if (location.includes('\0')) throw newError('ERR_INVALID_ARG_VALUE', 'A path has no NUL characters');
  // Now, so that a later process.chdir() changes nothing.
  return resolve(location);
}

function urlToPath(url: URL): string {
  if (url.protocol === 'shm:') return nameToPath(url.href.slice('shm:'.length));
  if (url.protocol !== 'file:') {
    throw newError('ERR_INVALID_ARG_VALUE', `A URL of a location is a file: URL, not ${url.protocol}`);
  }
  let path: string;
  try {
    path = fileURLToPath(url);
  } catch (cause) {
    throw newError('ERR_INVALID_ARG_VALUE', `Not the URL of a file on this host: ${url.href}`, { cause });
  }
  if (path.includes('\0')) throw newError('ERR_INVALID_ARG_VALUE', 'A path has no NUL characters');
  return path;
}

function nameToPath(name: string): string {
  if (!validName.test(name)) {
    throw newError('ERR_INVALID_ARG_VALUE', 'The NAME of shm:NAME is 1 to 200 of A-Z a-z 0-9 . _ -');
  }
  return sharedMemory + name;
}

/** What Store.location tells: the file's absolute path, or shm:NAME. */
export function describeLocation(location: Location, path: string): string {
  return typeof location === 'string' && location.startsWith('shm:') ? location : path;
}
