import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import ts from 'typescript';
import { type Output, runProgram } from './commands.js';
import { root } from './files.js';

export interface CodeBlock {
  /** Of its first line of code in the text, from 1. */
  readonly line: number;
  readonly language: 'js' | 'ts';
  readonly code: string;
}

/**
 * The js and ts code blocks of a Markdown text. A comment on the line before a block says more: `<!-- not run: reason -->` leaves
 * it out; `<!-- continues -->` makes it part of the program of the block before it.
 */
export function codeBlocks(markdown: string): CodeBlock[] {
  const blocks: CodeBlock[] = [];
  const pattern =
    /(?:^<!--[ ]*(not run: \S.*?|continues)[ ]*-->\n+)?^```(js|javascript|ts|typescript)\b.*\n([\s\S]*?)^```$/gm;
  for (const { index, 0: whole, 1: remark = '', 2: name = '', 3: code = '' } of markdown.matchAll(pattern)) {
    if (remark.startsWith('not run')) continue;
    const language = name.startsWith('t') ? 'ts' : 'js';
    const previous = blocks.at(-1);
    if (remark === 'continues') {
      if (!previous) throw new Error('a block continues, but there is none before it');
      blocks[blocks.length - 1] = { ...previous, language, code: `${previous.code}\n${code}` };
    } else {
      const before = markdown.slice(0, index + whole.length - code.length - '```'.length);
      blocks.push({ line: before.split('\n').length, language, code });
    }
  }
  return blocks;
}

/** Runs a block as a module, in an empty directory where the package is installed; rejects unless it exits with 0. */
export async function runBlock({ language, code }: CodeBlock): Promise<Output> {
  const directory = mkdtempSync(join(tmpdir(), 'faultless-block-'));
  try {
    mkdirSync(join(directory, 'node_modules'));
    symlinkSync(root, join(directory, 'node_modules/faultless'), 'dir');
    writeFileSync(join(directory, 'package.json'), '{ "type": "module" }\n');
    // `await using` and types are compiled away for the oldest Node that the package supports.
    const compilerOptions = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext };
    const program = language === 'ts' ? ts.transpileModule(code, { compilerOptions }).outputText : code;
    writeFileSync(join(directory, 'block.js'), program);
    return await runProgram(process.execPath, ['block.js'], { cwd: directory, timeoutMs: 60_000 });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
