// clang-format over the C++ sources: writes, or with --check only reports. The npm package brings a binary for common
// platforms, always of one version; elsewhere the system's clang-format is used.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { root } from './run.mjs';

const files = ['csrc', 'test/native', 'test/fuzz', 'bench']
  .flatMap((directory) =>
    readdirSync(path.join(root, directory), { recursive: true }).map((name) => path.join(directory, name)),
  )
  .filter((name) => /\.(cc|h)$/.test(name) && !name.split(path.sep).includes('node_modules'))
  .sort();

const bundled = path.join(
  path.dirname(createRequire(import.meta.url).resolve('clang-format/package.json')),
  `bin/${process.platform}_${process.arch}/clang-format`,
);
const program = [bundled, 'clang-format'].find((name) => spawnSync(name, ['--version']).status === 0);
if (!program) throw new Error('clang-format is missing: install it from your distribution');

const check = process.argv.includes('--check');
const mode = check ? ['--dry-run', '--Werror'] : ['-i'];
const { status, stderr } = spawnSync(program, [...mode, '--style=file', ...files], { cwd: root, encoding: 'utf8' });

// One line per file is enough: `npm run format` mends them all.
const complaints = new Set([...stderr.matchAll(/^(.+?):\d+:\d+: error: /gm)].map(([, file]) => file));
for (const file of complaints) console.log(`${file}: not formatted`);
if (status !== 0 && complaints.size === 0) console.log(stderr);
console.log(`clang-format: ${files.length} files, ${status === 0 ? 'no complaint' : 'npm run format mends them'}`);
process.exitCode = status ?? 1;
