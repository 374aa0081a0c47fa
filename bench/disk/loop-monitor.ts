/** How long the event loop of this process was held up, and how long others would have waited for a file meanwhile. */
import { stat } from 'node:fs/promises';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';

export interface LoopReport {
  /** Milliseconds by which a timer of 1 ms came late, as perf_hooks counts them. */
  p50: number;
  p999: number;
  max: number;
  /** The greatest delay of each stretch of `stretchMs`, by a timer of this module's own. */
  series: number[];
  stretchMs: number;
  /** Milliseconds of each fs.stat, one after another, and when it began. */
  stats: number[];
  statsAtMs: number[];
}

const resolutionMs = 1;
const stretchMs = 50;
const betweenStatsMs = 10;

export class LoopMonitor {
  readonly #file: string;
  readonly #delays = monitorEventLoopDelay({ resolution: resolutionMs });
  readonly #series: number[] = [];
  readonly #stats: number[] = [];
  readonly #statsAtMs: number[] = [];
  #stopped = false;
  #work: Promise<unknown> = Promise.resolve();

  /** `file`: asked for again and again; on another filesystem than what is measured. */
  constructor(file: string) {
    this.#file = file;
  }

  start(): void {
    this.#delays.enable();
    this.#watch();
    this.#work = this.#stat();
  }

  async stop(): Promise<LoopReport> {
    this.#stopped = true;
    this.#delays.disable();
    await this.#work;
    const delay = (ns: number) => Math.max(0, ns / 1e6 - resolutionMs);
    return {
      p50: delay(this.#delays.percentile(50)),
      p999: delay(this.#delays.percentile(99.9)),
      max: delay(this.#delays.max),
      series: this.#series,
      stretchMs,
      stats: this.#stats,
      statsAtMs: this.#statsAtMs,
    };
  }

  #watch(): void {
    const start = performance.now();
    let last = start;
    const tick = (): void => {
      const now = performance.now();
      const delay = Math.max(0, now - last - resolutionMs);
      // A stretch without a tick lies within this delay.
      const stretch = Math.floor((now - start) / stretchMs);
      while (this.#series.length < stretch) this.#series.push(delay);
      this.#series[stretch] = Math.max(delay, this.#series[stretch] ?? 0);
      last = now;
      if (!this.#stopped) setTimeout(tick, resolutionMs);
    };
    setTimeout(tick, resolutionMs);
  }

  async #stat(): Promise<void> {
    const begin = performance.now();
    while (!this.#stopped) {
      const start = performance.now();
      this.#statsAtMs.push(start - begin);
      await stat(this.#file);
      this.#stats.push(performance.now() - start);
      await sleep(betweenStatsMs);
    }
  }
}
