import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, test } from 'node:test';
import { listFiles, root, type SourceFile } from './repository/files.js';

const MAX_LINES = 600;
const TOP_LEVEL: ReadonlySet<string> = new Set(
  ['package.json', 'package-lock.json', 'binding.gyp', 'csrc', 'ts', 'test', 'bench', 'docs'].concat([
    'README.md',
    'LICENSE',
    'CHANGELOG.md',
    'CONTRIBUTING.md',
  ]),
);

// Spelled in two parts, so that the rules do not find themselves.
const LEFTOVER = new RegExp(`\\b(${['TO' + 'DO', 'FIX' + 'ME', 'XX' + 'X', 'HA' + 'CK'].join('|')})\\b`);
const REGISTRY_HOST = new RegExp(
  ['registry\\.', 'npm' + 'js\\.org', 'arti' + 'factory', 'ver' + 'daccio', 'ne' + 'xus\\.'].join('|'),
  'i',
);
const MACHINE_PATH = /(?<![\w.$}\])-])\/(?:work|home|Users|root)\/[\w.-]+/;

const isCode = (path: string) => /\.(ts|mjs|cjs|cc|h)$/.test(path);

/** Each rule: the complaint about one file, or undefined. */
const rules: Record<string, (file: SourceFile) => string | undefined> = {
  'only what belongs there lies at the top': ({ path }) => {
    const [first = ''] = path.split('/');
    return first.startsWith('.') || TOP_LEVEL.has(first) ? undefined : first;
  },
  [`code files have at most ${MAX_LINES} lines`]: ({ path, text }) => {
    const lines = text.split('\n').length - 1;
    return isCode(path) && lines > MAX_LINES ? `${lines} lines` : undefined;
  },
  'names are kebab-case in TypeScript, snake_case in C++': ({ path }) => {
    const name = basename(path);
    if (/\.(ts|mjs|cjs)$/.test(name)) return /^[a-z0-9]+([-.][a-z0-9]+)*$/.test(name) ? undefined : name;
    if (/\.(cc|h)$/.test(name)) return /^[a-z0-9]+(_[a-z0-9]+)*\.(cc|h)$/.test(name) ? undefined : name;
    return undefined;
  },
  'no marks of unfinished work': ({ text }) => firstLine(text, (line) => LEFTOVER.test(line)),
  'no package registry is named': ({ text }) => firstLine(text, (line) => REGISTRY_HOST.test(line)),
  'no path of somebody’s machine': ({ text }) => firstLine(text, (line) => MACHINE_PATH.test(line)),
  'text ends with one newline, without carriage returns or trailing blanks': ({ path, text }) => {
    if (text.includes('\r')) return 'carriage return';
    if (text !== '' && (!text.endsWith('\n') || text.endsWith('\n\n'))) return 'end of file';
    return path.endsWith('.md') ? undefined : firstLine(text, (line) => /[ \t]$/.test(line));
  },
};

function firstLine(text: string, matches: (line: string) => boolean): string | undefined {
  const lines = text.split('\n');
  const index = lines.findIndex(matches);
  return index < 0 ? undefined : `line ${index + 1}: ${lines[index]}`;
}

describe('tidy', () => {
  const files = listFiles().map((path) => ({ path, text: readFileSync(join(root, path), 'utf8') }));
  test('there are files to look at', () => {
    assert.ok(files.length > 20 && files.some(({ path }) => path === 'package.json'));
  });
  for (const [name, rule] of Object.entries(rules)) {
    test(name, () => {
      const complaints = files.flatMap((file) => {
        const complaint = rule(file);
        return complaint === undefined ? [] : [`${file.path}: ${complaint}`];
      });
      assert.deepEqual(complaints, []);
    });
  }

  test('each rule finds what it is for', () => {
    const samples: SourceFile[] = [
      { path: 'src/a.ts', text: '' },
      { path: 'ts/a.ts', text: 'x\n'.repeat(MAX_LINES + 1) },
      { path: 'ts/camelCase.ts', text: '' },
      { path: 'ts/a.ts', text: `// ${'TO' + 'DO'}: later\n` },
      { path: 'ts/a.ts', text: `// https://${'regi' + 'stry'}.example/a.tgz\n` },
      { path: 'ts/a.ts', text: "open('/" + "home/me/file');\n" },
      { path: 'ts/a.ts', text: 'no end' },
    ];
    const names = Object.keys(rules);
    assert.equal(samples.length, names.length);
    samples.forEach((sample, index) => {
      const broken = names.filter((name) => rules[name]?.(sample) !== undefined);
      assert.deepEqual(broken, [names[index]]);
    });
  });

  test('the lock file names no hosts to download from, and the packages of every platform', () => {
    interface Entry {
      resolved?: string;
      optionalDependencies?: Record<string, string>;
    }
    const packages: Record<string, Entry> = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
    for (const [path, { resolved, optionalDependencies = {} }] of Object.entries(packages)) {
      assert.equal(resolved, undefined, path);
      // npm leaves out what its registry does not have; `npm ci` then refuses the lock file everywhere.
      for (const name of Object.keys(optionalDependencies)) assert.ok(packages[`node_modules/${name}`], name);
    }
  });
});
