/** The demo's command line. */
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';

export interface Options {
  file: string;
  requests: number;
  /** Of the first server; the second takes the next one. 0: any free ones. */
  port: number;
  serve: boolean;
  help: boolean;
}

const defaultFile = path.join(tmpdir(), `faultless-demo-${process.geteuid?.() ?? 0}`, 'wordnet.store');
const defaultRequests = 5_000;

export const help = `usage: npm run demo -- [options]

Loads WordNet, a dictionary of some 270,000 entries, into a store file, serves it over HTTP from two processes while
a third one updates entries, sends itself requests, checks every answer, and prints what it measured.

  --file FILE      the store file; it stays there, and the next run opens it at once
                   (default: ${defaultFile})
  --requests N     how many requests to send (default: ${defaultRequests})
  --serve          go on serving until Ctrl-C:
                     GET /define/:word   the meanings of a word, as JSON
                     GET /all?limit=N    entries, as NDJSON; all of them without a limit
  --port PORT      listen on PORT and PORT + 1 of 127.0.0.1 (default: any free ones)
  --help           print this
`;

/** Throws an Error that says what is wrong with the arguments. */
export function parseOptions(args: string[]): Options {
  const { values } = parseArgs({
    args,
    options: {
      file: { type: 'string', default: defaultFile },
      requests: { type: 'string', default: String(defaultRequests) },
      port: { type: 'string', default: '0' },
      serve: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.file === '') throw new Error('--file must not be empty');
  return {
    file: path.resolve(values.file),
    requests: parseInteger('--requests', values.requests, 1, 1_000_000),
    port: parseInteger('--port', values.port, 0, 65_534),
    serve: values.serve,
    help: values.help,
  };
}

function parseInteger(name: string, text: string, min: number, max: number): number {
  const value = /^\d{1,7}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= min && value <= max))
    throw new Error(`${name} must be an integer from ${min} to ${max}, not ${JSON.stringify(text)}`);
  return value;
}
