/** How MappedFile and Store open their files. */
export interface OpenFlags {
  /** Default false (MappedFile: true). */
  readOnly?: boolean;
  /** Create the file where there is none. Default true (MappedFile: false). */
  create?: boolean;
  /** ERR_EXISTS where it is there already. Default false. */
  exclusive?: boolean;
  /** Exact permissions of what is created, whatever the umask: 0 … 0o7777. Default 0o600. */
  permissions?: number;
  /** Rejects at once with the signal's reason. */
  signal?: AbortSignal;
}

/** Work on a whole store. */
export interface LongWork {
  /** Rejects at once with the signal's reason; what is under way ends within a moment. */
  signal?: AbortSignal;
  /** Told now and then how far it is: done never goes back, and is total in the end. What it throws ends the work. */
  onProgress?(done: number, total: number): void;
}

export interface ReadOptions {
  /** Rejects at once with the signal's reason. What is already on a thread finishes there, unheard. */
  signal?: AbortSignal;
}
