/**
 * Answered by `try*` methods when answering would wait: for a device, a lock, or an own write under way. Never a stored
 * value.
 */
export const COLD: unique symbol = Symbol('faultless.COLD');
export type Cold = typeof COLD;
