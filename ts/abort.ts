/** What waits for a signal: one listener for all of it, or thousands of calls with one signal would look like a leak. */
const waiting = new WeakMap<AbortSignal, Set<() => void>>();

/** Calls `callback` when the signal aborts; answers how to have it forgotten. */
export function onAbort(signal: AbortSignal, callback: () => void): () => void {
  let callbacks = waiting.get(signal);
  if (callbacks === undefined) {
    callbacks = new Set();
    waiting.set(signal, callbacks);
    signal.addEventListener('abort', runCallbacks, { once: true });
  }
  callbacks.add(callback);
  const added = callbacks;
  return () => {
    added.delete(callback);
    if (added.size > 0 || waiting.get(signal) !== added) return;
    waiting.delete(signal);
    signal.removeEventListener('abort', runCallbacks);
  };
}

/** What the promise comes to, or the signal's reason as soon as it aborts, or where it has. */
export function untilAbort<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  if (signal.aborted) {
    promise.catch(() => {}); // nobody hears of it any more
    return Promise.reject(signal.reason);
  }
  return new Promise((resolve, reject) => {
    const forget = onAbort(signal, () => reject(signal.reason));
    promise.then(resolve, reject).finally(forget);
  });
}

function runCallbacks(event: Event): void {
  const signal = event.target as AbortSignal;
  const callbacks = waiting.get(signal) ?? [];
  waiting.delete(signal);
  for (const callback of callbacks) callback();
}
