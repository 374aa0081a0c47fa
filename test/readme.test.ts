import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { codeBlocks, runBlock } from './repository/code-blocks.js';
import { readSources, root } from './repository/files.js';

const readme = readFileSync(join(root, 'README.md'), 'utf8');

describe('README', () => {
  test('its first screen has the two commands', () => {
    const screen = readme.split('\n').slice(0, 40).join('\n');
    for (const command of ['npm ci && npm run demo', 'npm ci && npm test'])
      assert.ok(screen.includes(command), command);
  });

  test('there is code to run', () => {
    assert.ok(codeBlocks(readme).length > 0);
  });
  // What is made of docstrings shows signatures, not programs.
  const written = readSources(join(root, 'docs'), /\.md$/).filter(({ path }) => !path.startsWith('api/'));
  const pages = written.map(({ path, text }) => ({ path: `docs/${path}`, text }));
  for (const { path, text } of [{ path: 'README.md', text: readme }, ...pages]) {
    for (const block of codeBlocks(text)) {
      test(`the code at line ${block.line} of ${path} runs`, async () => {
        await runBlock(block);
      });
    }
  }

  const fence = '```';
  test('blocks are found, joined and left out as their remarks say', () => {
    const text = [
      `${fence}js\na();\n${fence}`,
      `<!-- continues -->\n${fence}ts\nb();\n${fence}`,
      `<!-- not run: needs a server -->\n${fence}js\nc();\n${fence}`,
      `${fence}sh\nd\n${fence}`,
      `${fence}ts\ne();\n${fence}`,
    ].join('\n\n');
    assert.deepEqual(codeBlocks(text), [
      { line: 2, language: 'ts', code: 'a();\n\nb();\n' },
      { line: 20, language: 'ts', code: 'e();\n' },
    ]);
    assert.throws(() => codeBlocks(`<!-- continues -->\n${fence}js\na();\n${fence}`));
  });
  test('a block that fails is noticed', async () => {
    const [good, bad] = codeBlocks(
      `${fence}ts\nconst a: number = 1;\n${fence}\n${fence}js\nawait Promise.reject(1);\n${fence}`,
    );
    assert.ok(good && bad);
    await runBlock(good);
    await assert.rejects(runBlock(bad));
  });
});
