/**
 * The demo's third process: rewrites the entries it is told to, over and over, while the servers read them. Each write
 * carries a revision of its own, so that a stale answer can be told from a fresh one. Argument: FILE.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import { openLoadedDictionary } from './dictionary.js';
import { type FromUpdater, followParent, revisionId, type ToUpdater, tellParent } from './messages.js';
import type { Synset } from './wordnet.js';

const updatesPerRound = 16;
const pauseBetweenRounds = 10; // milliseconds

const [file = ''] = process.argv.slice(2);
const writer = randomUUID().slice(0, 8);
const stopped = new AbortController();
let updates = 0;
let updating: Promise<void> = Promise.resolve();
const opening = openLoadedDictionary(file, { readOnly: false });

followParent<ToUpdater>(
  (message) => {
    if (message.type === 'update') updating = updateAll(message.keys);
    else tellParent<FromUpdater>({ type: 'report', updates });
  },
  async () => {
    stopped.abort();
    await updating;
    await (await opening).close();
  },
);
await opening;
tellParent<FromUpdater>({ type: 'ready' });

async function updateAll(keys: string[]): Promise<void> {
  for (let at = 0; !stopped.signal.aborted; at = (at + updatesPerRound) % keys.length) {
    const round = keys.slice(at, at + updatesPerRound);
    const revisions = await Promise.all(round.map(update));
    tellParent<FromUpdater>({ type: 'superseded', revisions });
    await setTimeout(pauseBetweenRounds);
  }
}

/** Resolves to the revision that it replaced. */
async function update(key: string): Promise<string> {
  const dictionary = await opening;
  const synset = (await dictionary.get(key)) as Synset;
  await dictionary.set(key, { ...synset, revision: `${writer}-${++updates}` });
  return revisionId(key, synset.revision);
}
