/** The dictionary in a store file: opening it, loading it once, looking a word up. */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { Store } from 'faultless';
import {
  countEntries,
  dataset,
  type IndexEntry,
  indexKey,
  type Meaning,
  partsOfSpeech,
  readEntries,
  type Synset,
  toMeaning,
} from './wordnet.js';

/** Says which data set the store holds and how far its loading came; written last, it stands for all that precedes it. */
export interface Marker {
  dataset: string;
  entries: number;
  loaded: number;
  changed: Date;
}
export type Entry = IndexEntry | Synset | Marker;
export type Dictionary = Store<Entry>;

export const markerKey = 'meta:dataset';
const batchLength = 1_000;
const batchesPerCheckpoint = 25;

export interface LoadOptions {
  signal: AbortSignal;
  onProgress(done: number, total: number): void;
}

/** A meaning as it is served. `revision` is there once the updater has rewritten the synset. */
export interface ServedMeaning extends Meaning {
  revision?: string;
}

/** Opens the store file, creates it (and its directory) where there is none. */
export async function openDictionary(file: string): Promise<Dictionary> {
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
  return await Store.open<Entry>(file, { encoding: 'auto' });
}

/** Opens the store file of a loaded dictionary for reading alone, or for reading and writing. */
export async function openLoadedDictionary(file: string, options: { readOnly: boolean }): Promise<Dictionary> {
  return await Store.open<Entry>(file, { encoding: 'auto', create: false, readOnly: options.readOnly });
}

/**
 * Fills the store with WordNet unless it is there already; goes on where an interrupted load stopped. Resolves to the
 * number of entries, and how many of them this call wrote.
 */
export async function loadDictionary(
  dictionary: Dictionary,
  { signal, onProgress }: LoadOptions,
): Promise<{ entries: number; written: number }> {
  let marker = (await dictionary.get(markerKey, { signal })) as Marker | undefined;
  if (marker?.dataset === dataset && marker.loaded === marker.entries) return { entries: marker.entries, written: 0 };
  if (!marker && dictionary.size > 0) throw new Error(`${dictionary.location} holds other data: give another --file`);

  if (marker?.dataset !== dataset) {
    marker = { dataset, entries: await countEntries(), loaded: 0, changed: new Date() };
    await dictionary.clear({ signal });
    await dictionary.set(markerKey, marker, { signal });
  }
  const { entries, loaded: alreadyLoaded } = marker;

  // What a marker counts must be there after a power cut as well, so a flush comes before it, and after the last one.
  const checkpoint = async (loaded: number) => {
    await dictionary.flush();
    await dictionary.set(markerKey, { dataset, entries, loaded, changed: new Date() }, { signal });
  };
  let seen = 0;
  let batches = 0;
  let batch: [string, Entry][] = [];
  let writing: Promise<void> = Promise.resolve();
  const submit = async () => {
    await writing;
    signal.throwIfAborted();
    onProgress(seen - batch.length, entries);
    if (++batches % batchesPerCheckpoint === 0) await checkpoint(seen - batch.length);
    // Not awaited here: the next lines are parsed while libuv's threads write these.
    writing = dictionary.setMany(batch, { signal });
    writing.catch(() => {}); // Met by the await at the next call.
    batch = [];
  };

  for await (const entry of readEntries()) {
    if (++seen <= alreadyLoaded) continue;
    batch.push(entry);
    if (batch.length === batchLength) await submit();
  }
  await submit();
  await writing;
  if (seen !== entries) throw new Error(`read ${seen} entries of WordNet where ${entries} were counted`);
  await checkpoint(entries);
  await dictionary.flush();
  onProgress(entries, entries);
  return { entries, written: entries - alreadyLoaded };
}

/** All meanings of a word, by part of speech, or undefined where the dictionary does not have it. */
export async function define(dictionary: Dictionary, lemma: string): Promise<ServedMeaning[] | undefined> {
  const found = await Promise.all(partsOfSpeech.map((part) => dictionary.get(indexKey(part, lemma))));
  const uses = partsOfSpeech.flatMap((part, i) =>
    ((found[i] as IndexEntry | undefined)?.synsets ?? []).map((key) => ({ part, key })),
  );
  if (uses.length === 0) return undefined;

  const synsets = (await dictionary.getMany(uses.map(({ key }) => key))) as (Synset | undefined)[];
  return uses.map(({ part, key }, i) => {
    const synset = synsets[i];
    if (!synset) throw new Error(`${key}, a meaning of ${lemma}, is not in the store`);
    const meaning = toMeaning(part, key, synset);
    return synset.revision === undefined ? meaning : { ...meaning, revision: synset.revision };
  });
}
