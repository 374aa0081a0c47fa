// What the kernel says about processes, mounts and loop devices. Everything here reads /proc and /sys only, which no
// stuck device can hold up: safe on the event loop and while a disk is paused.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { basename } from 'node:path';

/** The file's text, or '' if it is gone or cannot be read: processes end while they are looked at. */
function text(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function link(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

function names(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

/** From /proc/PID/stat. The name of a program may hold blanks and parentheses: fields are counted after the last one. */
export function processStat(pid: number): { state: string; parent: number; startTime: string } | undefined {
  const stat = text(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state, parent] = fields;
  const startTime = fields[19];
  if (!state || !parent || !startTime) return undefined;
  return { state, parent: Number(parent), startTime };
}

/** False also for a process that was killed but waits for a device: nothing of its program will run again. */
export function isRunning(pid: number): boolean {
  const stat = processStat(pid);
  if (stat === undefined || stat.state === 'Z' || stat.state === 'X') return false;
  const killed = 1n << 8n;
  const pending = [...text(`/proc/${pid}/status`).matchAll(/^(?:SigPnd|ShdPnd):\s*([0-9a-f]+)$/gm)];
  return pending.every(([, mask]) => (BigInt(`0x${mask}`) & killed) === 0n);
}

export function processIds(): number[] {
  return names('/proc').map(Number).filter(Number.isInteger);
}

export function commandLine(pid: number): string[] {
  return text(`/proc/${pid}/cmdline`).split('\0').slice(0, -1);
}

/** Number of the PID namespace of this process. */
export function pidNamespace(): string {
  return link('/proc/self/ns/pid').replace(/\D/g, '');
}

/** Capabilities that this process may use, as in linux/capability.h. */
export function hasCapability(bit: number): boolean {
  const mask = /^CapEff:\s*([0-9a-f]+)$/m.exec(text('/proc/self/status'))?.[1];
  return mask !== undefined && (BigInt(`0x${mask}`) & (1n << BigInt(bit))) !== 0n;
}

export function isWithin(path: string, directory: string): boolean {
  return path === directory || path.startsWith(`${directory}/`);
}

/** Mount points in or below the directory, the newest first. */
export function mountsWithin(directory: string): string[] {
  return text('/proc/self/mountinfo')
    .split('\n')
    .map((line) =>
      (line.split(' ')[4] ?? '').replace(/\\([0-7]{3})/g, (_, code) => String.fromCharCode(parseInt(code, 8))),
    )
    .filter((path) => isWithin(path, directory))
    .reverse();
}

/** Devices (/dev/loopN) whose backing file lies in the directory. */
export function loopDevicesWithin(directory: string): string[] {
  return names('/sys/block')
    .filter((name) => name.startsWith('loop'))
    .filter((name) => isWithin(text(`/sys/block/${name}/loop/backing_file`).trimEnd(), directory))
    .map((name) => `/dev/${name}`);
}

/** Running processes of these programs that were given a path in the directory. */
export function serversWithin(directory: string, programs: readonly string[]): number[] {
  return processIds().filter((pid) => {
    const [program = '', ...args] = commandLine(pid);
    return programs.includes(basename(program)) && args.some((arg) => arg.includes(`${directory}/`)) && isRunning(pid);
  });
}

/** "PID program" of each process that has something below the directory open, mapped or as its working directory. */
export function usersOf(directory: string): string[] {
  return processIds()
    .filter((pid) => {
      if (isWithin(link(`/proc/${pid}/cwd`), directory)) return true;
      if (names(`/proc/${pid}/fd`).some((fd) => isWithin(link(`/proc/${pid}/fd/${fd}`), directory))) return true;
      return text(`/proc/${pid}/maps`).includes(` ${directory}/`);
    })
    .map((pid) => `${pid} ${commandLine(pid).slice(0, 3).join(' ')}`);
}

/**
 * Requests that the block device has completed since it was set up, and those it is working on. `flushes`: of its cache,
 * as fsync ends with one.
 */
export function blockStatistics(device: string): { reads: number; writes: number; flushes: number; inFlight: number } {
  const fields = text(`/sys/block/${basename(device)}/stat`)
    .trim()
    .split(/\s+/)
    .map(Number);
  return { reads: fields[0] ?? 0, writes: fields[4] ?? 0, flushes: fields[15] ?? 0, inFlight: fields[8] ?? 0 };
}

/** One line per thread: what it is doing and where in the kernel it waits. For messages about tests that hang. */
export function threadReport(pid: number): string {
  return names(`/proc/${pid}/task`)
    .map((tid) => {
      const task = `/proc/${pid}/task/${tid}`;
      const stack = text(`${task}/stack`)
        .split('\n')
        .slice(0, 4)
        .map((line) => line.replace(/^\[<0>\] |\+.*$/g, ''));
      const stat = text(`${task}/stat`);
      const state = stat.slice(stat.lastIndexOf(')') + 2)[0];
      return `  ${tid} ${text(`${task}/comm`).trim()} ${state} ${stack.join(' < ')}`;
    })
    .join('\n');
}
