/** What the main process and its children tell each other, and how a child follows its parent. */
import { endSignals } from '../command-line.js';

/** In milliseconds over the timer that measures it. */
export interface EventLoopDelay {
  median: number;
  p99: number;
  max: number;
}

export type ToServer = { type: 'report' } | { type: 'stop' };
export type FromServer = { type: 'listening'; url: string } | { type: 'report'; delay: EventLoopDelay };

export type ToUpdater = { type: 'update'; keys: string[] } | { type: 'report' } | { type: 'stop' };
export type FromUpdater =
  | { type: 'ready' }
  /** These revisions of entries were replaced: a read that starts now must not see them. */
  | { type: 'superseded'; revisions: string[] }
  | { type: 'report'; updates: number };

/** Names one state of one entry. */
export function revisionId(key: string, revision: string | undefined): string {
  return `${key} ${revision ?? 'as loaded'}`;
}

/**
 * In a child: hands on the parent's messages, and calls `stop` once, at the parent's word or at its end, whichever way
 * that came. What follows from a signal is for the parent alone to decide.
 */
export function followParent<Message extends { type: string }>(
  onMessage: (message: Exclude<Message, { type: 'stop' }>) => void,
  stop: () => Promise<void>,
): void {
  let stopping = false;
  const finish = async () => {
    if (stopping) return;
    stopping = true;
    await stop();
    if (process.connected) process.disconnect();
  };
  process.on('message', (message: Message) => {
    if (message.type === 'stop') finish();
    else onMessage(message as Exclude<Message, { type: 'stop' }>);
  });
  process.on('disconnect', finish);
  for (const signal of endSignals) process.on(signal, () => {});
  if (!process.connected) finish(); // The parent's end came before there was a listener.
}

export function tellParent<Message extends { type: string }>(message: Message): void {
  // An error means that the parent is gone, which 'disconnect' tells as well.
  process.send?.(message, undefined, undefined, () => {});
}
