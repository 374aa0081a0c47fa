// What the types say: compiled, and nothing more.
import { test } from 'node:test';
import { expectTypeOf } from 'expect-type';
import {
  COLD,
  type Codec,
  type Cold,
  type Key,
  type KeyValueStore,
  Store,
  type StoreOptions,
  type Value,
  type WriteOptions,
} from 'faultless';

declare const codec: Codec<{ n: number }>;

/** Never called. */
export async function types(options: StoreOptions): Promise<void> {
  expectTypeOf(await Store.open('x', { encoding: 'utf8' })).toEqualTypeOf<Store<string>>();
  expectTypeOf(await Store.open('x', { encoding: 'buffer' })).toEqualTypeOf<Store<Buffer, Uint8Array | string>>();
  expectTypeOf(await Store.open('x', { encoding: 'number' })).toEqualTypeOf<Store<number>>();
  expectTypeOf(Store.openSync('x', { encoding: 'number' })).toEqualTypeOf<Store<number>>();
  expectTypeOf(await Store.open('x', { encoding: codec })).toEqualTypeOf<Store<{ n: number }>>();
  expectTypeOf(await Store.open<Value>('x', { encoding: 'json' })).toEqualTypeOf<Store<Value>>();
  expectTypeOf(await Store.open<number>(new URL('file:///x'))).toEqualTypeOf<Store<number>>();
  expectTypeOf(await Store.open('x', options)).toEqualTypeOf<Store<any>>();
  expectTypeOf(await Store.open('x')).toEqualTypeOf<Store<any>>();
  expectTypeOf(Store.openSync('x', { encoding: 'utf8' })).toEqualTypeOf<Store<string>>();
  expectTypeOf(Store.openSync('x', { encoding: codec })).toEqualTypeOf<Store<{ n: number }>>();
  expectTypeOf(Store.openSync<number>('x')).toEqualTypeOf<Store<number>>();
  // @ts-expect-error: no such encoding
  void Store.open('x', { encoding: 'utf16' });
  // @ts-expect-error: of a later release
  void Store.open('x', { uids: true });
  // @ts-expect-error: there is no public constructor
  new Store();

  // Code that is written against the interface takes a Store.
  const near: KeyValueStore<string> = await Store.open('x', { encoding: 'utf8' });
  const nearBytes: KeyValueStore<Buffer, Uint8Array | string> = await Store.open('x', { encoding: 'buffer' });
  expectTypeOf(near.get('key')).toEqualTypeOf<Promise<string | undefined>>();
  expectTypeOf(nearBytes.batch().set('key', 'text').commit()).toEqualTypeOf<Promise<boolean>>();
  for await (const [key, value] of near) expectTypeOf([key, value] as const).toEqualTypeOf<readonly [string, string]>();

  const text = await Store.open('x', { encoding: 'utf8' });
  expectTypeOf(text.get('key')).toEqualTypeOf<Promise<string | undefined>>();
  expectTypeOf(text.getSync('key')).toEqualTypeOf<string | undefined>();
  expectTypeOf(text.getMany(['key'])).toEqualTypeOf<Promise<(string | undefined)[]>>();
  expectTypeOf(text.tryGet('key')).toEqualTypeOf<string | undefined | Cold>();
  expectTypeOf(text.tryHas('key')).toEqualTypeOf<boolean | Cold>();
  expectTypeOf(text.set).parameter(1).toEqualTypeOf<string>();
  expectTypeOf(text.get).parameter(0).toEqualTypeOf<Key>();
  expectTypeOf(text.entries()).toEqualTypeOf<AsyncIterableIterator<[string, string]>>();
  expectTypeOf(text.entries({ keyEncoding: 'buffer' })).toEqualTypeOf<AsyncIterableIterator<[Buffer, string]>>();
  expectTypeOf(text.keys()).toEqualTypeOf<AsyncIterableIterator<string>>();
  expectTypeOf(text.keys({ keyEncoding: 'buffer' })).toEqualTypeOf<AsyncIterableIterator<Buffer>>();
  expectTypeOf(text.values()).toEqualTypeOf<AsyncIterableIterator<string>>();
  expectTypeOf(text.keysSync()).toEqualTypeOf<IterableIterator<string>>();
  expectTypeOf(text.entriesSync()).toEqualTypeOf<IterableIterator<[string, string]>>();
  for await (const [key, value] of text) expectTypeOf([key, value] as const).toEqualTypeOf<readonly [string, string]>();
  for (const entry of text) expectTypeOf(entry).toEqualTypeOf<[string, string]>();
  const now = text.tryGet('key');
  if (now !== COLD) expectTypeOf(now).toEqualTypeOf<string | undefined>();
  // @ts-expect-error: strings only
  void text.set('key', 1);

  const bytes = await Store.open('x', { encoding: 'buffer' });
  expectTypeOf(bytes.get('key')).toEqualTypeOf<Promise<Buffer | undefined>>();
  expectTypeOf(bytes.set).parameter(1).toEqualTypeOf<Uint8Array | string>();
  void bytes.set('key', new Uint8Array(1), { ttl: Infinity, durability: 'process', signal: AbortSignal.timeout(1) });
  void bytes.set('key', 'x', { durability: 'system' });
  // @ts-expect-error: of a whole store only
  void bytes.set('key', 'x', { durability: { everyMs: 100 } });
  expectTypeOf(text.setMany)
    .parameter(0)
    .toExtend<Iterable<readonly [Key, string]> | AsyncIterable<readonly [Key, string]>>();
  expectTypeOf(text.compareAndSet).parameters.toEqualTypeOf<
    [Key, string | undefined, string | undefined, WriteOptions?]
  >();
  expectTypeOf(text.compareAndSet('key', 'old', undefined)).toEqualTypeOf<Promise<boolean>>();
  expectTypeOf(text.increment('key')).toEqualTypeOf<Promise<number>>();
  expectTypeOf(text.incrementSync('key', 2, { ttl: 5 })).toEqualTypeOf<number>();
  expectTypeOf(text.update('key', (value) => `${value}!`)).toEqualTypeOf<Promise<string | undefined>>();
  expectTypeOf(bytes.update)
    .parameter(1)
    .toEqualTypeOf<(value: Buffer | undefined) => Uint8Array | string | undefined>();
  // @ts-expect-error: `change` is synchronous
  void text.update('key', async () => 'value');
  expectTypeOf(text.ttl('key')).toEqualTypeOf<Promise<number | undefined>>();
  expectTypeOf(text.touch('key', 5)).toEqualTypeOf<Promise<boolean>>();
  // @ts-expect-error: how long is to be said
  void text.touch('key');
  expectTypeOf(text.getEntry('key')).toEqualTypeOf<
    Promise<{ value: string; ttl: number; bytes: number } | undefined>
  >();
  void text.setMany(new Map([['key', 'value']]));
  void text.setMany(text);
  void bytes.setMany(text);
}

test('the types compile', () => {});
