/** The demo's own requests to its servers, over loopback, each answer compared with the text that WordNet came from. */
import { Agent, get, type IncomingMessage } from 'node:http';
import { createHistogram, performance, type RecordableHistogram } from 'node:perf_hooks';
import { text } from 'node:stream/consumers';
import { isDeepStrictEqual } from 'node:util';
import { type Entry, markerKey, type ServedMeaning } from './dictionary.js';
import { revisionId } from './messages.js';
import { type IndexEntry, type Reference, type Synset, synsetKey } from './wordnet.js';

const concurrency = 16;
const sampleLimit = 100;
const updatedWordCount = 200;
/** A prime, so that steps of it meet every word before they meet one twice. */
const stride = 7_919;

/** A server said something that it must not say. */
export class WrongAnswer extends Error {}

export class Traffic {
  readonly #urls: string[];
  readonly #reference: Reference;
  readonly #lemmas: string[];
  readonly #signal: AbortSignal;
  readonly #agent = new Agent({ keepAlive: true });
  readonly #supersededAt = new Map<string, number>();
  #closed = false;
  readonly latencies: RecordableHistogram = createHistogram();

  constructor(urls: string[], reference: Reference, signal: AbortSignal) {
    this.#urls = urls;
    this.#reference = reference;
    this.#lemmas = reference.lemmas();
    this.#signal = signal;
  }

  /** The entries that half of the requests ask for. */
  keysToUpdate(): string[] {
    const words = Array.from({ length: updatedWordCount }, (_, i) => this.#word(i));
    return [...new Set(words.flatMap((word) => this.#reference.synsetKeys(word)))];
  }

  /** These were replaced: requests that start from now on must not be answered with them. */
  addSuperseded(revisions: string[]): void {
    if (this.#closed) return;
    const now = performance.now();
    for (const revision of revisions) this.#supersededAt.set(revision, now);
  }

  /** Sends so many requests, to the servers in turn; rejects at the first wrong answer. */
  async run(requestCount: number): Promise<void> {
    let sent = 0;
    const sendNext = async () => {
      while (sent < requestCount) {
        const i = sent++;
        const url = this.#urls[i % this.#urls.length] as string;
        if (i % 50 === 10) await this.#checkSample(url);
        else if (i % 50 === 35) await this.#checkUnknown(url, i);
        else await this.#checkDefinition(url, this.#word(i % 4 < 2 ? i % updatedWordCount : i));
      }
    };
    await Promise.all(Array.from({ length: concurrency }, sendNext));
  }

  /** Reads every entry from every server at once: each key must come exactly once, with a value that is its own. */
  async readAll(entryCount: number): Promise<void> {
    await Promise.all(
      this.#urls.map(async (url) => {
        const keys = await this.#readEntries(`${url}/all`);
        keys.delete(markerKey);
        check(keys.size === entryCount, `${url}/all`, `${keys.size} entries instead of ${entryCount}`);
        for (const lemma of this.#lemmas) {
          for (const key of this.#reference.keys(lemma)) check(keys.has(key), `${url}/all`, `${key} is missing`);
        }
      }),
    );
  }

  async define(word: string): Promise<ServedMeaning> {
    const [meaning] = await this.#checkDefinition(this.#urls[0] as string, word);
    return meaning as ServedMeaning;
  }

  close(): void {
    this.#closed = true;
    this.#agent.destroy();
  }

  #word(i: number): string {
    return this.#lemmas[(i * stride) % this.#lemmas.length] as string;
  }

  async #checkDefinition(origin: string, word: string): Promise<ServedMeaning[]> {
    const url = `${origin}/define/${encodeURIComponent(word.replaceAll('_', ' '))}`;
    const { status, body, start } = await this.#measure(url);
    check(status === 200, url, `status ${status}`);
    const meanings = (JSON.parse(body) as { meanings: ServedMeaning[] }).meanings;
    const found = meanings.map(({ revision, ...meaning }) => meaning);
    check(isDeepStrictEqual(found, this.#reference.meanings(word)), url, `wrong answer: ${body}`);
    for (const { synset, revision } of meanings) {
      const supersededAt = this.#supersededAt.get(revisionId(synset, revision)) ?? Number.POSITIVE_INFINITY;
      check(start <= supersededAt, url, `${synset} is answered as it was before an update that had completed`);
    }
    return meanings;
  }

  async #checkUnknown(origin: string, i: number): Promise<void> {
    const url = `${origin}/define/no%20such%20word%20${i}`;
    const { status, body } = await this.#measure(url);
    check(status === 404, url, `status ${status}: ${body}`);
  }

  async #checkSample(origin: string): Promise<void> {
    const url = `${origin}/all?limit=${sampleLimit}`;
    const start = performance.now();
    const keys = await this.#readEntries(url);
    this.#record(start);
    check(keys.size === sampleLimit, url, `${keys.size} entries`);
  }

  async #measure(url: string): Promise<{ status: number; body: string; start: number }> {
    const start = performance.now();
    const response = await this.#get(url);
    const body = await text(response);
    this.#record(start);
    return { status: response.statusCode ?? 0, body, start };
  }

  #record(start: number): void {
    this.latencies.record(Math.max(1, Math.round((performance.now() - start) * 1e6)));
  }

  async #readEntries(url: string): Promise<Set<string>> {
    const response = await this.#get(url);
    check(response.statusCode === 200, url, `status ${response.statusCode}`);
    const keys = new Set<string>();
    for await (const line of lines(response)) {
      const { key, value } = JSON.parse(line) as { key: string; value: Entry };
      check(!keys.has(key), url, `${key} came twice`);
      check(belongs(key, value), url, `${key} came with a value that is not its own: ${line}`);
      keys.add(key);
    }
    return keys;
  }

  #get(url: string): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const request = get(url, { agent: this.#agent, signal: this.#signal }, resolve);
      request.on('error', (error: NodeJS.ErrnoException) => {
        // The server may close an idle connection at the moment when it is used again.
        const closedWhenIdle = request.reusedSocket && error.code === 'ECONNRESET';
        if (closedWhenIdle) resolve(this.#get(url));
        else reject(error);
      });
    });
  }
}

/** Rejects where the answer was cut off. */
async function* lines(response: IncomingMessage): AsyncGenerator<string> {
  let rest = '';
  for await (const chunk of response.setEncoding('utf8') as AsyncIterable<string>) {
    const whole = (rest + chunk).split('\n');
    rest = whole.pop() ?? '';
    yield* whole;
  }
  if (rest !== '') yield rest;
}

/** Whether the value says of itself that it is the key's. */
function belongs(key: string, value: Entry): boolean {
  const [kind, letter = '', ...rest] = key.split(':');
  if (kind === 'index') return (value as IndexEntry).lemma === rest.join(':');
  if (kind !== 'synset') return key === markerKey;
  const { type, offset } = value as Synset;
  // A satellite of an adjective ('s') is filed among the adjectives.
  return key === synsetKey(type === 's' ? 'a' : type, String(offset).padStart(8, '0')) && letter !== 's';
}

function check(condition: boolean, url: string, problem: string): void {
  if (!condition) throw new WrongAnswer(`GET ${url}: ${problem}`);
}
