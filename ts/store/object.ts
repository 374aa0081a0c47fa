import { newError } from '../errors.js';
import type { Store } from './store.js';

/**
 * The store as an object, for programs that move in from mmap-object: `object.key`, `object.key = value`,
 * `delete object.key`, `'key' in object`, `for (const key in object)`, Object.keys, Object.entries, JSON.stringify. What
 * its properties are is what the store holds, whichever process wrote it: each access is a call of getSync, setSync,
 * deleteSync, hasSync or keysSync. All of them may block; enumeration takes all keys into memory at once, and reads each
 * of them once more.
 *
 * It has no prototype, so that no key is taken: `toString` and `__proto__` are keys like any other. Symbols are none:
 * reading one answers undefined. Setting or defining one, an accessor or undefined is ERR_INVALID_ARG_TYPE; other
 * errors are those of the methods. Closing the store closes the object: ERR_CLOSED from then on.
 */
export function asObject<V = any>(store: Store<V>): Record<string, V> {
  const set = (key: string | symbol, value: V): true => {
    if (typeof key === 'symbol') throw newError('ERR_INVALID_ARG_TYPE', 'A symbol cannot be a key');
    store.setSync(key, value);
    return true;
  };
  const describe = (value: V): PropertyDescriptor => ({
    value,
    writable: !store.readOnly,
    enumerable: true,
    configurable: true,
  });
  return new Proxy<Record<string, V>>(Object.create(null) as Record<string, V>, {
    get: (_, key) => (typeof key === 'symbol' ? undefined : store.getSync(key)),
    has: (_, key) => typeof key !== 'symbol' && store.hasSync(key),
    set: (_, key, value: V) => set(key, value),
    deleteProperty: (_, key) => {
      if (typeof key !== 'symbol') store.deleteSync(key);
      return true;
    },
    ownKeys: () => [...store.keysSync()],
    getOwnPropertyDescriptor: (_, key) => {
      const value = typeof key === 'symbol' ? undefined : store.getSync(key);
      return value === undefined ? undefined : describe(value);
    },
    defineProperty: (_, key, descriptor) => {
      if (!('value' in descriptor)) throw newError('ERR_INVALID_ARG_TYPE', 'A property of a store is a value');
      return set(key, descriptor.value as V);
    },
    preventExtensions: () => false,
    setPrototypeOf: (_, prototype) => prototype === null,
  });
}
