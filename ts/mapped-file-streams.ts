import { Readable, Writable } from 'node:stream';
import { onAbort } from './abort.js';
import { checkBytes, checkInteger, checkOptions, checkSignal } from './arguments.js';
import { newError } from './errors.js';

/** Bytes per piece where `highWaterMark` was left out. */
const defaultPieceBytes = 64 * 1024;

export interface MapReadStreamOptions {
  /** Default 0. */
  start?: number;
  /** Inclusive, as in fs. Default: the end of the map. */
  end?: number;
  /** Bytes per piece, and read ahead. Default 64 KiB. */
  highWaterMark?: number;
  /** Destroys the stream with the signal's reason. */
  signal?: AbortSignal;
}

export interface MapWriteStreamOptions {
  /** Default 0. */
  start?: number;
  /** Bytes buffered before write() answers false. Default 64 KiB. */
  highWaterMark?: number;
  /** Destroys the stream with the signal's reason. */
  signal?: AbortSignal;
}

interface Source {
  read(position: number, length: number): Promise<Buffer>;
}

interface Target {
  writeMany(parts: Iterable<readonly [position: number, data: Uint8Array]>): Promise<void>;
}

type Done = (error?: Error | null) => void;

export function newReadStream(source: Source, options: MapReadStreamOptions): Readable {
  checkOptions(options);
  const signal = checkSignal(options.signal);
  let position = checkBytes('start', options.start ?? 0);
  const end = options.end === undefined || options.end === Infinity ? Infinity : checkBytes('end', options.end);
  if (end < position) throw newError('ERR_OUT_OF_RANGE', `start (${position}) must not be after end (${end})`);
  const pieceBytes = checkPiece(options.highWaterMark);
  const stream = new Readable({
    highWaterMark: pieceBytes,
    read() {
      source.read(position, Math.min(pieceBytes, end - position + 1)).then(
        (piece) => {
          position += piece.length;
          this.push(piece.length === 0 ? null : piece);
        },
        (error: Error) => this.destroy(error),
      );
    },
  });
  destroyOnAbort(stream, signal);
  return stream;
}

export function newWriteStream(target: Target, options: MapWriteStreamOptions): Writable {
  checkOptions(options);
  const signal = checkSignal(options.signal);
  let position = checkBytes('start', options.start ?? 0);
  const highWaterMark = checkPiece(options.highWaterMark);
  const writeAll = (pieces: readonly Uint8Array[], done: Done): void => {
    const parts = pieces.map((piece): [number, Uint8Array] => {
      const part: [number, Uint8Array] = [position, piece];
      position += piece.length;
      return part;
    });
    target.writeMany(parts).then(() => done(), done);
  };
  const stream = new Writable({
    highWaterMark,
    write: (piece: Uint8Array, _encoding, done) => writeAll([piece], done),
    writev: (pieces, done) =>
      writeAll(
        pieces.map(({ chunk }) => chunk as Uint8Array),
        done,
      ),
  });
  destroyOnAbort(stream, signal);
  return stream;
}

function checkPiece(highWaterMark: number | undefined): number {
  return checkInteger('highWaterMark', highWaterMark ?? defaultPieceBytes, 1, 2 ** 30);
}

function destroyOnAbort(stream: Readable | Writable, signal: AbortSignal | undefined): void {
  if (signal === undefined) return;
  if (signal.aborted) {
    stream.destroy(signal.reason);
    return;
  }
  stream.once(
    'close',
    onAbort(signal, () => stream.destroy(signal.reason)),
  );
}
