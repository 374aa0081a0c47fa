import { dirname, join, normalize } from 'node:path';
import ts from 'typescript';
import { readSources } from './files.js';

interface Import {
  readonly specifier: string;
  readonly typeOnly: boolean;
}

/** Every module that a file imports or re-exports from, `import()` included. */
function importsOf(path: string, text: string): Import[] {
  const imports: Import[] = [];
  const visit = (node: ts.Node): void => {
    if ((ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) && node.moduleSpecifier) {
      const typeOnly = ts.isImportDeclaration(node) ? (node.importClause?.isTypeOnly ?? false) : node.isTypeOnly;
      imports.push({ specifier: (node.moduleSpecifier as ts.StringLiteral).text, typeOnly });
    } else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      const [argument] = node.arguments;
      if (argument && ts.isStringLiteral(argument)) imports.push({ specifier: argument.text, typeOnly: false });
    } else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
      imports.push({ specifier: (node.argument.literal as ts.StringLiteral).text, typeOnly: true });
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(path, text, ts.ScriptTarget.Latest));
  return imports;
}

/**
 * What is wrong with the imports below `directory` (ts/), one line per finding. Arrows between modules, and between
 * folders, never form a circle; index.ts is above everything; only addon.ts loads the binary; packages are declared
 * dependencies.
 */
export function checkScriptLayers(directory: string, dependencies: readonly string[]): string[] {
  const sources = readSources(directory, /\.ts$/);
  const known = new Set(sources.map((source) => source.path));
  const findings: string[] = [];
  const modules = new Map<string, Set<string>>(); // run-time imports
  const folders = new Map<string, Set<string>>(); // imports of types count here, too

  for (const { path, text } of sources) {
    const targets = new Set<string>();
    modules.set(path, targets);
    for (const { specifier, typeOnly } of importsOf(path, text)) {
      const finding = (reason: string) => findings.push(`${path}: ${specifier}: ${reason}`);
      if (!specifier.startsWith('.')) {
        const name = specifier.split('/')[0] ?? '';
        if (!name.startsWith('node:') && !dependencies.includes(name)) finding('not a declared dependency');
        continue;
      }
      const target = normalize(join(dirname(path), specifier)).replace(/\.js$/, '.ts');
      if (!known.has(target)) finding(`no such module in ${directory}`);
      else if (target === 'index.ts') finding('index.ts is above everything');
      if (!typeOnly) targets.add(target);
      const [from, to] = [dirname(path), dirname(target)];
      // The modules at the top are the public face: they stand above every folder.
      if (from !== '.' && to !== '.' && from !== to) folders.set(from, (folders.get(from) ?? new Set()).add(to));
    }
    if (path !== 'addon.ts' && text.includes('node-gyp-build'))
      findings.push(`${path}: only addon.ts loads the binary`);
  }
  for (const circle of circles(modules)) findings.push(`modules import each other: ${circle}`);
  for (const circle of circles(folders)) findings.push(`folders import each other: ${circle}`);
  return findings;
}

/**
 * What is wrong with the imports of tests or benchmarks: they use the package as others do, by its name. `lent` is the
 * one folder elsewhere that they may use.
 */
export function checkConsumers(directory: string, lent?: string): string[] {
  const findings: string[] = [];
  for (const { path, text } of readSources(directory, /\.ts$/)) {
    for (const { specifier } of importsOf(path, text)) {
      const target = normalize(join(dirname(path), specifier));
      const escapes = target.startsWith('..') && !(lent !== undefined && target.startsWith(`${lent}/`));
      if (specifier.startsWith('.') && escapes)
        findings.push(`${path}: ${specifier}: import 'faultless' or '#internal/…'`);
    }
  }
  return findings;
}

/** One description for each circle that a depth-first walk closes. */
function circles(graph: ReadonlyMap<string, ReadonlySet<string>>): string[] {
  const found: string[] = [];
  const done = new Set<string>();
  const walk = (node: string, trail: readonly string[]): void => {
    const start = trail.indexOf(node);
    if (start >= 0) found.push([...trail.slice(start), node].join(' → '));
    if (start >= 0 || done.has(node)) return;
    for (const next of graph.get(node) ?? []) walk(next, [...trail, node]);
    done.add(node);
  };
  for (const node of graph.keys()) walk(node, []);
  return found;
}
