import { cloudflareTest } from "@cloudflare/vitest-plugin";
import { defineConfig } from "vitest/config";

/** Tests of Node code beside the files they test; the other suites are in folders of their own. */
const unit = {
  include: [
    "{agent,cli,cluster,control,edge-config,gateway,setup,wasm-nat,worker}/**/*.test.ts",
    "tests/*.test.ts",
    "tests/{golden,kv,gateway,edge,tls}/**/*.test.ts",
  ],
  exclude: ["tests/package.test.ts", "**/node_modules/**"],
};

/** An emulated machine, in which the kernel tests may run, is that much slower. */
const patience = Number(process.env.FAIRLEAD_PATIENCE ?? 1);

/** Minutes each: loads that go on, statistics, a virtual machine. `npm run test:kernel-long` runs them. */
const LONG_KERNEL_TESTS = [
  "tests/kernel/balance.test.ts",
  "tests/kernel/churn.long.test.ts",
  "tests/kernel/ipvs.test.ts",
  "tests/kernel/sequences.test.ts",
  "tests/kernel/updates.test.ts",
  "tests/kernel/vectors.ipvs.test.ts",
] as const;

export default defineConfig({
  test: {
    // Two cores: more workers only take each other's time.
    maxWorkers: 2,
    projects: [
      { test: { name: "unit", ...unit, testTimeout: 60_000 } },
      {
        plugins: [
          cloudflareTest({
            wrangler: { configPath: "./wrangler.toml" },
            miniflare: {
              // Every request looks for a newer configuration first.
              bindings: { REFRESH_SECONDS: "0", MAX_STALE_SECONDS: "0" },
              /** Every pod: tells what it was asked. */
              outboundService: ({ url, method, headers }: Request) =>
                Response.json({ url, method, headers: Object.fromEntries(headers) }),
            },
          }),
        ],
        test: { name: "worker", include: ["tests/worker/**/*.test.ts"], testTimeout: 20_000 },
      },
      {
        test: {
          name: "e2e",
          include: ["tests/e2e/**/*.test.ts"],
          fileParallelism: false,
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: "kernel",
          include: ["tests/kernel/**/*.test.ts"],
          exclude: [...LONG_KERNEL_TESTS],
          fileParallelism: false,
          testTimeout: 180_000 * patience,
          hookTimeout: 120_000 * patience,
        },
      },
      {
        test: {
          name: "kernel-long",
          include: [...LONG_KERNEL_TESTS],
          fileParallelism: false,
          testTimeout: 60_000 * patience,
          hookTimeout: 120_000 * patience,
        },
      },
      {
        test: {
          name: "kubernetes",
          include: ["tests/kubernetes/**/*.test.ts"],
          fileParallelism: false,
          testTimeout: 60_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: "package",
          include: ["tests/package.test.ts"],
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
    ],
  },
});
