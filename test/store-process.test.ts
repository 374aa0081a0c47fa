// A store and the process around it: floods, exits, workers, garbage collection.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Store } from 'faultless';
import { endsWith, newPath, newSharedName, runScript } from './store-fixture.js';

/** Begins a script: `path` is its first argument. */
const head = `import { Store } from 'faultless';
const path = process.argv[1];
`;

describe('a flood', () => {
  test('of 1,000,000 un-awaited sets completes, in memory bounded beyond the values', async () => {
    const script = `${head}
      const count = 1_000_000;
      const store = await Store.open(path, { encoding: 'utf8' });
      let failed = 0;
      let settled = 0;
      for (let i = 0; i < count; i++) {
        store.set('key' + i, 'value ' + i + 'x'.repeat(80)).then(() => settled++, () => failed++);
      }
      const last = await store.get('key' + (count - 1));
      if (last !== 'value 999999' + 'x'.repeat(80)) throw new Error('the last one is ' + last);
      await store.flush();
      if (settled !== count || failed !== 0) throw new Error(settled + ' settled, ' + failed + ' failed');
      if (store.size !== count) throw new Error(store.size + ' keys');
      await store.close();
      const { maxRSS } = process.resourceUsage();
      console.log(JSON.stringify({ peakMiB: maxRSS / 1024 }));`;
    const output = await endsWith(0, script, [newPath()], ['--max-old-space-size=1200']);
    const { peakMiB } = JSON.parse(output.trim().split('\n').at(-1) as string);
    // The file itself is mapped and counts too: about 200 MiB of it.
    console.log(`peak of the process: ${peakMiB.toFixed(0)} MiB`);
    assert.ok(peakMiB < 1800, `${peakMiB} MiB`);
  });

  test('of sets of one key, and of gets', async () => {
    const script = `${head}
      const store = await Store.open(path);
      const reads = [];
      for (let i = 0; i < 200_000; i++) {
        store.set('key', i);
        if (i % 4 === 0) reads.push(store.get('key').then((value) => { if (value !== i) throw new Error(i + ': ' + value); }));
      }
      await Promise.all(reads);
      if (await store.get('key') !== 199_999) throw new Error('not the last one');
      await store.close();`;
    await endsWith(0, script, [newPath()], ['--max-old-space-size=800']);
  });

  test('with large values: each is captured once', async () => {
    const script = `${head}
      const store = await Store.open(path, { encoding: 'buffer' });
      const value = Buffer.alloc(4 << 20, 1);
      const before = process.memoryUsage().arrayBuffers;
      const pending = [];
      for (let i = 0; i < 50; i++) pending.push(store.set('key' + i, value));
      const held = process.memoryUsage().arrayBuffers - before;
      if (held > (200 << 20) * 1.1) throw new Error(held + ' bytes for 200 MiB');
      await Promise.all(pending);
      await store.close();`;
    await endsWith(0, script, [newPath()]);
  });
});

describe('the life of the process', () => {
  test('an open store does not keep it alive, a pending call does', async () => {
    await endsWith(0, `${head} globalThis.store = await Store.open(path);`, [newPath()]);
    const path = newPath();
    const pending = `${head}
      const store = await Store.open(path);
      for (let i = 0; i < 3000; i++) store.set('key' + i, i);
      store.get('key2999').then((value) => console.log('answered', value));`;
    assert.match(await endsWith(0, pending, [path]), /answered 2999/);
    await using store = await Store.open(path);
    assert.equal(store.size, 3000);
    assert.match(
      await endsWith(0, `${head} const s = Store.openSync(path); s.keys().next().then(() => console.log('one'));`, [
        path,
      ]),
      /one/,
    );
  });

  const ends = {
    'process.exit': ['process.exit(7);', 7, null],
    'an uncaught error': ["throw new Error('on purpose');", 1, null],
    'an unhandled rejection': ["Promise.reject(new Error('on purpose'));", 1, null],
    SIGTERM: ["process.kill(process.pid, 'SIGTERM');", null, 'SIGTERM'],
    SIGKILL: ["process.kill(process.pid, 'SIGKILL');", null, 'SIGKILL'],
  } as const;
  const middles = {
    'of opening': "Store.open(path + '.other'); Store.open(path);",
    'of a tick': "store.set('x', 1); store.get('x');",
    'of many requests': "for (let i = 0; i < 20_000; i++) { store.set('x' + i, 'x'.repeat(100)); store.get('x' + i); }",
    'of large values': "for (let i = 0; i < 20; i++) store.set('large' + i, Buffer.alloc(5 << 20));",
    'of an iteration': 'const it = store.entries({ highWaterMark: 1000 }); await it.next(); it.next(); it.next();',
    'of flushing and closing': "store.set('x', 1); store.flush(); store.close();",
    'of a clear': 'store.clear(); store.getMany(["a", "b"]);',
  };
  for (const [middle, work] of Object.entries(middles)) {
    test(`ends in the middle ${middle}: by its own exit code or signal, and what had resolved is there`, async () => {
      const path = newPath();
      let round = 0;
      for (const [end, [statement, code, signal]] of Object.entries(ends)) {
        for (const wait of ['', 'await new Promise((resolve) => setImmediate(resolve));']) {
          round++;
          const script = `${head}
            const store = await Store.open(path);
            await store.set('sure' + ${round}, ${round});
            ${work}
            ${wait}
            ${statement}
            await new Promise((resolve) => setTimeout(resolve, 10_000));`;
          const ended = await runScript(script, [path]);
          assert.deepEqual([ended.code, ended.signal], [code, signal], `${end}: ${ended.output}`);
          await using store = await Store.open(path);
          if (middle === 'of a clear') continue;
          for (let i = 1; i <= round; i++) assert.equal(await store.get(`sure${i}`), i, `${end}: sure${i}`);
        }
      }
    });
  }

  test('stores that nobody closed are collected, whatever was under way', async () => {
    const script = `${head}
      let collected = 0;
      let written = 0;
      const finalization = new FinalizationRegistry(() => collected++);
      for (let i = 0; i < 30; i++) {
        const store = i % 2 === 0 ? Store.openSync(path) : await Store.open(path);
        finalization.register(store);
        store.set('key' + i, i).then(() => written++);
        if (i % 3 === 0) store.get('key' + i);
        const iterator = store.keys({ highWaterMark: 10 });
        if (i % 5 === 0) await iterator.next();
        if (i % 7 === 0) iterator.next();
      }
      for (let i = 0; i < 1000 && (collected < 25 || written < 30); i++) {
        gc();
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      if (collected < 25 || written < 30) throw new Error(collected + ' collected, ' + written + ' written');
      const store = Store.openSync(path);
      for (let i = 0; i < 30; i++) if (store.getSync('key' + i) !== i) throw new Error('key' + i);
      store.closeSync();`;
    await endsWith(0, script, [newPath()], ['--expose-gc']);
  });

  test('the loop turns while many operations are under way', async () => {
    await using store = await Store.open(newPath());
    let turns = 0;
    let done = false;
    const turn = () => {
      turns++;
      if (!done) setImmediate(turn);
    };
    setImmediate(turn);
    for (let round = 0; round < 20; round++) {
      await Promise.all(Array.from({ length: 1000 }, (_, i) => store.set(`key${i}`, 'x'.repeat(1000))));
    }
    done = true;
    assert.ok(turns >= 20, `${turns} turns`);
  });
});

describe('workers', () => {
  const worker = `
    import { parentPort, workerData } from 'node:worker_threads';
    import { Store } from 'faultless';
    const { path, name, count } = workerData;
    const store = await Store.open(path, { encoding: 'utf8' });
    for (let i = 0; i < count; i++) {
      if (i % 3 === 0) store.setSync(name + i, name + i);
      else if (i % 3 === 1) await store.set(name + i, name + i);
      else store.set(name + i, name + i);
      if (i % 100 === 0) {
        await store.set('shared', name.repeat(1000));
        const seen = await store.get('shared');
        if (seen.length !== 1000 || new Set(seen).size !== 1) throw new Error('torn: ' + seen);
      }
    }
    await store.close();
    parentPort.postMessage('done');
  `;

  test('three of them and the main thread share one file', async () => {
    const script = `
      import { Worker } from 'node:worker_threads';
      import { Store } from 'faultless';
      const path = process.argv[1];
      const code = ${JSON.stringify(worker)};
      const count = 3000;
      const workers = ['a', 'b', 'c'].map((name) => {
        return new Promise((resolve, reject) => {
          const worker = new Worker(code, { eval: true, workerData: { path, name, count } });
          worker.on('error', reject);
          worker.on('exit', (exit) => exit === 0 ? resolve() : reject(new Error('exit ' + exit)));
        });
      });
      const store = await Store.open(path, { encoding: 'utf8' });
      for (let i = 0; i < count; i++) {
        if (i % 2 === 0) store.setSync('m' + i, 'm' + i);
        else await store.set('m' + i, 'm' + i);
      }
      await Promise.all(workers);
      for (const name of 'abcm') {
        for (let i = 0; i < count; i++) if (await store.get(name + i) !== name + i) throw new Error(name + i);
      }
      if (store.size !== 4 * count + 1) throw new Error(store.size + ' keys');
      await store.close();`;
    await endsWith(0, script, [newPath()]);
    await endsWith(0, script.replace('process.argv[1]', `'${newSharedName()}'`));
  });

  test('terminated in the middle of operations: the others go on', async () => {
    const script = `
      import { Worker } from 'node:worker_threads';
      import { Store } from 'faultless';
      const path = process.argv[1];
      const code = \`
        import { parentPort, workerData } from 'node:worker_threads';
        import { Store } from 'faultless';
        const store = await Store.open(workerData);
        parentPort.postMessage('begun');
        for (let i = 0; ; i++) {
          for (let j = 0; j < 500; j++) { store.set('w' + j, 'x'.repeat(j)); store.get('w' + j); }
          store.setSync('sync', i);
          store.keys({ highWaterMark: 100 }).next();
          await store.get('w1');
        }
      \`;
      const store = await Store.open(path);
      await store.set('sure', 1);
      for (let round = 0; round < 12; round++) {
        const worker = new Worker(code, { eval: true, workerData: path });
        await new Promise((resolve, reject) => { worker.on('message', resolve); worker.on('error', reject); });
        await new Promise((resolve) => setTimeout(resolve, round * 3));
        const writes = Array.from({ length: 100 }, (_, i) => store.set('m' + i, round));
        await worker.terminate();
        await Promise.all(writes);
        if (await store.get('sure') !== 1 || await store.get('m99') !== round) throw new Error('round ' + round);
      }
      for (const [key, value] of store) if (key[0] === 'w' && value.length !== Number(key.slice(1))) throw new Error(key);
      await store.close();`;
    await endsWith(0, script, [newPath()]);
  });

  test('process.exit of the main thread and of a worker, while workers work', async () => {
    const script = (exit: string, inWorker: string) => `
      import { Worker } from 'node:worker_threads';
      const path = process.argv[1];
      const code = \`
        import { parentPort, workerData } from 'node:worker_threads';
        import { Store } from 'faultless';
        const store = await Store.open(workerData);
        for (let i = 0; ; i++) {
          for (let j = 0; j < 500; j++) store.set('w' + j, j);
          await store.get('w1');
          if (i === 3) parentPort.postMessage('begun');
          if (i === 5) { ${inWorker} }
        }
      \`;
      let begun = 0;
      for (let i = 0; i < 3; i++) {
        new Worker(code, { eval: true, workerData: path }).on('message', () => { if (++begun === 3) { ${exit} } });
      }`;
    await endsWith(9, script('process.exit(9)', ''), [newPath()]);
    await endsWith(1, script("throw new Error('on purpose')", ''), [newPath()]);
    await endsWith(0, script('', 'process.exit(5)'), [newPath()]);
    await endsWith(1, script('', "throw new Error('on purpose')"), [newPath()]);
  });
});
