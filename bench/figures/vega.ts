/** Plots by Vega-Lite, as SVG. */
import { pathToFileURL } from 'node:url';
import { requireFrom } from '../packages.js';

/** A specification of Vega-Lite. */
export type Plot = Record<string, unknown>;

/** What is used of the packages: their own types are there only once they are installed. */
interface VegaLite {
  compile(plot: Plot): { spec: object };
}
interface Vega {
  parse(spec: object): object;
  View: new (runtime: object, options: { renderer: 'none' }) => { toSVG(): Promise<string>; finalize(): void };
}

async function load(name: string): Promise<unknown> {
  return import(pathToFileURL(requireFrom('plots').resolve(name)).href);
}

export async function toSvg(plot: Plot): Promise<string> {
  const vegaLite = (await load('vega-lite')) as VegaLite;
  const vega = (await load('vega')) as Vega;
  const view = new vega.View(vega.parse(vegaLite.compile(plot).spec), { renderer: 'none' });
  const svg = await view.toSVG();
  view.finalize();
  return `${svg}\n`;
}

/** Ours is the one that stands out. */
const colors: Record<string, string> = {
  faultless: '#0969da',
  lmdb: '#d1242f',
  'lmdb get': '#d1242f',
  'lmdb getAsync': '#e08600',
  'classic-level': '#6e7781',
  fs: '#8250df',
  'an idle process': '#57ab5a',
};

/** A colour for each name, the same in all figures. */
export function colorsOf(names: readonly string[]): { domain: readonly string[]; range: string[] } {
  return { domain: names, range: names.map((name) => colors[name] ?? '#000000') };
}

export const common: Plot = {
  $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
  background: 'white',
  padding: 16,
  config: {
    font: 'sans-serif',
    view: { stroke: '#d0d7de' },
    axis: { gridColor: '#eaeef2', labelFontSize: 11, titleFontSize: 11, titleFontWeight: 'normal' },
    legend: { labelFontSize: 12 },
    title: { anchor: 'start', fontSize: 15, subtitleFontSize: 11, subtitleColor: '#57606a' },
  },
};
