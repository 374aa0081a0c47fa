/**
 * One of the demo's worker processes: an HTTP server over the store file. Arguments: FILE PORT.
 *
 *   GET /define/:word   the meanings of a word as JSON; 404 where it is unknown
 *   GET /all?limit=N    entries as NDJSON, all of them without a limit; 400 where N is not a positive integer
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { type Dictionary, define, openLoadedDictionary } from './dictionary.js';
import { type EventLoopDelay, type FromServer, followParent, type ToServer, tellParent } from './messages.js';
import { toLemma } from './wordnet.js';

const delayResolution = 5;
/** Sizes in bytes, to hold little of a large answer at a time. */
const readAhead = 256 * 1024;
const chunkLength = 32 * 1024;

const [file = '', port = '0'] = process.argv.slice(2);
const delays = monitorEventLoopDelay({ resolution: delayResolution });
const starting = start();

followParent<ToServer>(
  () => tellParent<FromServer>({ type: 'report', delay: eventLoopDelay() }),
  async () => {
    const { server, dictionary } = await starting;
    server.close();
    server.closeAllConnections();
    await dictionary.close();
  },
);

async function start() {
  const dictionary = await openLoadedDictionary(file, { readOnly: true });
  const server = createServer((request, response) => {
    answer(dictionary, request, response).catch((error: Error) => fail(request, response, error));
  });
  server.listen(Number(port), '127.0.0.1');
  await once(server, 'listening');
  delays.enable();
  const { address, port: actualPort } = server.address() as AddressInfo;
  tellParent<FromServer>({ type: 'listening', url: `http://${address}:${actualPort}` });
  return { server, dictionary };
}

async function answer(dictionary: Dictionary, request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (request.method !== 'GET') {
    response.setHeader('allow', 'GET');
    return send(response, 405, { error: `there is nothing but GET here, not ${request.method}` });
  }
  const { path, query } = splitTarget(request.url ?? '');
  if (path === '/all') return await answerAll(dictionary, query, response);
  if (path.startsWith('/define/')) return await answerDefine(dictionary, path.slice('/define/'.length), response);
  send(response, 404, { error: 'try /define/dog or /all?limit=10' });
}

async function answerDefine(dictionary: Dictionary, encodedWord: string, response: ServerResponse): Promise<void> {
  const word = decode(encodedWord);
  if (word === undefined) return send(response, 400, { error: 'the word is not percent-encoded UTF-8' });
  const meanings = await define(dictionary, toLemma(word));
  if (!meanings) return send(response, 404, { error: `no such word: ${word}` });
  send(response, 200, { word, meanings });
}

async function answerAll(dictionary: Dictionary, query: URLSearchParams, response: ServerResponse): Promise<void> {
  const limit = query.get('limit');
  if (limit !== null && !/^[1-9]\d{0,8}$/.test(limit)) {
    return send(response, 400, { error: `limit must be an integer from 1 to 999999999, not ${JSON.stringify(limit)}` });
  }
  const gone = new AbortController();
  response.on('close', () => gone.abort());
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  const options = { highWaterMark: readAhead, signal: gone.signal };
  const entries = dictionary.entries(limit === null ? options : { ...options, limit: Number(limit) });
  let chunk = '';
  for await (const [key, value] of entries) {
    chunk += `${JSON.stringify({ key, value })}\n`;
    if (chunk.length < chunkLength) continue;
    const more = response.write(chunk);
    chunk = '';
    if (!more) await once(response, 'drain', { signal: gone.signal });
  }
  response.end(chunk);
}

/** A URL object would take `//x` for a host, and resolve `..`. */
function splitTarget(target: string): { path: string; query: URLSearchParams } {
  const mark = target.indexOf('?');
  const end = mark === -1 ? target.length : mark;
  return { path: target.slice(0, end), query: new URLSearchParams(target.slice(end)) };
}

function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

function send(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(`${JSON.stringify(body)}\n`);
}

function fail(request: IncomingMessage, response: ServerResponse, error: Error): void {
  if (request.socket.destroyed) return; // Nobody waits for this answer any more.
  console.error(error);
  if (response.headersSent)
    response.destroy(error); // A cut-off answer must not look like a whole one.
  else send(response, 500, { error: error.message });
}

function eventLoopDelay(): EventLoopDelay {
  const overTimer = (nanoseconds: number) => Math.max(0, nanoseconds / 1e6 - delayResolution);
  return {
    median: overTimer(delays.percentile(50)),
    p99: overTimer(delays.percentile(99)),
    max: overTimer(delays.max),
  };
}
