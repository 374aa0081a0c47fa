// Every encoding gives back what was stored, and refuses the rest.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import vm from 'node:vm';
import { type Codec, FaultlessError, Store, type Value } from 'faultless';
import { newPath, newSeed, Random, rejects, throws, wrong } from './store-fixture.js';

/** Through promise, sync and try methods; pending and stored. */
async function roundTrip<V>(store: Store<V>, value: V, expected: unknown = value): Promise<void> {
  const pending = store.set('key', value);
  const atHand = store.tryGet('key');
  if (typeof atHand !== 'symbol') assert.deepEqual(atHand, expected);
  await pending;
  assert.deepEqual(await store.get('key'), expected);
  assert.deepEqual(store.getSync('key'), expected);
  store.setSync('other', value);
  assert.deepEqual(store.getSync('other'), expected);
  assert.deepEqual(await store.getMany(['other', 'absent', 'key']), [expected, undefined, expected]);
  for await (const found of store.values()) assert.deepEqual(found, expected);
}

describe("encoding 'auto'", () => {
  const long = 'long text, ünïcödé 🦊 '.repeat(5000);
  const exact: Record<string, Value> = {
    'empty string': '',
    ASCII: 'text',
    'text of every width': 'aé€🦊\0',
    'a lone surrogate': '\ud800',
    'lone surrogates inside': 'x\udfffy\ud800\ud800z🦊',
    'a long text': long,
    'a long text with a lone surrogate': `${long}\udc00`,
    zero: 0,
    'minus zero': -0,
    NaN: Number.NaN,
    infinity: Infinity,
    'minus infinity': -Infinity,
    fraction: 0.1,
    smallest: Number.MIN_VALUE,
    largest: Number.MAX_VALUE,
    'largest safe integer': Number.MAX_SAFE_INTEGER,
    true: true,
    false: false,
    null: null,
    'bigint 0': 0n,
    'bigint -1': -1n,
    'bigint 2^63': 2n ** 63n,
    'bigint -2^64': -(2n ** 64n),
    'bigint of 2,000 bits': -(3n ** 1262n),
    date: new Date(1234567890123),
    'date before 1970': new Date(-1),
    'the last date': new Date(8.64e15),
    'empty bytes': Buffer.alloc(0),
    bytes: Buffer.from([0, 1, 255]),
    'many bytes': Buffer.alloc(100_000, 7),
    'empty array': [],
    'empty object': {},
    nested: [
      1,
      -0,
      Number.NaN,
      -Infinity,
      'x',
      null,
      true,
      [[]],
      { a: { b: [2n ** 70n, new Date(7), Buffer.from('z')] } },
    ],
    'names of methods as keys': JSON.parse(
      '{"__proto__":{"x":1},"constructor":1,"toJSON":2,"hasOwnProperty":3,"length":4}',
    ),
    'odd keys': { '': 1, '\ud800': 2, ключ: 3, '1': 4, [long]: 5 },
    'every integer width': [
      0,
      127,
      128,
      255,
      256,
      65535,
      65536,
      2 ** 31,
      2 ** 32 - 1,
      2 ** 32,
      2 ** 53,
      2 ** 60,
    ].flatMap((n) => [n, -n, -n - 1]),
    'strings of every width': [31, 32, 255, 256, 65535, 65536].flatMap((n) => ['x'.repeat(n), 'é'.repeat(n)]),
    'many elements': Array.from({ length: 70_000 }, (_, i) => i),
    'many properties': Object.fromEntries(Array.from({ length: 70_000 }, (_, i) => [`p${i}`, i])),
    'bytes of every width': [255, 256, 65535, 65536].map((n) => Buffer.alloc(n, 3)),
  };

  for (const [name, value] of Object.entries(exact)) {
    test(name, async () => {
      await using store = await Store.open<Value>(newPath());
      await roundTrip(store, value);
    });
  }

  test('an invalid date, alone and nested', async () => {
    await using store = await Store.open<any>(newPath());
    const invalid = new Date(Number.NaN);
    await store.setMany([
      ['alone', invalid],
      ['nested', [invalid]],
    ]);
    for (const found of [await store.get('alone'), (await store.get('nested'))[0]]) {
      assert.ok(found instanceof Date);
      assert.ok(Number.isNaN(found.getTime()));
    }
  });

  test('levels up to the limit', async () => {
    await using store = await Store.open<any>(newPath());
    const nest = (levels: number): Value => {
      let value: Value = [];
      for (let i = 1; i < levels; i++) value = i % 2 === 0 ? [value] : { deeper: value };
      return value;
    };
    for (const levels of [999, 1000]) {
      await store.set('deep', nest(levels));
      let depth = 0;
      for (let at = await store.get('deep'); at !== undefined; at = Array.isArray(at) ? at[0] : at.deeper) depth++;
      assert.equal(depth, levels);
    }
    await rejects(store.set('deep', nest(1001)), 'ERR_INVALID_ARG_VALUE', TypeError);
  });

  test('a Uint8Array comes back as a Buffer, a plain object of another realm as one of ours, undefined properties not at all', async () => {
    await using store = await Store.open<any>(newPath());
    await roundTrip(store, new Uint8Array([1, 2]), Buffer.from([1, 2]));
    await roundTrip(store, { b: new Uint8Array([1, 2]) }, { b: Buffer.from([1, 2]) });
    await roundTrip(store, { a: undefined, b: 1 }, { b: 1 });
    await roundTrip(store, Object.assign(Object.create(null), { x: 1 }), { x: 1 });
    await roundTrip(store, vm.runInNewContext('({ a: [1, new Date(5)] })'), { a: [1, new Date(5)] });
  });

  test('what is no value is refused, alone and nested, and changes nothing', async () => {
    await using store = await Store.open<any>(newPath());
    await store.set('key', 'before');
    class Point {
      x = 1;
    }
    const refused = [
      undefined,
      () => 1,
      Symbol('s'),
      new Map(),
      new Set(),
      new Point(),
      Object.create({ inherited: 1 }),
      /x/,
      new Error('x'),
      new WeakMap(),
      Promise.resolve(),
      new Float64Array(1),
      new ArrayBuffer(1),
      new DataView(new ArrayBuffer(1)),
      new (class extends Array {})(),
      new (class extends Date {})(),
      Object(1),
      Object('x'),
      { [Symbol('key')]: 1 },
      new Proxy(new Map(), {}),
    ];
    for (const value of refused) {
      const nested: unknown[] = [[value], { a: [{ b: value }] }];
      if (value === undefined) nested.pop();
      for (const candidate of [value, ...nested]) {
        await rejects(store.set('key', candidate), 'ERR_INVALID_ARG_TYPE', TypeError);
        throws(() => store.setSync('key', candidate), 'ERR_INVALID_ARG_TYPE', TypeError);
        await rejects(store.setMany([['key', candidate]]), 'ERR_INVALID_ARG_TYPE', TypeError);
      }
    }
    await rejects(store.set('key', new Array(3)), 'ERR_INVALID_ARG_TYPE', TypeError);
    const cycle: unknown[] = [];
    cycle.push({ cycle });
    await rejects(store.set('key', cycle), 'ERR_INVALID_ARG_VALUE', TypeError);
    assert.equal(await store.get('key'), 'before');
  });

  test('values made at random come back exactly', async () => {
    const random = new Random(newSeed('values'));
    const unit = (): string => String.fromCharCode(random.below(random.pick([0x80, 0x800, 0x10000])));
    const text = (): string => Array.from({ length: random.below(40) }, unit).join('');
    const value = (depth: number): Value => {
      switch (random.below(depth > 4 ? 9 : 11)) {
        case 0:
          return text();
        case 1:
          return random.next() * 10 ** random.below(300);
        case 2:
          return new DataView(new Uint8Array(random.bytes(8)).buffer).getFloat64(0);
        case 3:
          return random.below(2 ** 32) - 2 ** 31;
        case 4:
          return BigInt(random.pick([-1, 1])) * BigInt(`0x0${random.bytes(random.below(40)).toString('hex')}`);
        case 5:
          return random.pick([true, false, null, -0, 0, Number.NaN, Infinity, -Infinity]);
        case 6:
          return new Date(random.below(2 ** 32) * random.pick([-1000, 1, 1000]));
        case 7:
        case 8:
          return random.bytes(random.below(100));
        case 9:
          return Array.from({ length: random.below(20) }, () => value(depth + 1));
        default: {
          const entries = Array.from({ length: random.below(20) }, () => [text(), value(depth + 1)] as const);
          return Object.fromEntries(entries);
        }
      }
    };
    await using store = await Store.open<Value>(newPath());
    const expected = new Map<string, Value>();
    for (let i = 0; i < 3000; i++) expected.set(`key${i}`, value(0));
    await store.setMany(expected);
    for (const [key, stored] of expected) assert.deepEqual(await store.get(key), stored, key);
  });

  test('bytes that are no value of this encoding are ERR_CORRUPT for that call alone, whatever they are', async () => {
    const random = new Random(newSeed('hostile values'));
    const { autoCodec } = await import('#internal/codec/auto.js');
    const { decodeValue } = await import('#internal/codec/encoding.js');
    let refused = 0;
    for (let i = 0; i < 20_000; i++) {
      const bytes = random.bytes(1 + random.below(30));
      bytes[0] = random.below(12);
      try {
        decodeValue(autoCodec, bytes, 0, bytes.length, true);
      } catch (error) {
        refused++;
        assert.ok(error instanceof FaultlessError);
        assert.equal(error.code, 'ERR_CORRUPT');
      }
    }
    assert.ok(refused > 1000);
    // A count or a length that asks for more than there is must not ask for memory.
    for (const hostile of [
      '0adfffffffff',
      '0addffffffff',
      '0ac6ffffffff',
      '0adbffffffff',
      '0ac9ffffffff01',
      '0a91',
      '0a',
    ]) {
      const bytes = Buffer.from(hostile, 'hex');
      throws(() => decodeValue(autoCodec, bytes, 0, bytes.length, true), 'ERR_CORRUPT');
    }
    const deep = Buffer.alloc(200_000, 0x91);
    deep[0] = 10;
    throws(() => decodeValue(autoCodec, deep, 0, deep.length, true), 'ERR_CORRUPT');
  });

  test('a getter that stores something while its object is encoded disturbs nothing', async () => {
    await using store = await Store.open<any>(newPath());
    const inner: Promise<void>[] = [];
    const outer = {
      a: 'x'.repeat(100),
      get b() {
        inner.push(store.set('inner', { list: [1, 2, 3] }));
        store.setSync('inner sync', { list: [4] });
        return 'b';
      },
      c: [1n],
    };
    await store.set('outer', outer);
    await Promise.all(inner);
    assert.deepEqual(await store.get('outer'), { a: 'x'.repeat(100), b: 'b', c: [1n] });
    assert.deepEqual(await store.get('inner'), { list: [1, 2, 3] });
    assert.deepEqual(await store.get('inner sync'), { list: [4] });
    const failing = {
      get a(): never {
        throw new Error('from a getter');
      },
    };
    await rejects(store.set('outer', failing), 'ERR_INVALID_ARG_VALUE', TypeError);
    await assert.rejects(store.set('outer', failing), (error: Error) => /from a getter/.test(String(error.cause)));
    await store.set('after', { that: 1 });
    assert.deepEqual(await store.get('after'), { that: 1 });
  });
});

describe('the other encodings', () => {
  test("'utf8'", async () => {
    await using store = await Store.open(newPath(), { encoding: 'utf8' });
    for (const text of ['', 'text', 'aé€🦊\0', 'é'.repeat(100_000)]) await roundTrip(store, text);
    await rejects(store.set('key', '\ud800'), 'ERR_INVALID_ARG_VALUE', TypeError);
    for (const value of [1, null, undefined, Buffer.from('x'), {}]) {
      await rejects(store.set('key', wrong(value)), 'ERR_INVALID_ARG_TYPE', TypeError);
    }
  });

  test("'buffer'", async () => {
    await using store = await Store.open(newPath(), { encoding: 'buffer' });
    for (const bytes of [Buffer.alloc(0), Buffer.from([0, 255]), Buffer.alloc(300_000, 9)]) {
      await store.set('key', bytes);
      assert.deepEqual(await store.get('key'), bytes);
      assert.deepEqual(store.getSync('key'), bytes);
    }
    await store.set('key', 'téxt');
    assert.deepEqual(await store.get('key'), Buffer.from('téxt'));
    await rejects(store.set('key', '\udc00'), 'ERR_INVALID_ARG_VALUE', TypeError);
    for (const value of [1, null, undefined, [1], new Uint16Array(1)]) {
      await rejects(store.set('key', wrong(value)), 'ERR_INVALID_ARG_TYPE', TypeError);
    }
  });

  test("'json'", async () => {
    await using store = await Store.open<any>(newPath(), { encoding: 'json' });
    for (const value of [null, true, 1.5, 'téxt\ud800', [1, [2]], { a: { b: [] } }]) await roundTrip(store, value);
    await roundTrip(store, { d: new Date(0), u: undefined }, { d: '1970-01-01T00:00:00.000Z' });
    for (const value of [undefined, () => 1, Symbol('s'), 1n, { n: 1n }]) {
      await rejects(store.set('key', value), 'ERR_INVALID_ARG_TYPE', TypeError);
    }
    const cycle: any = {};
    cycle.cycle = cycle;
    await rejects(store.set('key', cycle), 'ERR_INVALID_ARG_VALUE', TypeError);
  });

  test("'msgpack'", async () => {
    await using store = await Store.open<any>(newPath(), { encoding: 'msgpack' });
    const values = [null, true, 1.5, 2 ** 40, 'téxt', [1, [2]], { a: { b: [] } }, new Date(1000), Buffer.from('x')];
    for (const value of values) await roundTrip(store, value);
    // The same structure many times over: nothing of it is kept outside of the value.
    await store.setMany(Array.from({ length: 100 }, (_, i) => [`k${i}`, { alpha: i, beta: i }] as const));
    for (let i = 0; i < 100; i++) assert.deepEqual(await store.get(`k${i}`), { alpha: i, beta: i });
    for (const value of [undefined, () => 1, Symbol('s')]) {
      await rejects(store.set('key', value), 'ERR_INVALID_ARG_TYPE', TypeError);
    }
  });

  test('a codec of the caller', async () => {
    const codec: Codec<{ n: number }> = {
      name: 'numbers',
      encode: ({ n }) => (n % 2 === 0 ? String(n) : Buffer.from(String(n))),
      decode: (bytes) => ({ n: Number(bytes.toString()) }),
    };
    await using store = await Store.open(newPath(), { encoding: codec });
    for (let n = 0; n < 5; n++) await roundTrip(store, { n });
  });

  test('a codec that throws fails that call alone', async () => {
    const reason = new Error('refused');
    const codec: Codec<string> = {
      name: 'picky',
      encode(value) {
        if (value === 'refuse') throw reason;
        return value;
      },
      decode(bytes) {
        const text = bytes.toString();
        if (text === 'unreadable') throw reason;
        return text;
      },
    };
    await using store = await Store.open(newPath(), { encoding: codec });
    const results = await Promise.allSettled([
      store.set('a', 'fine'),
      store.set('b', 'refuse'),
      store.set('c', 'unreadable'),
      store.get('a'),
      store.get('c'),
      store.get('a'),
    ]);
    assert.deepEqual(
      results.map((result) => result.status),
      ['fulfilled', 'rejected', 'fulfilled', 'fulfilled', 'rejected', 'fulfilled'],
    );
    const reasonOf = (index: number) => (results[index] as PromiseRejectedResult).reason;
    assert.equal(reasonOf(1).code, 'ERR_INVALID_ARG_VALUE');
    assert.equal(reasonOf(4).code, 'ERR_CORRUPT');
    for (const index of [1, 4]) {
      assert.ok(reasonOf(index) instanceof FaultlessError);
      assert.equal(reasonOf(index).cause, reason);
    }
    throws(() => store.getSync('c'), 'ERR_CORRUPT');
    await rejects(store.getMany(['a', 'c']), 'ERR_CORRUPT');
    assert.equal(await store.has('c'), true);
    const seen = [];
    for await (const key of store.keys()) seen.push(key);
    assert.deepEqual(seen.sort(), ['a', 'c']);
  });

  test('what a codec encodes to is captured, and checked', async () => {
    const reused = Buffer.alloc(20_000);
    const answers: unknown[] = [];
    const codec = { name: 'scratch', encode: () => answers.shift(), decode: (bytes: Buffer) => bytes[0] };
    await using store = await Store.open<any>(newPath(), { encoding: codec as Codec<any> });
    for (const size of [10, 20_000]) {
      const pending = [];
      for (let i = 0; i < 5; i++) {
        reused.fill(i);
        answers.push(reused.subarray(0, size));
        pending.push(store.set(`key${i}`, i));
      }
      await Promise.all(pending);
      for (let i = 0; i < 5; i++) assert.equal(await store.get(`key${i}`), i);
    }
    for (const answer of [undefined, 1, null, {}]) {
      answers.push(answer);
      await rejects(store.set('key', 1), 'ERR_INVALID_ARG_TYPE', TypeError);
    }
    answers.push('\ud800');
    await rejects(store.set('key', 1), 'ERR_INVALID_ARG_VALUE', TypeError);
  });

  test('number: every number, in eight bytes', async () => {
    await using store = await Store.open(newPath(), { encoding: 'number', hotBytes: 0 });
    const numbers = [0, -0, 1, -1.5, 2 ** 53, Number.MIN_VALUE, Number.MAX_VALUE, Infinity, -Infinity, NaN];
    for (const number of numbers) {
      await store.set('key', number);
      assert.ok(Object.is(await store.get('key'), number), `${number}`);
      assert.ok(Object.is(store.getSync('key'), number), `${number}`);
    }
    assert.equal((await store.getEntry('key'))?.bytes, 8);
    await store.set('key', 40);
    assert.equal(await store.increment('key', 2), 42);
    assert.equal(store.incrementSync('fresh'), 1);
    assert.equal(await store.compareAndSet('key', 42, 7), true);
    assert.deepEqual(await store.getMany(['key', 'fresh', 'absent']), [7, 1, undefined]);
    for (const value of ['1', 1n, null, undefined, {}, Buffer.alloc(8)]) {
      await rejects(store.set('key', wrong(value)), 'ERR_INVALID_ARG_TYPE', TypeError);
    }
    assert.equal(await store.get('key'), 7);
  });

  test('the name is kept in the file', async () => {
    const path = newPath();
    await (await Store.open(path, { encoding: 'utf8' })).close();
    await rejects(Store.open(path), 'ERR_FORMAT');
    await rejects(Store.open(path, { encoding: 'json' }), 'ERR_FORMAT');
    throws(() => Store.openSync(path, { encoding: 'buffer' }), 'ERR_FORMAT');
    await (await Store.open(path, { encoding: 'utf8' })).close();

    const own = newPath();
    const codec = (name: string): Codec<string> => ({ name, encode: (text) => text, decode: String });
    await (await Store.open(own, { encoding: codec('x'.repeat(63)) })).close();
    await (await Store.open(own, { encoding: codec('x'.repeat(63)) })).close();
    await rejects(Store.open(own, { encoding: codec('x'.repeat(62)) }), 'ERR_FORMAT');
  });

  test('what is no encoding is refused', async () => {
    const path = newPath();
    for (const encoding of ['utf-8', '', 'AUTO']) {
      await rejects(Store.open(path, { encoding: wrong(encoding) }), 'ERR_INVALID_ARG_VALUE', TypeError);
    }
    const encode = () => '';
    const decode = () => '';
    for (const encoding of [1, null, {}, { name: 'x' }, { name: 'x', encode }, { name: 1, encode, decode }]) {
      await rejects(Store.open(path, { encoding: wrong(encoding) }), 'ERR_INVALID_ARG_TYPE', TypeError);
    }
    for (const name of ['', 'auto', 'number', 'x'.repeat(64), 'é'.repeat(32), 'a\0b']) {
      await rejects(Store.open(path, { encoding: { name, encode, decode } }), 'ERR_INVALID_ARG_VALUE', TypeError);
    }
  });
});
