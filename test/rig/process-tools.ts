// Child processes for tests: Node scripts of the test build that tell by IPC how far they are (child.ts is their side).
import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { toolPath } from './commands.js';
import { pidNamespaceUnavailableReason } from './environment.js';
import { isRunning, processIds, processStat, threadReport } from './proc.js';

export interface TestProcessOptions {
  args?: readonly string[];
  /** Added to this process's environment; undefined removes a variable. */
  env?: Record<string, string | undefined>;
  /** Options of Node itself, such as '--expose-gc'. */
  execArgv?: readonly string[];
  cwd?: string;
  /**
   * Starts the script as PID 1 of a PID namespace of its own, with a /proc of its own, as in a container: two such
   * processes have the same PID. It also has a copy of the mounts, which it keeps in use until it ends. Needs
   * TestProcess.pidNamespaceUnavailableReason() to be undefined.
   */
  pidNamespace?: boolean;
}

export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

interface Message {
  name: string;
  value: unknown;
}

const running = new Set<TestProcess>();

/**
 * The outer shell stays outside and tells how the script ended (unshare --fork reports a killed child as exit code 1);
 * its first child is PID 1 of the new namespace and becomes the script. Only the script writes to stderr.
 */
const pidOne = `sh -c 'mount -t proc proc /proc && exec "$@"' sh "$@"`;
const outerShell = `exec 4>&2 2>/dev/null; ${pidOne} 2>&4 4>&-; exit $?`;
const inNewNamespace = ['unshare', '--pid', '--mount', '--', 'sh', '-c', outerShell, 'sh'];

/** A shell's exit code for a command that a signal has ended. */
function signalOf(code: number): NodeJS.Signals | null {
  const entry = Object.entries(constants.signals).find(([, value]) => code === 128 + value);
  return (entry?.[0] ?? null) as NodeJS.Signals | null;
}

/** A child process. Whatever it is waited for in vain, the error tells its output and what its threads wait for. */
export class TestProcess {
  readonly #child: ChildProcess;
  readonly #script: string;
  readonly #inNamespace: boolean;
  readonly #exited: Promise<Exit>;
  readonly #messages: Message[] = [];
  #stdout = '';
  #stderr = '';
  #exit: Exit | undefined;

  /** Starts a script, named by its URL relative to the caller: new URL('./fixtures/writer.js', import.meta.url). */
  constructor(script: URL, options: TestProcessOptions = {}) {
    const { args = [], env = {}, execArgv = [], cwd, pidNamespace = false } = options;
    this.#script = fileURLToPath(script);
    this.#inNamespace = pidNamespace;
    const node = [process.execPath, '--enable-source-maps', ...execArgv, this.#script, ...args];
    const [command = '', ...rest] = pidNamespace ? [...inNewNamespace, ...node] : node;
    // A runner's variables would make a child that uses node:test report to the runner.
    const inherited = { ...process.env, NODE_TEST_CONTEXT: undefined, PATH: toolPath };
    this.#child = spawn(command, rest, {
      cwd,
      env: { ...inherited, ...env },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      serialization: 'advanced',
    });
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#stdout += text;
    });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
    });
    this.#child.on('message', (message) => this.#messages.push(message as unknown as Message));
    this.#exited = this.#watchExit();
    if (running.size === 0) process.on('exit', killAll);
    running.add(this);
  }

  /** Why `pidNamespace` cannot be used here, or undefined. */
  static pidNamespaceUnavailableReason(): string | undefined {
    return pidNamespaceUnavailableReason();
  }

  /** The script's process as this process sees it; in a PID namespace its own view is 1. 0 if it has ended. */
  get pid(): number {
    const pid = this.#child.pid ?? 0;
    if (!this.#inNamespace || this.#exit !== undefined) return pid;
    return processIds().find((id) => processStat(id)?.parent === pid) ?? 0;
  }

  get stdout(): string {
    return this.#stdout;
  }

  get stderr(): string {
    return this.#stderr;
  }

  /** How it ended; undefined as long as it has not. */
  get exit(): Exit | undefined {
    return this.#exit;
  }

  /**
   * Resolves with the value of the oldest message of this name that was not taken yet. Rejects when the process ends
   * before, or after `timeoutMs`.
   */
  async message(name: string, timeoutMs = 30_000): Promise<unknown> {
    const end = performance.now() + timeoutMs;
    for (;;) {
      // Asked before the messages are looked at: what was sent before the end has then arrived.
      const ended = this.#exit !== undefined;
      const index = this.#messages.findIndex((message) => message.name === name);
      if (index >= 0) return this.#messages.splice(index, 1)[0]?.value;
      if (ended) throw new Error(this.#report(`ended before it said '${name}'`));
      if (performance.now() > end) throw new Error(this.#report(`has not said '${name}' for ${timeoutMs} ms`));
      await sleep(5);
    }
  }

  /** Same as message('ready'). */
  ready(timeoutMs?: number): Promise<unknown> {
    return this.message('ready', timeoutMs);
  }

  /** Sends a message, which the child takes by received(name). It is lost where the process has just ended. */
  send(name: string, value?: unknown): void {
    this.#child.send({ name, value }, () => {});
  }

  /** Sends a signal to the script's process itself. Does nothing once it has ended. */
  signal(signal: NodeJS.Signals): void {
    const pid = this.pid;
    if (pid === 0 || this.#exit !== undefined) return;
    try {
      process.kill(pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }

  /** Resolves when the process has ended. Rejects after `timeoutMs`; the process is left as it is. */
  async ended(timeoutMs = 30_000): Promise<Exit> {
    const late = Symbol('late');
    const abort = new AbortController();
    const timer = sleep(timeoutMs, late, { signal: abort.signal }).catch(() => late);
    const result = await Promise.race([this.#exited, timer]);
    abort.abort();
    if (typeof result === 'symbol') throw new Error(this.#report(`has not ended for ${timeoutMs} ms`));
    return result;
  }

  /**
   * SIGKILL, then ended(). A process that waits for a paused disk ends only when the disk is resumed or destroyed: use
   * signal('SIGKILL') there.
   */
  kill(timeoutMs?: number): Promise<Exit> {
    this.killNow();
    return this.ended(timeoutMs);
  }

  /** SIGKILL without waiting. */
  killNow(): void {
    this.signal('SIGKILL');
    // Before the shell has started the script there is nobody else to kill.
    if (this.#inNamespace && this.pid === 0) this.#child.kill('SIGKILL');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  #watchExit(): Promise<Exit> {
    return new Promise((resolve, reject) => {
      this.#child.once('error', reject);
      this.#child.once('exit', (code, signal) => {
        const finish = () => {
          if (this.#exit !== undefined) return;
          running.delete(this);
          if (running.size === 0) process.off('exit', killAll);
          const ended = signal ?? (this.#inNamespace && code !== null ? signalOf(code) : null);
          const output = { stdout: this.#stdout, stderr: this.#stderr };
          this.#exit = { code: ended === null ? code : null, signal: ended, ...output };
          resolve(this.#exit);
        };
        // All output has come; a grandchild that keeps the pipes open is not waited for.
        this.#child.once('close', finish);
        setTimeout(finish, 1_000).unref();
      });
    });
  }

  #report(what: string): string {
    const pid = this.pid;
    const { code, signal } = this.#exit ?? {};
    const state = this.#exit ? `ended with ${code ?? signal}` : isRunning(pid) ? 'running' : 'killed or gone';
    const output = `stdout:\n${this.#stdout}\nstderr:\n${this.#stderr}`;
    return `${this.#script} (PID ${pid}, ${state}) ${what}\nthreads:\n${threadReport(pid)}\n${output}`;
  }
}

function killAll(): void {
  for (const child of running) child.killNow();
}
