/** What the encoding 'auto' stores and gives back with its type. Uint8Array comes back as Buffer. */
export type Value =
  | string
  | number
  | bigint
  | boolean
  | null
  | Date
  | Uint8Array
  | readonly Value[]
  | { readonly [key: string]: Value | undefined };
