/** A process that the demo starts, talks to and stops; its unexpected end is reported. */
import { type ChildProcess, fork } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { FromServer, FromUpdater, ToServer, ToUpdater } from './messages.js';

const stopTimeout = 10_000; // milliseconds

export type Server = Child<ToServer, FromServer>;
export type Updater = Child<ToUpdater, FromUpdater>;

export class Child<To extends { type: string }, From extends { type: string }> {
  readonly name: string;
  readonly #process: ChildProcess;
  readonly #messages = new EventEmitter();
  readonly #ended: Promise<void>;
  #stopping = false;

  /**
   * Starts a module of this directory. `onFailure` is called when the child cannot be started, or ends by itself
   * or with an exit code other than 0.
   */
  constructor(name: string, module: string, args: string[], onFailure: (error: Error) => void) {
    const child = fork(fileURLToPath(new URL(module, import.meta.url)), args, {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.#process = child;
    this.name = `${name} (process ${child.pid})`;
    child.on('message', (message: From) => this.#messages.emit(message.type, message));
    this.#ended = new Promise((resolve) => {
      child.on('error', (error) => {
        onFailure(new Error(`${name} could not be started: ${error.message}`, { cause: error }));
        resolve();
      });
      child.on('exit', (code, signal) => {
        const how = signal ? `was ended by ${signal}` : `ended with exit code ${code}`;
        if (!this.#stopping || code !== 0) onFailure(new Error(`${this.name} ${how}`));
        resolve();
      });
    });
  }

  send(message: To): void {
    // An error means that the child is gone, which 'exit' tells as well.
    this.#process.send(message, () => {});
  }

  on<Type extends From['type']>(type: Type, listener: (message: Extract<From, { type: Type }>) => void): void {
    this.#messages.on(type, listener);
  }

  /** The next message of this type; rejects with the signal's reason. */
  async receive<Type extends From['type']>(type: Type, signal: AbortSignal): Promise<Extract<From, { type: Type }>> {
    try {
      const [message] = await once(this.#messages, type, { signal });
      return message;
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    }
  }

  /** Sends a message, resolves to the answer of the same type. */
  async ask<Type extends To['type'] & From['type']>(
    type: Type,
    signal: AbortSignal,
  ): Promise<Extract<From, { type: Type }>> {
    const answer = this.receive(type, signal);
    this.send({ type } as unknown as To);
    return await answer;
  }

  /** Lets it finish what it is at; resolves when the process is gone. */
  async stop(): Promise<void> {
    this.#stopping = true;
    if (this.#process.connected) this.#process.send({ type: 'stop' }, () => {});
    const waited = new AbortController();
    const overdue = setTimeout(stopTimeout, true, { signal: waited.signal }).catch(() => false);
    if (await Promise.race([this.#ended, overdue])) {
      console.error(`${this.name} does not stop: it is killed`);
      this.#process.kill('SIGKILL');
    }
    waited.abort();
    await this.#ended;
  }
}
