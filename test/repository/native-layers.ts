import { readSources } from './files.js';

/** Each layer of csrc/ with what it may include besides itself. */
const BELOW: Record<string, readonly string[]> = {
  base: [],
  os: ['base'],
  format: ['os', 'base'],
  store: ['format', 'os', 'base'],
  map: ['format', 'os', 'base'],
  ipc: ['format', 'os', 'base'],
  binding: ['store', 'map', 'ipc', 'format', 'os', 'base'],
};

/** Folders of csrc/os/: `posix` is what the implementations share. */
const OS_BELOW: Record<string, readonly string[]> = {
  '': [],
  posix: [''],
  linux: ['posix', ''],
  portable: ['posix', ''],
};

const NODE_HEADER = /^(napi.*|node.*|js_native_api.*|v8.*|uv|uv\/.*|libplatform\/.*|cppgc\/.*)\.h$/;
const NOT_EVEN_IN_BINDING = /^(node|v8.*|uv|uv\/.*|libplatform\/.*|cppgc\/.*)\.h$/;
const SYSTEM_HEADER =
  /^((sys|linux|asm|net|netinet|arpa)\/.*|unistd|fcntl|signal|pthread|sched|poll|dirent|dlfcn|semaphore|spawn|termios|aio)\.h$|^(sys|linux)\/|^csignal$/;

/** What is wrong with the includes below `csrc`, one line per finding. */
export function checkNativeLayers(csrc: string): string[] {
  const sources = readSources(csrc, /\.(cc|h)$/);
  const known = new Set(sources.map((source) => source.path));
  const findings: string[] = [];

  for (const { path, text } of sources) {
    const [layer = '', ...rest] = path.split('/');
    const below = BELOW[layer];
    if (!below || rest.length === 0) {
      findings.push(`${path}: lies in no layer`);
      continue;
    }
    // The fault handler's counter takes the initial-exec model, and all of the library's thread-local memory with it: a few
    // hundred bytes more, and the dynamic loader refuses the library.
    if (layer !== 'os' && /\bthread_local\b/.test(text.replace(/\/\/.*/g, ''))) {
      findings.push(`${path}: thread_local belongs to csrc/os/, a few words of it`);
    }
    for (const [, bracket, header = ''] of text.matchAll(/^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]/gm)) {
      const finding = (reason: string) => findings.push(`${path}: ${header}: ${reason}`);
      if (NODE_HEADER.test(header)) {
        if (layer !== 'binding') finding('Node, N-API and libuv headers belong to csrc/binding/');
        else if (NOT_EVEN_IN_BINDING.test(header)) finding('N-API only: no node.h, no V8, no libuv');
      } else if (bracket === '<') {
        if (SYSTEM_HEADER.test(header) && layer !== 'os') finding('system calls belong to csrc/os/');
      } else if (!known.has(header)) {
        finding('no such file; paths are relative to csrc/');
      } else {
        const [target = ''] = header.split('/');
        if (target !== layer && !below.includes(target)) finding(`${layer} lies not above ${target}`);
        if (target === 'os') checkOs(path, header, finding);
      }
    }
  }
  return findings;
}

/** The folder of csrc/os/ in which a file lies, '' for os/ itself; undefined for a file elsewhere. */
function osFolder(path: string): string | undefined {
  const parts = path.split('/');
  if (parts[0] !== 'os') return undefined;
  return parts.length === 2 ? '' : (parts[1] ?? '');
}

function checkOs(path: string, header: string, finding: (reason: string) => void): void {
  const from = osFolder(path);
  const to = osFolder(header) ?? '';
  if (from === undefined) {
    if (to !== '') finding('the implementations of os/ are seen through os/os.h only');
  } else if (from !== to && !OS_BELOW[from]?.includes(to)) {
    finding(`os/${from} lies not above os/${to}`);
  }
}
