// The side of the script that a TestProcess runs. Importing this makes the script end with its parent.

interface Message {
  name: string;
  value: unknown;
}

const messages: Message[] = [];
const waiting = new Map<string, (value: unknown) => void>();

process.on('message', (message: Message) => {
  const take = waiting.get(message.name);
  if (take === undefined) {
    messages.push(message);
  } else {
    waiting.delete(message.name);
    take(message.value);
  }
});
process.on('disconnect', () => {
  // An exit would wait for libuv's threads, and one of them may wait for a device. PID 1 cannot kill itself, though.
  process.kill(process.pid, 'SIGKILL');
  process.exit(1);
});
// The script ends when it has nothing left to do but listen.
process.channel?.unref();

/** Sends a message to the parent, which takes it by TestProcess.message(name). Resolves when it is on its way. */
export function tell(name: string, value?: unknown): Promise<void> {
  return new Promise((resolve, reject) => {
    if (process.send === undefined) throw new Error('this script is to be started by a TestProcess');
    process.send({ name, value }, undefined, undefined, (error) => (error ? reject(error) : resolve()));
  });
}

/** Resolves with the value of the parent's next message of this name. Keeps the process alive until then. */
export function received(name: string): Promise<unknown> {
  const index = messages.findIndex((message) => message.name === name);
  if (index >= 0) return Promise.resolve(messages.splice(index, 1)[0]?.value);
  process.channel?.ref();
  return new Promise((resolve) => {
    waiting.set(name, (value) => {
      if (waiting.size === 0) process.channel?.unref();
      resolve(value);
    });
  });
}

/** Work that goes on until the parent says 'stop'. */
export function workUntilStop(): { readonly stopped: boolean } {
  const work = { stopped: false };
  void received('stop').then(() => {
    work.stopped = true;
  });
  return work;
}
