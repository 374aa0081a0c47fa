// Exchange and Queue: opening and its errors, elements, queues within one process and over several, deaths.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Exchange, type ExchangeOptions, Segment } from 'faultless';
import { startProcess } from './fixtures/start-process.js';
import { endsWith, newSharedName, rejects, throws, wrong } from './store-fixture.js';

const pathOf = (name: string) => name.replace('shm:', '/dev/shm/faultless.');
const options: ExchangeOptions = {
  elements: 100,
  elementSize: 20,
  queues: ['free', 'work', 'lost'],
  reclaimTo: 'lost',
};

describe('opening an exchange', () => {
  test('all elements start in the first queue; who comes later may leave options out', async () => {
    const name = newSharedName();
    await using first = await Exchange.open(name, options);
    await using second = await Exchange.open(name);
    assert.deepEqual([second.elements, second.elementSize, second.closed], [100, 20, false]);
    assert.deepEqual([first.queue('free').length, first.queue('work').length, first.queue('lost').length], [100, 0, 0]);
    assert.equal(first.queue('work'), first.queue('work'));
    assert.equal(first.queue('work').name, 'work');
    throws(() => first.queue('nothing'), 'ERR_NOT_FOUND');
    throws(() => first.queue(wrong(1)), 'ERR_INVALID_ARG_TYPE', TypeError);
  });

  test('other options, exclusive, missing', async () => {
    const name = newSharedName();
    await rejects(Exchange.open(name), 'ERR_NOT_FOUND');
    await rejects(Exchange.open(name, { elements: 1, elementSize: 1 }), 'ERR_NOT_FOUND');
    await rejects(Exchange.open(name, { ...options, create: false }), 'ERR_NOT_FOUND');
    await rejects(Exchange.open(name, { ...options, readOnly: true }), 'ERR_UNSUPPORTED');
    await rejects(Exchange.destroy(name), 'ERR_NOT_FOUND');
    await using _ = await Exchange.open(name, { ...options, exclusive: true });
    await rejects(Exchange.open(name, { ...options, exclusive: true }), 'ERR_EXISTS');
    await rejects(Exchange.open(name, { elements: 99 }), 'ERR_FORMAT');
    await rejects(Exchange.open(name, { elementSize: 21 }), 'ERR_FORMAT');
    await rejects(Exchange.open(name, { queues: ['free', 'lost', 'work'] }), 'ERR_FORMAT');
    await rejects(Exchange.open(name, { reclaimTo: 'free' }), 'ERR_FORMAT');
    await rejects(Segment.open(name), 'ERR_FORMAT');
    await Exchange.destroy(name);
    assert.ok(!existsSync(pathOf(name)));
    using _segment = Segment.openSync(name, { size: 100_000 });
    await rejects(Exchange.open(name), 'ERR_FORMAT');
    await rejects(Exchange.destroy(name), 'ERR_FORMAT');
  });

  test('wrong arguments', async () => {
    const name = newSharedName();
    const bad = (changes: object) => Exchange.open(name, { ...options, ...changes });
    await rejects(Exchange.open('./file', options), 'ERR_INVALID_ARG_VALUE', TypeError);
    for (const elements of [0, -1, 1.5, 2 ** 24 + 1]) await rejects(bad({ elements }), 'ERR_OUT_OF_RANGE', RangeError);
    for (const elementSize of [0, 2 ** 30 + 1]) await rejects(bad({ elementSize }), 'ERR_OUT_OF_RANGE', RangeError);
    await rejects(bad({ elements: 2 ** 24, elementSize: 2 ** 20 }), 'ERR_OUT_OF_RANGE', RangeError);
    await rejects(bad({ queues: [] }), 'ERR_OUT_OF_RANGE', RangeError);
    await rejects(bad({ queues: 'free' }), 'ERR_INVALID_ARG_TYPE', TypeError);
    for (const queues of [['free', 'free'], [''], ['x'.repeat(128)], ['a\0b'], ['\ud800']]) {
      await rejects(bad({ queues, reclaimTo: undefined }), 'ERR_INVALID_ARG_VALUE', TypeError);
    }
    await rejects(bad({ reclaimTo: 'nothing' }), 'ERR_INVALID_ARG_VALUE', TypeError);
    await rejects(bad({ elements: '1' }), 'ERR_INVALID_ARG_TYPE', TypeError);
    assert.ok(!existsSync(pathOf(name)));
  });
});

describe('elements and queues', () => {
  test('an element is the memory itself, made once, and handed on by its number', async () => {
    const name = newSharedName();
    await using one = await Exchange.open(name, options);
    await using other = await Exchange.open(name);
    const id = one.queue('free').pull() as number;
    const element = one.element(id);
    assert.equal(element, one.element(id));
    assert.equal(element.length, 20);
    element.write('by reference');
    assert.equal(one.queue('work').push(id), true);
    assert.equal(other.queue('work').pull(), id);
    assert.equal(other.element(id).toString('utf8', 0, 12), 'by reference');
    assert.equal(other.queue('work').pull(), undefined);
    throws(() => one.element(100), 'ERR_OUT_OF_RANGE', RangeError);
    throws(() => one.element(wrong('1')), 'ERR_INVALID_ARG_TYPE', TypeError);
  });

  test('only what is held can be pushed, once; of many all or none', async () => {
    await using exchange = await Exchange.open(newSharedName(), options);
    const [free, work] = [exchange.queue('free'), exchange.queue('work')];
    throws(() => work.push(0), 'ERR_INVALID_ARG_VALUE', TypeError);
    const ids = new Uint32Array(10);
    assert.equal(free.pullMany(ids), 10);
    throws(() => work.pushMany(Uint32Array.of(0, 1, 1)), 'ERR_INVALID_ARG_VALUE', TypeError);
    throws(() => work.pushMany(Uint32Array.of(0, 100)), 'ERR_OUT_OF_RANGE', RangeError);
    throws(() => work.pushMany(wrong([1])), 'ERR_INVALID_ARG_TYPE', TypeError);
    throws(() => work.push(100), 'ERR_OUT_OF_RANGE', RangeError);
    assert.equal(work.length, 0);
    assert.equal(work.pushMany(ids), 10);
    assert.equal(work.pushMany(new Uint32Array(0)), 0);
    throws(() => work.push(ids[0] as number), 'ERR_INVALID_ARG_VALUE', TypeError);
    const more = new Uint32Array(200);
    assert.equal(free.pullMany(more), 90);
    assert.equal(free.pullMany(more), 0);
    assert.deepEqual([...more.subarray(0, 3)], [10, 11, 12]);
  });

  test('take waits, in the order of its calls; an abort takes nothing', async () => {
    const name = newSharedName();
    await using one = await Exchange.open(name, options);
    await using other = await Exchange.open(name);
    const ids = new Uint32Array(5);
    other.queue('free').pullMany(ids);
    const controller = new AbortController();
    const takes = [0, 1, 2].map(() => one.queue('work').take());
    const aborted = one.queue('work').take({ signal: controller.signal });
    const last = one.queue('work').take();
    await sleep(10);
    controller.abort(new Error('enough'));
    await assert.rejects(aborted, /enough/);
    for (const id of ids) {
      other.queue('work').push(id);
      await sleep(1);
    }
    assert.deepEqual(await Promise.all(takes), [0, 1, 2]);
    assert.equal(await last, 3);
    assert.equal(await one.queue('work').take(), 4);
    const alone = new AbortController();
    const nothing = one.queue('work').take({ signal: alone.signal });
    await sleep(5);
    alone.abort();
    await assert.rejects(nothing, { name: 'AbortError' });
    await assert.rejects(one.queue('work').take({ signal: alone.signal }), { name: 'AbortError' });
    // A new one after the last was aborted.
    const next = one.queue('work').take();
    other.queue('work').push(other.queue('free').pull() as number);
    assert.equal(await next, 5);
  });

  test('close gives back what is held, empties views, rejects takes and ends iterations', async () => {
    const name = newSharedName();
    const exchange = await Exchange.open(name, options);
    await using other = await Exchange.open(name);
    const work = exchange.queue('work');
    const id = exchange.queue('free').pull() as number;
    const element = exchange.element(id);
    const taken = rejects(work.take(), 'ERR_CLOSED');
    const iterated = (async () => {
      for await (const _ of exchange.queue('lost')) assert.fail();
    })();
    await sleep(5);
    const closing = exchange.close();
    assert.equal(exchange.closed, true);
    assert.equal(element.length, 0);
    throws(() => exchange.element(id), 'ERR_CLOSED');
    for (const call of [() => work.pull(), () => work.push(id), () => work.length]) throws(call, 'ERR_CLOSED');
    await rejects(work.take(), 'ERR_CLOSED');
    await rejects(exchange.reclaim(), 'ERR_CLOSED');
    await Promise.all([closing, taken, iterated, exchange.close()]);
    assert.equal(other.queue('lost').pull(), id);
  });

  test('exchanges that nobody closed give back what they held once they are collected', async () => {
    const script = `
      import { Exchange } from 'faultless';
      const name = process.argv[1];
      const kept = await Exchange.open(name, ${JSON.stringify(options)});
      await (async () => { for (let i = 0; i < 5; i++) (await Exchange.open(name)).queue('free').pull(); })();
      for (let turn = 0; kept.queue('lost').length < 5; turn++) {
        if (turn === 500) throw new Error('only ' + kept.queue('lost').length);
        gc();
        await new Promise((resolve) => setTimeout(resolve, 5));
      }`;
    await endsWith(0, script, [newSharedName()], ['--expose-gc']);
  });
});

describe('exchanges over processes', () => {
  const worker = `
    import { Exchange } from 'faultless';
    const exchange = await Exchange.open(process.argv[1]);
  `;

  test('a queue of work for three workers, each element once', async () => {
    const name = newSharedName();
    await using exchange = await Exchange.open(name, options);
    const script = `${worker}
      for await (const id of exchange.queue('work')) {
        const element = exchange.element(id);
        const number = element.readInt32LE(0);
        if (number < 0) break;
        element.writeInt32LE(number * 2, 4);
        exchange.queue('lost').push(id);
      }
      await exchange.close();`;
    const workers = [0, 1, 2].map(() => endsWith(0, script, [name]));
    const [free, work, done] = [exchange.queue('free'), exchange.queue('work'), exchange.queue('lost')];
    const results = new Set<number>();
    const count = 2_000;
    const collecting = (async () => {
      while (results.size < count) {
        const id = await done.take();
        results.add(exchange.element(id).readInt32LE(4));
        free.push(id);
      }
    })();
    for (let i = 0; i < count; i++) {
      const id = await free.take();
      exchange.element(id).writeInt32LE(i, 0);
      work.push(id);
    }
    await collecting;
    for (const _ of workers) {
      const id = await free.take();
      exchange.element(id).writeInt32LE(-1, 0);
      work.push(id);
    }
    await Promise.all(workers);
    assert.deepEqual(results, new Set(Array.from({ length: count }, (_, i) => i * 2)));
  });

  test('what killed processes held comes back by itself, each element once', async (t) => {
    const name = newSharedName();
    await using exchange = await Exchange.open(name, options);
    const holders = [0, 1, 2].map(() => startProcess(t, 'holding', [name, '10']));
    for (const holder of holders) await holder.ready();
    assert.equal(exchange.queue('free').length, 70);
    assert.equal(await exchange.reclaim(), 0);
    for (const holder of holders) await holder.kill();
    const lost = exchange.queue('lost');
    const ids = new Set<number>();
    for (let i = 0; i < 30; i++) ids.add(await lost.take({ signal: AbortSignal.timeout(10_000) }));
    assert.equal(ids.size, 30);
    assert.equal(lost.pull(), undefined);
    assert.equal(await exchange.reclaim(), 30);
  });

  test('at once by reclaim, and by who opens it after all have died', async (t) => {
    const name = newSharedName();
    {
      const holder = startProcess(t, 'holding', [name, '10', JSON.stringify(options)]);
      await holder.ready();
      await holder.kill();
    }
    await using exchange = await Exchange.open(name);
    assert.equal(exchange.queue('lost').length, 10);
    const holder = startProcess(t, 'holding', [name, '7']);
    await holder.ready();
    await holder.kill();
    await exchange.reclaim();
    assert.equal(exchange.queue('lost').length, 17);
  });

  test('a stopped process keeps what it holds, and holds up nobody', async (t) => {
    const name = newSharedName();
    await using exchange = await Exchange.open(name, options);
    const holder = startProcess(t, 'holding', [name, '10']);
    await holder.ready();
    holder.signal('SIGSTOP');
    await sleep(300);
    assert.equal(await exchange.reclaim(), 0);
    const free = exchange.queue('free');
    for (let i = 0; i < 1_000; i++) free.push(free.pull() as number);
    holder.signal('SIGCONT');
  });

  test('a pending take keeps the process alive, and uses no processor', async () => {
    const name = newSharedName();
    await using exchange = await Exchange.open(name, options);
    const script = `${worker}
      const before = process.cpuUsage();
      setTimeout(() => {
        const { user, system } = process.cpuUsage(before);
        if (user + system > 250_000) throw new Error((user + system) + ' µs');
        exchange.queue('work').length;
        exchange.queue('lost').push(exchange.queue('free').pull());
      }, 500);
      exchange.queue('work').take().then((id) => console.log('took', id));`;
    const child = endsWith(0, script, [name]);
    const id = await exchange.queue('lost').take();
    exchange.queue('work').push(id);
    assert.match(await child, new RegExp(`took ${id}\n`));
  });

  test('an open exchange alone keeps no process alive', async () => {
    await endsWith(0, `${worker} globalThis.kept = exchange.element(0);`, [
      await (async () => {
        const name = newSharedName();
        await (await Exchange.open(name, options)).close();
        return name;
      })(),
    ]);
  });

  test('processes that end in the middle of waiting: by their own exit code', async () => {
    const name = newSharedName();
    await using exchange = await Exchange.open(name, options);
    const script = `
      import { Worker } from 'node:worker_threads';
      import { Exchange } from 'faultless';
      const code = \`
        import { parentPort, workerData } from 'node:worker_threads';
        import { Exchange } from 'faultless';
        const exchange = await Exchange.open(workerData);
        exchange.queue('work').take();
        exchange.queue('free').pull();
        parentPort.postMessage('ready');
      \`;
      const workers = [0, 1, 2].map(() => new Worker(code, { eval: true, workerData: process.argv[1] }));
      await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('message', resolve))));
      await workers[0].terminate();
      const exchange = await Exchange.open(process.argv[1]);
      exchange.queue('work').take();
      process.exit(5);`;
    await endsWith(5, script, [name]);
    await exchange.reclaim();
    assert.equal(exchange.queue('lost').length, 3);
    assert.ok(readFileSync(pathOf(name)).length > 0);
  });
});
