// The writes of Store that depend on what their key holds.
import { addon } from '../addon.js';
import { wrongType } from '../arguments.js';
import { decodeValue, encodeValue } from '../codec/encoding.js';
import { addsNatively, fromNumber, toNumber } from '../codec/number.js';
import { callNative, newError } from '../errors.js';
import { checkKey, type Key } from './key.js';
import { Kind } from './operation.js';
import { type Lifetime, toBytes } from './request.js';
import { type Change, Steps } from './steps.js';
import type { StoreCore } from './store-core.js';
import { checkWriteOptions, type WriteOptions, type WriteSettings } from './store-options.js';

/** Up to here every integer is a number. */
const mostOfNumber = 2 ** 53;

function keyBytes(key: Key): Uint8Array {
  return typeof key === 'string' ? Buffer.from(key) : Uint8Array.prototype.slice.call(key);
}

function encode<V>(core: StoreCore<V>, value: unknown): Uint8Array {
  return toBytes(encodeValue(core.codec, value));
}

/** Checks what every one of these checks before anything else happens. */
function begin<V>(core: StoreCore<V>, key: Key, options: WriteOptions | undefined): WriteSettings {
  const settings = checkWriteOptions(options);
  core.begin(settings.signal);
  core.checkWritable();
  checkKey(key);
  return settings;
}

/** Store.compareAndSet. */
export function compareAndSet<V>(
  core: StoreCore<V>,
  key: Key,
  expected: unknown,
  value: unknown,
  options: WriteOptions | undefined,
): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const settings = begin(core, key, options);
    // Before the other one is encoded: encoded values may share memory.
    const expectedBytes = expected === undefined ? undefined : encode(core, expected);
    const encoded = value === undefined ? undefined : encodeValue(core.codec, value);
    const lifetime = core.lifetimeOf(settings) ?? { ttl: 0, keep: false };
    const condition = { ...lifetime, expected: expectedBytes };
    const system = core.isSystem(settings);
    const { scheduler } = core;
    scheduler.submit(Kind.compareAndSet, key, encoded, resolve, reject, settings.signal, system, condition);
  });
}

/** Store.increment. */
export function increment<V>(
  core: StoreCore<V>,
  key: Key,
  by: unknown,
  options: WriteOptions | undefined,
): Promise<number> {
  return new Promise((resolve, reject) => {
    const settings = begin(core, key, options);
    const added = checkBy(by);
    const system = core.isSystem(settings);
    const { scheduler } = core;
    const lifetime = core.keptLifetimeOf(settings);
    if (addsNatively(core.codec)) {
      const condition = { ...lifetime, by: added };
      scheduler.submit(Kind.increment, key, undefined, resolve, reject, settings.signal, system, condition);
    } else {
      const steps = new Steps(core.handle, keyBytes(key), addition(core, added), lifetime);
      scheduler.submitSteps(key, steps, resolve, reject, settings.signal, system);
    }
  });
}

/** Store.incrementSync. May block. */
export function incrementSync<V>(core: StoreCore<V>, key: Key, by: unknown, options: WriteOptions | undefined): number {
  const settings = begin(core, key, options);
  const added = checkBy(by);
  const bytes = keyBytes(key);
  const lifetime = core.keptLifetimeOf(settings);
  core.beginSync(key, true);
  let sum: number;
  if (addsNatively(core.codec)) {
    sum = callNative(() => addon.storeIncrementSync(core.handle, bytes, added, lifetime.ttl, lifetime.keep));
  } else {
    const steps = new Steps(core.handle, bytes, addition(core, added), lifetime);
    steps.finish();
    const { outcome } = steps;
    if (outcome === undefined || outcome.failed) throw outcome?.reason;
    sum = outcome.value as number;
  }
  core.wroteSync(core.isSystem(settings));
  return sum;
}

/** Store.update. */
export function update<V>(
  core: StoreCore<V>,
  key: Key,
  change: (value: V | undefined) => unknown,
  options: WriteOptions | undefined,
): Promise<V | undefined> {
  return new Promise((resolve, reject) => {
    const settings = begin(core, key, options);
    if (typeof change !== 'function') throw wrongType('change', 'a function');
    const { codec, handle } = core;
    const decode = (bytes: Uint8Array | undefined): V | undefined => {
      if (bytes === undefined) return undefined;
      const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      return decodeValue(codec, buffer, 0, buffer.length, false) as V;
    };
    const steps = new Steps(
      handle,
      keyBytes(key),
      {
        next(current) {
          const value = change(decode(current));
          return value === undefined ? undefined : encode(core, value);
        },
        answer: decode,
      },
      core.keptLifetimeOf(settings),
    );
    core.scheduler.submitSteps(key, steps, resolve, reject, settings.signal, core.isSystem(settings));
  });
}

/** Store.setSync of something that expires. May block; the caller sees to durability. */
export function setExpiringSync<V>(core: StoreCore<V>, key: Key, value: unknown, lifetime: Lifetime): void {
  const bytes = keyBytes(key);
  const encoded = encode(core, value);
  core.beginSync(key, true);
  callNative(() => addon.storeSetTtlSync(core.handle, bytes, encoded, lifetime.ttl, lifetime.keep));
}

function checkBy(by: unknown): number {
  if (by === undefined) return 1;
  if (typeof by !== 'number') throw wrongType('by', 'a number');
  if (!Number.isFinite(by)) throw newError('ERR_OUT_OF_RANGE', `by must be finite, and is ${by}`);
  return by;
}

/** Adds to a number by way of its codec. */
function addition<V>({ codec }: StoreCore<V>, by: number): Change {
  let sum = 0;
  return {
    next(current) {
      const number = current === undefined ? 0 : toNumber(codec, decodeValue(codec, current, 0, current.length, false));
      if (number === undefined) throw newError('ERR_NOT_A_NUMBER', 'The value is no number');
      sum = number + by;
      if (!(Math.abs(sum) <= mostOfNumber)) throw newError('ERR_OUT_OF_RANGE', 'The sum would be beyond 2^53');
      return toBytes(encodeValue(codec, fromNumber(codec, sum)));
    },
    answer: () => sum,
  };
}
