/** What the programs here have in common: how they are called, and what ends them. */

/** Ctrl-C and a closed terminal reach every process of a program. */
export const endSignals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** What `parse` makes of the arguments; or, where they are wrong or ask for help, the exit code, and that has been said. */
export function readOptions<T extends { help: boolean }>(
  args: string[],
  parse: (args: string[]) => T,
  help: string,
): T | number {
  let options: T;
  try {
    options = parse(args);
  } catch (error) {
    console.error(`${(error as Error).message} (--help tells what there is)`);
    return 2;
  }
  if (options.help) {
    console.log(help);
    return 0;
  }
  return options;
}

/** The number that an option was given. Throws an Error that says what is wrong with it. */
export function toNumber(name: string, text: string, min: number, max: number, whole: boolean): number {
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (value >= min && value <= max && (!whole || Number.isInteger(value))) return value;
  throw new Error(`${name} must be ${whole ? 'an integer' : 'a number'} from ${min} to ${max}, not ${text}`);
}
