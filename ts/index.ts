import { addon } from './addon.js';

/** The version of the native part. */
export const version: string = addon.version;
