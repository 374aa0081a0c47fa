/** How far the loading is: a bar on a terminal, a line for every tenth anywhere else. */
import { SingleBar } from 'cli-progress';
import { formatCount } from './report.js';

export class Progress {
  #bar: SingleBar | undefined;
  #tenths = 0;

  update(done: number, total: number): void {
    if (process.stdout.isTTY) this.#draw(done, total);
    else this.#print(done, total);
  }

  /** Gives the terminal its cursor back. */
  stop(): void {
    this.#bar?.stop();
  }

  #draw(done: number, total: number): void {
    if (!this.#bar) {
      this.#bar = new SingleBar({
        format: 'loading WordNet {bar} {percentage} % | {value} of {total} entries | {eta_formatted} left',
        formatValue: (value, _options, type) =>
          type === 'value' || type === 'total' ? formatCount(value) : `${value}`,
        barCompleteChar: '█',
        barIncompleteChar: '░',
        hideCursor: true,
        stream: process.stdout,
        gracefulExit: false,
      });
      this.#bar.start(total, done);
    }
    this.#bar.update(done);
  }

  #print(done: number, total: number): void {
    const tenths = Math.floor((10 * done) / total);
    if (tenths <= this.#tenths) return;
    this.#tenths = tenths;
    console.log(`loading WordNet: ${tenths * 10} % (${formatCount(done)} of ${formatCount(total)} entries)`);
  }
}
