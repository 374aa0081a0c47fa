// Builds of the addon that have a mistake on purpose: what a test cannot tell from the real one it does not test.
//
// The mistake is made in a copy of one source file, which is compiled and linked exactly as the addon's own build last did
// (make keeps the commands beside its dependency files): neither the product's sources nor its build know of it. A child
// process loads it where node-gyp-build's variable <NAME>_PREBUILD names the directory it lies in.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../repository/files.js';

export interface Mistake {
  readonly name: string;
  /** In csrc/, without .cc. */
  readonly file: string;
  /** What is there, exactly once; its line breaks and blanks do not matter. */
  readonly right: string;
  readonly wrong: string;
}

const build = join(root, 'build');
const dependencies = join(build, 'Release/.deps/Release/obj.target');

/** Why broken addons cannot be built here; undefined: they can. */
export function brokenAddonUnavailableReason(): string | undefined {
  return existsSync(join(dependencies, 'faultless.node.d')) ? undefined : 'the addon was not built here by make';
}

/** Environment variables with which a process loads the addon with the mistake. */
export function buildBrokenAddon({ name, file, right, wrong }: Mistake): Record<string, string> {
  const directory = join(build, 'broken', name);
  const release = join(directory, 'build/Release');
  mkdirSync(release, { recursive: true });
  const text = readFileSync(join(root, 'csrc', `${file}.cc`), 'utf8');
  const parts = text.split(new RegExp(right.trim().split(/\s+/).map(escapePattern).join('\\s+')));
  if (parts.length !== 2) throw new Error(`csrc/${file}.cc has ${parts.length - 1} times: ${right}`);
  const source = join(directory, 'mistaken.cc');
  writeFileSync(source, parts.join(wrong));

  const object = `Release/obj.target/faultless/csrc/${file}.o`;
  const mistaken = join(directory, 'mistaken.o');
  const compile = commandFor(`faultless/csrc/${file}.o`)
    .replace(`../csrc/${file}.cc`, quote(source))
    .replace(`-o ${object}`, `-o ${quote(mistaken)}`)
    // A mistake may leave something unused.
    .replace(/ -MMD -MF \S+/, ' -Wno-error');
  runShell(compile);
  const link = commandFor('faultless.node')
    .replace(` ${object}`, ` ${quote(mistaken)}`)
    .replace('-o Release/obj.target/faultless.node', `-o ${quote(join(release, 'faultless.node'))}`);
  if (!link.includes(mistaken)) throw new Error(`${object} is no part of the addon`);
  runShell(link);
  return { FAULTLESS_PREBUILD: directory };
}

function commandFor(target: string): string {
  const line = readFileSync(join(dependencies, `${target}.d`), 'utf8').split('\n', 1)[0] ?? '';
  return line.slice(line.indexOf(':=') + 2);
}

function runShell(command: string): void {
  const { status, stderr } = spawnSync('sh', ['-c', command], { cwd: build, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command}\n${stderr}`);
}

const quote = (path: string): string => `'${path.replaceAll("'", "'\\''")}'`;
const escapePattern = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
