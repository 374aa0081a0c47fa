// The control protocol of nbdkit's pause filter: one letter each way over a Unix domain socket (nbdkit-pause-filter(1)).
import { connect } from 'node:net';

/** Resolves once no request is under way in the server and none that comes will be begun. */
export function pauseServer(socketPath: string, timeoutMs: number): Promise<void> {
  return exchange(socketPath, 'p', timeoutMs);
}

/** Resolves once the server works on the requests that have been waiting. */
export function resumeServer(socketPath: string, timeoutMs: number): Promise<void> {
  return exchange(socketPath, 'r', timeoutMs);
}

function exchange(socketPath: string, letter: 'p' | 'r', timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    const timer = setTimeout(() => socket.destroy(new Error(`no answer after ${timeoutMs} ms`)), timeoutMs);
    socket.once('error', reject);
    socket.once('connect', () => socket.write(letter));
    socket.once('data', (answer) => {
      if (answer.toString('latin1') === letter.toUpperCase()) resolve();
      else reject(new Error(`the pause filter answered ${JSON.stringify(answer.toString('latin1'))}`));
      socket.destroy();
    });
    socket.once('close', () => {
      clearTimeout(timer);
      reject(new Error('the pause filter closed the connection'));
    });
  });
}
