// String.prototype.isWellFormed is there in every supported Node, though not yet in the library typings of ES2023.
const isWellFormedMethod = (String.prototype as unknown as { isWellFormed: (this: string) => boolean }).isWellFormed;

/** Whether the text has no lone surrogates, so that UTF-8 keeps it as it is. */
export function isWellFormed(text: string): boolean {
  return isWellFormedMethod.call(text);
}
