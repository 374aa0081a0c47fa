import { defineConfig } from 'vitest/config';

// An addon in one process: no worker threads that share it with vitest's own.
export default defineConfig({ test: { include: ['suite.mjs'], pool: 'forks' } });
