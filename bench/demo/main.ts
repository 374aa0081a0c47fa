/**
 * `npm run demo`: WordNet in one store file, served by two processes while a third one updates it. Everything shown is
 * checked on the way; the exit code is 0 where all of it was right, 1 where something was not, 2 for wrong arguments,
 * 128 + signal number where a signal cut it short.
 */
import { once, setMaxListeners } from 'node:events';
import { stat } from 'node:fs/promises';
import { constants } from 'node:os';
import { performance } from 'node:perf_hooks';
import { endSignals, readOptions } from '../command-line.js';
import { Child, type Server, type Updater } from './child.js';
import { type Dictionary, loadDictionary, openDictionary } from './dictionary.js';
import { help, type Options, parseOptions } from './options.js';
import { Progress } from './progress.js';
import { formatCount, formatReport, type Report } from './report.js';
import { Traffic, WrongAnswer } from './traffic.js';
import { Reference, wordnetVersion } from './wordnet.js';

const shownWord = 'dog';

/** The user's wish to end the demo: not an error of its own. */
class Interruption extends Error {
  readonly exitCode: number;

  constructor(signal: NodeJS.Signals) {
    super(`ended by ${signal}`);
    this.exitCode = 128 + constants.signals[signal];
  }
}

process.exitCode = await main(process.argv.slice(2));

async function main(args: string[]): Promise<number> {
  const options = readOptions(args, parseOptions, help);
  if (typeof options === 'number') return options;

  const ending = new AbortController();
  setMaxListeners(0, ending.signal); // Every request under way listens.
  // Once: who presses Ctrl-C again does not want to wait for the ordinary end.
  for (const signal of endSignals) process.once(signal, () => ending.abort(new Interruption(signal)));
  process.stdout.on('error', () => ending.abort(new Interruption('SIGPIPE'))); // As in `| head`.
  try {
    await run(options, ending);
    return 0;
  } catch (error) {
    console.error(`demo: ${(error as Error).message}`);
    return error instanceof Interruption ? error.exitCode : 1;
  }
}

async function run(options: Options, ending: AbortController): Promise<void> {
  console.log(`WordNet ${wordnetVersion} in ${options.file}`);
  await using dictionary = await openDictionary(options.file);
  const entries = await load(dictionary, ending.signal);

  const failures: Error[] = [];
  const onFailure = (error: Error) => {
    failures.push(error);
    ending.abort(error);
  };
  const updater: Updater = new Child('the updater', './updater.js', [options.file], onFailure);
  const servers: Server[] = [0, 1].map((i) => {
    const port = options.port === 0 ? 0 : options.port + i;
    return new Child(`worker ${i + 1}`, './server.js', [options.file, String(port)], onFailure);
  });
  const scene = { dictionary, entries, servers, updater, options, signal: ending.signal };
  const error = await play(scene).then(
    () => undefined,
    (error: Error) => error,
  );
  await Promise.all([...servers, updater].map((child) => child.stop()));
  // Of a connection that broke, the end of the child behind it says more.
  const isCause = error instanceof WrongAnswer || error instanceof Interruption;
  const reason = isCause ? error : (failures[0] ?? error);
  if (reason) throw reason;
}

/** Resolves to the number of entries. */
async function load(dictionary: Dictionary, signal: AbortSignal): Promise<number> {
  const start = performance.now();
  const progress = new Progress();
  try {
    const onProgress = (done: number, total: number) => progress.update(done, total);
    const { entries, written } = await loadDictionary(dictionary, { signal, onProgress });
    progress.stop();
    const what = written === 0 ? 'loaded before:' : `wrote ${formatCount(written)} of`;
    console.log(`${what} ${formatCount(entries)} entries (${Math.round(performance.now() - start)} ms)`);
    return entries;
  } finally {
    progress.stop();
  }
}

interface Scene {
  dictionary: Dictionary;
  entries: number;
  servers: Server[];
  updater: Updater;
  options: Options;
  signal: AbortSignal;
}

async function play(scene: Scene): Promise<void> {
  const { servers, updater, signal } = scene;
  const [listening, reference] = await Promise.all([
    Promise.all(servers.map((server) => server.receive('listening', signal))),
    Reference.read(),
    updater.receive('ready', signal),
  ]);
  const urls = listening.map(({ url }) => url);
  const traffic = new Traffic(urls, reference, signal);
  try {
    console.log(formatReport(await exercise(scene, traffic)));
  } catch (error) {
    if (!(error instanceof WrongAnswer)) signal.throwIfAborted();
    throw error;
  } finally {
    traffic.close();
  }
  if (scene.options.serve) await serve(servers, urls, signal);
}

/** Has the updater write, and sends the requests meanwhile. */
async function exercise(scene: Scene, traffic: Traffic): Promise<Report> {
  const { dictionary, entries, servers, updater, options, signal } = scene;
  updater.on('superseded', ({ revisions }) => traffic.addSuperseded(revisions));
  updater.send({ type: 'update', keys: traffic.keysToUpdate() });
  console.log(`sending ${formatCount(options.requests)} requests, then reading all of the store from each worker …`);
  await traffic.run(options.requests);
  const readStart = performance.now();
  await traffic.readAll(entries);
  const seconds = (performance.now() - readStart) / 1_000;
  const meaning = await traffic.define(shownWord);
  const reports = await Promise.all(servers.map((server) => server.ask('report', signal)));
  const { updates } = await updater.ask('report', signal);
  return {
    requests: options.requests,
    latencies: traffic.latencies,
    readAll: { servers: servers.length, entries, seconds },
    updates,
    delays: reports.map(({ delay }) => delay),
    keys: dictionary.size,
    fileBytes: (await stat(options.file)).size,
    word: shownWord,
    meaning,
  };
}

/** Until Ctrl-C, which is the ordinary end here. */
async function serve(servers: Server[], urls: string[], signal: AbortSignal): Promise<void> {
  for (const [i, url] of urls.entries()) {
    console.log(`${servers[i]?.name} serves ${url}/define/${shownWord} and ${url}/all?limit=10`);
  }
  console.log('Ctrl-C ends it');
  if (!signal.aborted) await once(signal, 'abort');
  if (!(signal.reason instanceof Interruption)) throw signal.reason;
}
