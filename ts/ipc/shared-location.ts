import { newError } from '../errors.js';
import { type Location, toPath } from '../location.js';

/** The path of a location in RAM. ERR_INVALID_ARG_VALUE for any other one. */
export function toSharedPath(location: Location): string {
  const path = toPath(location);
  const text = location instanceof URL ? location.href : location;
  if (text.startsWith('shm:')) return path;
  throw newError('ERR_INVALID_ARG_VALUE', `Memory of processes lies in RAM: the location is shm:NAME, not ${text}`);
}
