/** What a work needs of the systems that are compared, each used the way its own documentation recommends. */

export const systemNames = ['faultless', 'lmdb', 'classic-level', 'fs'] as const;
export type SystemName = (typeof systemNames)[number];

export type Stored = string | Buffer;

/** Where a store lies: `disk` in an ordinary directory, `ram` in memory that processes share. */
export interface Place {
  medium: 'disk' | 'ram';
  /** Of the files; on RAM systems of their own kind only the name counts. */
  directory: string;
  name: string;
}

export interface OpenOptions {
  values: 'strings' | 'bytes';
  /** Copies of hot values in the process, where the system has them. */
  cache: boolean;
  /** The whole store locked into memory, where the system can do that. */
  pin: boolean;
}

/**
 * An open store. A method is absent where the system has nothing of the kind. No call survives the process's death less well than
 * faultless' durability 'process': none waits for the device.
 */
export interface Connection {
  /** Without waiting on the event loop. */
  get?(key: string): Promise<Stored | undefined>;
  getMany?(keys: string[]): Promise<(Stored | undefined)[]>;
  /** On the calling thread. */
  getSync?(key: string): Stored | undefined;
  /** On the calling thread, without ever waiting; throws where it cannot tell. */
  tryGet?(key: string): Stored | undefined;
  /** Puts an entry into the process's cache, where reading it does not. It is stored already. */
  prime?(key: string, value: Stored): Promise<unknown>;
  set?(key: string, value: Stored): Promise<unknown>;
  /** Many at once, for a system without a quick set. */
  setBatch?(keys: string[], values: Stored[]): Promise<void>;
  setSync?(key: string, value: Stored): void;
  /** Calls `visit` with every entry, by the system's ordinary way of iterating. */
  scan?(visit: (key: string, value: Stored) => void): Promise<void>;
  close(): Promise<void>;
}

export interface KeyValueSystem {
  open(place: Place, options: OpenOptions): Promise<Connection>;
  /** Bytes that the closed store takes of its device. */
  allocatedBytes(place: Place): Promise<number>;
  destroy(place: Place): Promise<void>;
}
