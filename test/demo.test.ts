import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { Store } from 'faultless';
import { runProgram } from './repository/commands.js';
import { root } from './repository/files.js';

const ENTRIES = 273_258;
const directory = mkdtempSync(join(tmpdir(), 'faultless-demo-test-'));
const file = join(directory, 'below/wordnet.store');

/** A run of the demo. */
class Demo {
  readonly #process: ChildProcess;
  readonly #ended: Promise<unknown>;
  stdout = '';
  stderr = '';

  constructor(...args: string[]) {
    const program = join(root, 'build/bench/demo/main.js');
    this.#process = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    this.#process.stdout?.setEncoding('utf8').on('data', (text) => {
      this.stdout += text;
    });
    this.#process.stderr?.setEncoding('utf8').on('data', (text) => {
      this.stderr += text;
    });
    this.#ended = once(this.#process, 'close');
    running.add(this);
  }

  /** Resolves once stdout has it; rejects where the demo ends before. */
  async printed(pattern: RegExp): Promise<RegExpMatchArray> {
    for (;;) {
      const match = this.stdout.match(pattern);
      if (match) return match;
      const ended = await Promise.race([
        this.#ended,
        once(this.#process.stdout as NodeJS.EventEmitter, 'data').then(() => false),
      ]);
      if (ended && !pattern.test(this.stdout))
        throw new Error(`ended without ${pattern}:\n${this.stdout}${this.stderr}`);
    }
  }

  kill(signal: NodeJS.Signals): void {
    this.#process.kill(signal);
  }

  /** As a terminal does it: to every process of the demo. */
  pressCtrlC(): void {
    process.kill(-(this.#process.pid as number), 'SIGINT');
  }

  /** Waits for the end; resolves to the exit code or the signal. */
  async result(): Promise<number | string | null> {
    await this.#ended;
    running.delete(this);
    return this.#process.exitCode ?? this.#process.signalCode;
  }
}

const running = new Set<Demo>();

/** The process ids of the servers, and what their URLs start with. */
async function serving(demo: Demo): Promise<{ pids: number[]; urls: string[] }> {
  await demo.printed(/Ctrl-C ends it/);
  const lines = [...demo.stdout.matchAll(/^worker \d \(process (\d+)\) serves (http:\S+)\/define/gm)];
  assert.equal(lines.length, 2);
  return { pids: lines.map(([, pid]) => Number(pid)), urls: lines.map(([, , url]) => url as string) };
}

async function gone(pid: number): Promise<void> {
  for (;;) {
    try {
      process.kill(pid, 0);
    } catch {
      return;
    }
    // In a container nobody may collect an orphan that has ended.
    const status = `/proc/${pid}/status`;
    if (existsSync(status) && /^State:\s+Z/m.test(readFileSync(status, 'utf8'))) return;
    await setTimeout(20);
  }
}

function assertTable(stdout: string, requests: string): void {
  const rows = [
    `requests +${requests}, every answer checked`,
    'latency +median \\d+\\.\\d\\d ms, p99 \\d+\\.\\d\\d ms',
    'whole store read +by 2 servers at once, 273,258 entries each, in \\d+\\.\\d s',
    'updates meanwhile +[1-9][\\d,]*',
    'event loop, worker 1 +delayed by median \\d+\\.\\d\\d ms, p99 \\d+\\.\\d\\d ms, at most \\d+\\.\\d\\d ms',
    'event loop, worker 2 +delayed by median \\d+\\.\\d\\d ms, p99 \\d+\\.\\d\\d ms, at most \\d+\\.\\d\\d ms',
    'keys +273,259',
    'file size +[1-9]\\d+\\.\\d MiB',
    'dog +\\(noun\\) a member of the genus Canis .*',
  ];
  for (const row of rows) assert.match(stdout, new RegExp(`^${row}$`, 'm'));
}

async function json(response: Response): Promise<any> {
  return await response.json();
}

/** The lines of an answer, each with its newline taken off. */
async function lines(response: Response): Promise<string[]> {
  const text = await response.text();
  assert.ok(text.endsWith('\n'));
  return text.slice(0, -1).split('\n');
}

describe('demo', { timeout: 600_000 }, () => {
  before(async () => {
    const compiler = join(root, 'node_modules/typescript/bin/tsc');
    await runProgram(process.execPath, [compiler, '-b', 'bench'], { cwd: root });
  });
  after(async () => {
    for (const demo of running) {
      demo.kill('SIGTERM');
      await demo.result();
    }
    rmSync(directory, { recursive: true, force: true });
  });

  test('Ctrl-C while it loads', async () => {
    const demo = new Demo('--file', file);
    await demo.printed(/loading WordNet: 20 %/);
    demo.pressCtrlC();
    assert.equal(await demo.result(), 130);
    assert.equal(demo.stderr, 'demo: ended by SIGINT\n');
    assert.doesNotMatch(demo.stdout, /wrote/);
  });

  test('SIGKILL while it loads', async () => {
    const demo = new Demo('--file', file);
    await demo.printed(/loading WordNet: 40 %/);
    demo.kill('SIGKILL');
    assert.equal(await demo.result(), 'SIGKILL');
  });

  test('the next run loads the rest, asks, prints the table', async () => {
    const demo = new Demo('--file', file, '--requests', '1000');
    assert.equal(await demo.result(), 0, demo.stderr);
    assert.equal(demo.stderr, '');
    const [, written = ''] = demo.stdout.match(/^wrote ([\d,]+) of 273,258 entries/m) ?? [];
    const count = Number(written.replaceAll(',', ''));
    assert.ok(count > 0 && count < ENTRIES, demo.stdout);
    assertTable(demo.stdout, '1,000');
  });

  test('the run after that opens what is there', async () => {
    const demo = new Demo('--file', file, '--requests', '200');
    assert.equal(await demo.result(), 0, demo.stderr);
    assert.match(demo.stdout, /^loaded before: 273,258 entries/m);
    assert.doesNotMatch(demo.stdout, /loading/);
    assertTable(demo.stdout, '200');
  });

  describe('--serve', () => {
    let demo: Demo;
    let urls: string[];
    before(async () => {
      demo = new Demo('--file', file, '--requests', '100', '--serve');
      ({ urls } = await serving(demo));
    });

    test('GET /define/:word', async () => {
      for (const url of urls) {
        const response = await fetch(`${url}/define/dog`);
        assert.equal(response.status, 200);
        assert.equal(response.headers.get('content-type'), 'application/json');
        const { word, meanings } = await json(response);
        assert.equal(word, 'dog');
        assert.equal(meanings.length, 8);
        const { revision: _, ...meaning } = meanings[0];
        assert.deepEqual(meaning, {
          partOfSpeech: 'noun',
          synset: 'synset:n:02086723',
          words: ['dog', 'domestic dog', 'Canis familiaris'],
          definition:
            'a member of the genus Canis (probably descended from the common wolf) that has been domesticated by man ' +
            'since prehistoric times; occurs in many breeds',
          examples: ['the dog barked all night'],
        });
        assert.equal(meanings[7].partOfSpeech, 'verb');
      }
    });

    test('a word of two words, however it is written', async () => {
      for (const word of ['ice%20cream', 'Ice_Cream', '%20ICE%20%20cream%20']) {
        const response = await fetch(`${urls[0]}/define/${word}`);
        assert.equal(response.status, 200, word);
        assert.deepEqual((await json(response)).meanings[0].words, ['ice cream', 'icecream']);
      }
    });

    test('404 for what is not there', async () => {
      for (const path of [
        '/define/xyzzyx',
        '/define/',
        '/define/%00',
        '/define/a/b',
        '/',
        '/defined',
        '//all',
        '/all/',
      ]) {
        const response = await fetch(`${urls[0]}${path}`);
        assert.equal(response.status, 404, path);
        assert.equal(typeof (await json(response)).error, 'string');
      }
    });

    test('400 for a word that is not UTF-8, 405 for other methods', async () => {
      for (const word of ['%ff', '%zz', '%']) assert.equal((await fetch(`${urls[0]}/define/${word}`)).status, 400);
      const response = await fetch(`${urls[0]}/define/dog`, { method: 'POST', body: 'x' });
      assert.equal(response.status, 405);
      assert.equal(response.headers.get('allow'), 'GET');
    });

    test('GET /all?limit=N', async () => {
      for (const limit of [1, 5, 1_000]) {
        const response = await fetch(`${urls[1]}/all?limit=${limit}`);
        assert.equal(response.status, 200);
        assert.equal(response.headers.get('content-type'), 'application/x-ndjson');
        const entries = (await lines(response)).map((line) => JSON.parse(line));
        assert.equal(entries.length, limit);
        assert.equal(new Set(entries.map(({ key }) => key)).size, limit);
        for (const { key, value } of entries) {
          assert.match(key, /^(index|synset|meta):/);
          assert.equal(typeof value, 'object');
        }
      }
    });

    test('GET /all', async () => {
      const entries = await lines(await fetch(`${urls[0]}/all`));
      assert.equal(entries.length, ENTRIES + 1);
      assert.equal(new Set(entries.map((line) => JSON.parse(line).key)).size, ENTRIES + 1);
    });

    test('400 for a bad limit', async () => {
      for (const limit of ['0', '-1', 'x', '', '1.5', '1e3', '%31%00', '9999999999']) {
        const response = await fetch(`${urls[0]}/all?limit=${limit}`);
        assert.equal(response.status, 400, limit);
        assert.match((await json(response)).error, /limit must be/);
      }
    });

    test('clients that go away in the middle of an answer', async () => {
      for (let i = 0; i < 20; i++) {
        const client = new AbortController();
        const response = await fetch(`${urls[0]}/all`, { signal: client.signal });
        if (i % 2 === 0) await response.body?.getReader().read();
        client.abort();
      }
      assert.equal((await fetch(`${urls[0]}/define/dog`)).status, 200);
      assert.equal(demo.stderr, '');
    });

    test('Ctrl-C ends it, also while it answers', async () => {
      const answers = urls.map(async (url) => (await fetch(`${url}/all`)).body?.getReader());
      await Promise.all(answers);
      demo.pressCtrlC();
      assert.equal(await demo.result(), 0);
      assert.equal(demo.stderr, '');
    });
  });

  test('the end of a worker is the end of the demo, which says so', async () => {
    const demo = new Demo('--file', file, '--requests', '100', '--serve');
    const { pids } = await serving(demo);
    const [first = 0, second = 0] = pids;
    process.kill(first, 'SIGKILL');
    assert.equal(await demo.result(), 1);
    assert.equal(demo.stderr, `demo: worker 1 (process ${first}) was ended by SIGKILL\n`);
    await gone(second);
  });

  test('workers do not outlive a demo that is killed', async () => {
    const demo = new Demo('--file', file, '--requests', '100', '--serve');
    const { pids } = await serving(demo);
    demo.kill('SIGKILL');
    assert.equal(await demo.result(), 'SIGKILL');
    await Promise.all(pids.map(gone));
  });

  test('files that hold something else stay as they are', async () => {
    const text = join(directory, 'text');
    writeFileSync(text, 'not a store');
    const store = join(directory, 'other.store');
    await using other = await Store.open<string>(store);
    await other.set('key', 'value');

    for (const [path, problem] of [
      [text, /./],
      [store, /holds other data/],
    ] as const) {
      const demo = new Demo('--file', path);
      assert.equal(await demo.result(), 1);
      assert.match(demo.stderr, problem);
    }
    assert.equal(readFileSync(text, 'utf8'), 'not a store');
    assert.equal(other.size, 1);
    assert.equal(await other.get('key'), 'value');
  });

  test('--help and wrong arguments', async () => {
    const help = new Demo('--help');
    assert.equal(await help.result(), 0);
    for (const option of ['--file', '--requests', '--serve', '--port', '--help'])
      assert.match(help.stdout, new RegExp(option));
    for (const args of [
      ['--nonsense'],
      ['word'],
      ['--requests', '0'],
      ['--requests', 'x'],
      ['--port', '65535'],
      ['--file='],
    ]) {
      const demo = new Demo(...args);
      assert.equal(await demo.result(), 2, args.join(' '));
      assert.match(demo.stderr, /--help/);
    }
  });
});
