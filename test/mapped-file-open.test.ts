// How MappedFiles are opened: locations, options, descriptors, and what each refusal is called.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { after, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { FaultlessError, type MapOptions, MappedFile } from 'faultless';
import { directory, endsWith, locksMemory, newFile, pattern, rejects, wrong } from './mapped-file-fixture.js';

const creating = { create: true, readOnly: false } as const;

describe('locations', () => {
  const name = `map-test-${process.pid}`;
  const region = `/dev/shm/faultless.${name}`;
  after(() => rmSync(region, { force: true }));

  test('a path, absolute or relative, and a file: URL', async () => {
    const path = newFile('0123456789');
    for (const location of [path, relative(process.cwd(), path), pathToFileURL(path), pathToFileURL(path).href]) {
      await using file = await MappedFile.open(location);
      assert.equal((await file.read(2, 3)).toString(), '234');
    }
    const odd = join(directory, 'ä%20 #?b');
    writeFileSync(odd, 'odd');
    for (const location of [odd, pathToFileURL(odd)]) {
      await using file = await MappedFile.open(location);
      assert.equal(file.size, 3);
    }
  });

  test('shm:NAME is a file in /dev/shm', async () => {
    await rejects(MappedFile.open(`shm:${name}`), 'ERR_NOT_FOUND');
    await using one = await MappedFile.open(`shm:${name}`, { ...creating, size: 100 });
    await using two = await MappedFile.open(new URL(`shm:${name}`), { readOnly: false });
    await one.write('seen', 50);
    assert.equal((await two.read(50, 4)).toString(), 'seen');
    assert.equal(two.tryRead(50, 4).toString(), 'seen');
    assert.equal(statSync(region).size, 100);
    assert.equal(statSync(region).mode & 0o7777, 0o600);
  });

  test('names have 1 to 200 allowed characters', async () => {
    const longest = 'x'.repeat(200);
    await (await MappedFile.open(`shm:${longest}`, { ...creating, size: 1 })).close();
    rmSync(`/dev/shm/faultless.${longest}`);
    for (const bad of ['', 'x'.repeat(201), 'a/b', 'a b', 'ä', '../x', 'a\0', 'a%20b']) {
      await rejects(MappedFile.open(`shm:${bad}`, creating), 'ERR_INVALID_ARG_VALUE', TypeError);
    }
  });

  test('anything else is an argument error', async () => {
    for (const location of [5, null, undefined, {}, Buffer.from('x'), true]) {
      await rejects(MappedFile.open(wrong(location)), 'ERR_INVALID_ARG_TYPE', TypeError);
    }
    for (const location of ['', 'a\0b', new URL('http://localhost/x'), new URL('file://host/x'), 'file://%']) {
      await rejects(MappedFile.open(location), 'ERR_INVALID_ARG_VALUE', TypeError);
    }
  });
});

describe('options', () => {
  test('by default an existing file is mapped for reading only', async () => {
    const path = newFile('0123456789');
    await using file = await MappedFile.open(path);
    assert.deepEqual([file.size, file.readOnly, file.closed], [10, true, false]);
    await rejects(MappedFile.open(newFile()), 'ERR_NOT_FOUND');
  });

  test('create makes what is not there, with size and exact permissions', async () => {
    const path = newFile();
    const mask = process.umask(0o077);
    const file = await MappedFile.open(path, { ...creating, size: 5000, permissions: 0o664 });
    process.umask(mask);
    assert.equal(file.size, 5000);
    assert.equal(statSync(path).size, 5000);
    assert.equal(statSync(path).mode & 0o7777, 0o664);
    await file.close();
    // There already: opened as it is.
    await using again = await MappedFile.open(path, { ...creating, permissions: 0o600 });
    assert.equal(again.size, 5000);
    assert.equal(statSync(path).mode & 0o7777, 0o664);
    await using empty = await MappedFile.open(newFile(), creating);
    assert.equal(empty.size, 0);
    assert.equal((await empty.read(0, 10)).length, 0);
    await empty.resize(10);
    assert.equal(await empty.write('0123456789', 0), 10);
  });

  test('exclusive refuses what is there', async () => {
    const path = newFile();
    await (await MappedFile.open(path, { ...creating, exclusive: true, size: 1 })).close();
    await rejects(MappedFile.open(path, { ...creating, exclusive: true }), 'ERR_EXISTS');
    const racing = newFile();
    const outcomes = await Promise.allSettled(
      Array.from({ length: 10 }, () => MappedFile.open(racing, { ...creating, exclusive: true, size: 1 })),
    );
    const opened = outcomes.filter((outcome) => outcome.status === 'fulfilled');
    assert.equal(opened.length, 1);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') assert.equal(outcome.reason.code, 'ERR_EXISTS');
      else await outcome.value.close();
    }
  });

  test('size grows a file that is smaller, and leaves one that is larger', async () => {
    const path = newFile('0123456789');
    await rejects(MappedFile.open(path, { size: 11 }), 'ERR_READ_ONLY');
    await using file = await MappedFile.open(path, { readOnly: false, size: 5 });
    assert.equal(file.size, 10);
    await using larger = await MappedFile.open(path, { readOnly: false, size: 10_000 });
    assert.equal(larger.size, 10_000);
    assert.equal(statSync(path).size, 10_000);
    assert.equal((await larger.read(8, 4)).toString('latin1'), '89\0\0');
  });

  test('windows start and end anywhere', async () => {
    const bytes = pattern(20_000);
    const path = newFile(bytes);
    for (const offset of [0, 1, 4095, 4096, 4097, 12_345, 19_999, 20_000]) {
      for (const length of [undefined, 0, 1, 5000]) {
        const options: MapOptions = length === undefined ? { offset } : { offset, length };
        if (offset + (length ?? 0) > 20_000) {
          await rejects(MappedFile.open(path, options), 'ERR_OUT_OF_RANGE', RangeError);
          continue;
        }
        await using file = await MappedFile.open(path, options);
        const expected = bytes.subarray(offset, length === undefined ? 20_000 : offset + length);
        assert.equal(file.size, expected.length);
        assert.ok((await file.read(0, 30_000)).equals(expected), `${offset}, ${length}`);
        assert.ok(file.readSync(1, 30_000).equals(expected.subarray(1)));
      }
    }
    await rejects(MappedFile.open(path, { offset: 20_001 }), 'ERR_OUT_OF_RANGE', RangeError);
    await using fixed = await MappedFile.open(path, { readOnly: false, offset: 10, length: 5 });
    await fixed.write('abcde', 0);
    await rejects(fixed.write('abcdef', 0), 'ERR_OUT_OF_RANGE', RangeError);
    await rejects(fixed.resize(10), 'ERR_UNSUPPORTED');
    assert.equal(readFileSync(path, 'latin1').slice(10, 15), 'abcde');
  });

  test('shared: false keeps writes private', async () => {
    const path = newFile(pattern(10_000));
    await using file = await MappedFile.open(path, { readOnly: false, shared: false });
    await using other = await MappedFile.open(path);
    await file.write('private', 4090);
    assert.equal((await file.read(4090, 7)).toString(), 'private');
    await file.advise('dontneed');
    await file.flush();
    assert.equal((await file.read(4090, 7)).toString(), 'private');
    assert.ok((await other.read(0, 10_000)).equals(pattern(10_000)));
    assert.ok(readFileSync(path).equals(pattern(10_000)));
    await rejects(file.resize(20_000), 'ERR_UNSUPPORTED');
  });

  test('two maps of one file see each other', async () => {
    const path = newFile(Buffer.alloc(10_000));
    await using one = await MappedFile.open(path, { readOnly: false });
    await using two = await MappedFile.open(path, { offset: 5000 });
    await one.write('hello', 5500);
    assert.equal((await two.read(500, 5)).toString(), 'hello');
    assert.equal(readFileSync(path).toString('latin1', 5500, 5505), 'hello');
  });

  test('options of a wrong kind are argument errors', async () => {
    const path = newFile('x');
    for (const key of ['readOnly', 'create', 'exclusive', 'shared']) {
      for (const value of [0, 'true', null]) {
        await rejects(MappedFile.open(path, wrong({ [key]: value })), 'ERR_INVALID_ARG_TYPE', TypeError);
      }
    }
    for (const key of ['size', 'offset', 'length', 'permissions']) {
      await rejects(MappedFile.open(path, wrong({ [key]: '1' })), 'ERR_INVALID_ARG_TYPE', TypeError);
      for (const value of [-1, 0.5, Number.NaN, 2 ** 53]) {
        await rejects(MappedFile.open(path, { [key]: value }), 'ERR_OUT_OF_RANGE', RangeError);
      }
    }
    await rejects(MappedFile.open(path, { permissions: 0o10000 }), 'ERR_OUT_OF_RANGE', RangeError);
    await rejects(MappedFile.open(path, wrong({ signal: {} })), 'ERR_INVALID_ARG_TYPE', TypeError);
    for (const options of [null, 5, 'x']) {
      await rejects(MappedFile.open(path, wrong(options)), 'ERR_INVALID_ARG_TYPE', TypeError);
    }
  });
});

describe('refusals', () => {
  test('what is no regular file is unsupported, and opening a pipe does not wait', async () => {
    execFileSync('mkfifo', [join(directory, 'pipe')]);
    for (const path of [directory, '/dev/null', '/dev/zero', join(directory, 'pipe')]) {
      await rejects(MappedFile.open(path), 'ERR_UNSUPPORTED');
      await rejects(MappedFile.open(path, creating), 'ERR_UNSUPPORTED');
    }
  });

  test('missing and dangling names', async () => {
    await rejects(MappedFile.open(join(directory, 'no', 'such', 'directory'), creating), 'ERR_NOT_FOUND');
    const dangling = newFile();
    symlinkSync(newFile(), dangling);
    await rejects(MappedFile.open(dangling), 'ERR_NOT_FOUND');
    await rejects(MappedFile.open(dangling, creating), 'ERR_EXISTS');
  });

  test('errors tell errno, call and path', async () => {
    const path = newFile();
    await assert.rejects(MappedFile.open(path), (error) => {
      assert.ok(error instanceof FaultlessError);
      assert.deepEqual([error.code, error.errno, error.path], ['ERR_NOT_FOUND', -2, path]);
      assert.equal(typeof error.syscall, 'string');
      assert.ok(error.message.includes(path));
      assert.equal((error.cause as NodeJS.ErrnoException).code, 'ENOENT');
      return true;
    });
  });

  test('what permissions forbid is ERR_ACCESS', async () => {
    const secret = newFile('secret');
    const plain = newFile('plain');
    chmodSync(directory, 0o755);
    chmodSync(secret, 0o000);
    chmodSync(plain, 0o444);
    const script = `
      import { MappedFile } from 'faultless';
      const [secret, plain, beside] = process.argv.slice(1);
      if (process.getuid() === 0) process.setuid(65534);
      for (const [path, options] of [
        [secret, {}], [plain, { readOnly: false }], [beside, { create: true, readOnly: false }],
      ]) {
        await MappedFile.open(path, options).then(() => console.log('open'), (error) => console.log(error.code));
      }
      const file = await MappedFile.open(plain, { readOnly: false, shared: false });
      await file.write('P', 0);
      console.log(String(await file.read(0, 5)));`;
    assert.equal(
      await endsWith(0, script, [secret, plain, join(directory, 'beside')]),
      'ERR_ACCESS\nERR_ACCESS\nERR_ACCESS\nPlain\n',
    );
  });

  test('more locked memory than allowed is ERR_MEMLOCK', async (t) => {
    if (!locksMemory) return t.skip('AddressSanitizer makes mlock do nothing');
    const path = newFile(Buffer.alloc(1024 * 1024));
    chmodSync(path, 0o644);
    const script = `
      import { MappedFile } from 'faultless';
      if (process.getuid() === 0) process.setuid(65534);
      const file = await MappedFile.open(process.argv[1]);
      await file.lock(0, 1000);
      await file.lock().then(() => console.log('locked'), (error) => console.log(error.code));
      await file.unlock();
      console.log((await file.read(0, 10)).length);`;
    assert.equal(await endsWith(0, script, [path], [], 'ulimit -l 64'), 'ERR_MEMLOCK\n10\n');
  });
});

describe('fromHandle', () => {
  /** Opens, by each kind of handle. */
  const kinds: Record<string, (path: string, flags: string) => Promise<[FileHandle | number, () => unknown]>> = {
    FileHandle: async (path, flags) => {
      const handle = await open(path, flags);
      return [handle, () => handle.close()];
    },
    number: async (path, flags) => {
      const fd = openSync(path, flags);
      return [fd, () => closeSync(fd)];
    },
  };

  for (const [kind, openHandle] of Object.entries(kinds)) {
    test(`a ${kind} stays its owner's, closed before or after`, async () => {
      const path = newFile('0123456789');
      const [handle, close] = await openHandle(path, 'r+');
      const fd = typeof handle === 'number' ? handle : handle.fd;
      const file = await MappedFile.fromHandle(handle, { readOnly: false, offset: 2 });
      assert.equal((await file.read(0, 3)).toString(), '234');
      await file.write('ab', 0);
      await file.close();
      assert.equal(fstatSync(fd).size, 10);
      const target = Buffer.alloc(10);
      assert.equal(readSync(fd, target, 0, 10, 0), 10);
      assert.equal(target.toString(), '01ab456789');

      // Closed right after the call, before the map is there.
      const opening = MappedFile.fromHandle(handle);
      await close();
      await using later = await opening;
      assert.equal(later.readOnly, true);
      assert.equal((await later.read(0, 10)).toString(), '01ab456789');
    });
  }

  test('the descriptor allows what it was opened for', async () => {
    const path = newFile('0123456789');
    const reading = openSync(path, 'r');
    const writing = openSync(path, 'a');
    await rejects(MappedFile.fromHandle(reading, { readOnly: false }), 'ERR_ACCESS');
    await rejects(MappedFile.fromHandle(writing), 'ERR_ACCESS');
    await using file = await MappedFile.fromHandle(reading, { readOnly: false, shared: false });
    await file.write('x', 0);
    assert.equal((await file.read(0, 2)).toString(), 'x1');
    assert.equal(readFileSync(path, 'utf8'), '0123456789');
    closeSync(reading);
    closeSync(writing);
  });

  test('it also maps what has no name any more', async () => {
    const path = newFile('nameless');
    const fd = openSync(path, 'r+');
    rmSync(path);
    assert.ok(!existsSync(path));
    await using file = await MappedFile.fromHandle(fd, { readOnly: false, size: 100 });
    assert.equal(file.size, 100);
    assert.equal((await file.read(0, 8)).toString(), 'nameless');
    closeSync(fd);
  });

  test('what is no open descriptor of a regular file is refused', async () => {
    for (const handle of ['5', null, undefined, {}, { fd: '5' }, 5n, () => 5]) {
      await rejects(MappedFile.fromHandle(wrong(handle)), 'ERR_INVALID_ARG_TYPE', TypeError);
    }
    for (const fd of [-1, 0.5, Number.NaN, 2 ** 31]) {
      await rejects(MappedFile.fromHandle(fd), 'ERR_OUT_OF_RANGE', RangeError);
    }
    await rejects(MappedFile.fromHandle(2 ** 31 - 1), 'ERR_INVALID_ARG_VALUE', TypeError);
    const handle = await open(newFile('x'));
    await handle.close();
    await rejects(MappedFile.fromHandle(handle), 'ERR_OUT_OF_RANGE', RangeError);
    mkdirSync(join(directory, 'd'));
    const fd = openSync(join(directory, 'd'), 'r');
    await rejects(MappedFile.fromHandle(fd), 'ERR_UNSUPPORTED');
    assert.ok(fstatSync(fd).isDirectory());
    closeSync(fd);
  });
});
