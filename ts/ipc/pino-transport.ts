import { Writable } from 'node:stream';
import type { Location } from '../location.js';
import { Log, type LogOptions } from './log.js';

/** Options of the transport: where the log is, and how it is opened. */
export interface PinoTransportOptions extends LogOptions {
  /** `shm:NAME`. */
  location: Location;
}

/**
 * A target for pino's transports: `pino.transport({ target: 'faultless/pino-transport', options: { location: 'shm:log' } })`. Each line goes to
 * the {@link Log} there; where it is full the transport waits until there is room, so that nothing is dropped.
 */
export default async function pinoTransport(options: PinoTransportOptions): Promise<Writable> {
  const { location, ...logOptions } = options;
  const log = await Log.open(location, logOptions);
  /** The end of a chunk that is no whole line yet. */
  let rest: Buffer | undefined;

  async function writeLine(line: Uint8Array): Promise<void> {
    while (!log.write(line)) await log.ready();
  }

  async function writeLines(chunk: Buffer): Promise<void> {
    let bytes = rest === undefined ? chunk : Buffer.concat([rest, chunk]);
    for (let end = bytes.indexOf(10); end >= 0; end = bytes.indexOf(10)) {
      await writeLine(bytes.subarray(0, end + 1));
      bytes = bytes.subarray(end + 1);
    }
    rest = bytes.length === 0 ? undefined : Buffer.from(bytes);
  }

  async function finish(): Promise<void> {
    if (rest !== undefined) await writeLine(rest);
    await log.close();
  }

  return new Writable({
    write: (chunk: Buffer, _encoding, callback) => void writeLines(chunk).then(() => callback(), callback),
    final: (callback) => void finish().then(() => callback(), callback),
    destroy: (error, callback) => void log.close().then(() => callback(error), callback),
  });
}
