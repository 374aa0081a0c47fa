/** Works that read on the calling thread. */
import type { Connection } from '../systems/system.js';
import { hotKeys, pickKeys } from './reads.js';
import { measure } from './timing.js';
import { need, type Work } from './work.js';

interface Kind {
  /** Ours by tryGet instead of getSync; peers have but one way. */
  try?: boolean;
  hot?: boolean;
  pin?: boolean;
}

function readerOf(connection: Connection, kind: Kind): NonNullable<Connection['getSync']> {
  const read = kind.try ? (connection.tryGet ?? connection.getSync) : connection.getSync;
  return need(read, 'getSync');
}

function syncWork(kind: Kind): Work['run'] {
  return async (round) => {
    const { values } = round;
    const connection = await round.open({ cache: kind.hot ?? false, pin: kind.pin ?? false });
    const read = readerOf(connection, kind);
    const { operations, keys, picks } = pickKeys(round, 200_000, kind.hot ? hotKeys : undefined);
    if (kind.hot) {
      await Promise.all(keys.map((key, number) => connection.prime?.(key, values.of(number))));
    }
    const measured = await measure(operations, (from, to) => {
      for (let i = from; i < to; i++) {
        const number = picks[i] as number;
        values.check(number, read(keys[number] as string));
      }
    });
    await connection.close();
    return measured;
  };
}

const strings = { medium: 'disk', values: 'strings', filled: 'once' } as const;

export const tryGetHot: Work = {
  name: 'try-get-hot',
  title: 'tryGet, 1,000 hot keys (lmdb: get, with its cache)',
  unit: 'ns',
  store: strings,
  goals: { lmdb: 1 },
  run: syncWork({ try: true, hot: true }),
};

export const tryGetProven: Work = {
  name: 'try-get',
  title: 'tryGet, random, residency proven each time',
  unit: 'ns',
  store: strings,
  goals: { lmdb: 1.5 },
  run: syncWork({ try: true }),
};

export const tryGetPinned: Work = {
  name: 'try-get-pinned',
  title: 'tryGet, random, pinned store',
  unit: 'ns',
  store: strings,
  goals: { lmdb: 3 },
  run: syncWork({ try: true, pin: true }),
};

export const getSyncStrings: Work = {
  name: 'get-sync-strings',
  title: 'getSync, random, strings',
  unit: 'ns',
  store: strings,
  goals: { lmdb: 3 },
  run: syncWork({}),
};

export const getSyncBuffers: Work = {
  name: 'get-sync-buffers',
  title: 'getSync, random, Buffers',
  unit: 'ns',
  store: { medium: 'disk', values: 'bytes', filled: 'once' },
  goals: { lmdb: 3 },
  run: syncWork({}),
};

export const getSyncRam: Work = {
  name: 'get-sync-ram',
  title: 'getSync, random, RAM store',
  unit: 'ns',
  store: { medium: 'ram', values: 'strings', filled: 'once' },
  goals: { lmdb: 3 },
  run: syncWork({}),
};
