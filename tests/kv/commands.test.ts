/** `fairlead control`, `push`, `generations` and `rollback` as a person runs them. */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { UsageError } from "../../cli/failure.ts";
import { POINTER_KEY } from "../../edge-config/pointer.ts";
import { type KvServer, startKvServer } from "./kv-server.ts";

const MANIFESTS = `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: web, namespace: shop }
spec:
  defaultBackend: { service: { name: web, port: { number: 80 } } }
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: shop }
spec: { ports: [{ port: 80 }] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: web-1, namespace: shop, labels: { kubernetes.io/service-name: web } }
addressType: IPv4
ports: [{ port: 8080 }]
endpoints: [{ addresses: [10.0.0.5] }]
`;

let kv: KvServer;
let folder: string;
let control: ChildProcess;
let url: string;

const environment = (): NodeJS.ProcessEnv => ({
  PATH: process.env.PATH,
  FAIRLEAD_KV_API: kv.baseUrl,
  FAIRLEAD_KV_NAMESPACE: kv.namespaceId,
  FAIRLEAD_KV_TOKEN: kv.token,
  FAIRLEAD_CONFIG_KEY: "c".repeat(32),
  FAIRLEAD_CONTROL_TOKEN: "operator-0123456789",
});

function fairlead(words: readonly string[], changes: NodeJS.ProcessEnv = {}): ChildProcess {
  return spawn(process.execPath, ["cli/main.ts", ...words], {
    env: { ...environment(), ...changes },
    stdio: "pipe",
  });
}

async function run(
  words: readonly string[],
  input = "",
  changes: NodeJS.ProcessEnv = {},
): Promise<{ code: number; out: string; err: string }> {
  const child = fairlead(words, changes);
  child.stdin?.on("error", () => {}); // It may end before it has read.
  child.stdin?.end(input);
  const [out, err, [code]] = await Promise.all([
    text(child.stdout as NodeJS.ReadableStream),
    text(child.stderr as NodeJS.ReadableStream),
    once(child, "exit") as Promise<[number]>,
  ]);
  return { code, out, err };
}

beforeAll(async () => {
  kv = await startKvServer();
  folder = await mkdtemp(join(tmpdir(), "fairlead-control-"));
  await writeFile(join(folder, "web.yaml"), MANIFESTS);
  control = fairlead(["control", "--listen", "127.0.0.1:0", "--log", "json"]);
  for await (const line of control.stdout ?? []) {
    url = /ready (\S+)/.exec(String(line))?.[1] ?? "";
    break;
  }
}, 30_000);

afterAll(async () => {
  if (control.exitCode === null && control.kill("SIGKILL")) await once(control, "exit");
  await kv.close();
  await rm(folder, { recursive: true, force: true });
});

test("a folder is pushed, and so is standard input; both are live when the command ends", async () => {
  const first = await run(["push", "-f", folder, "--control", url, "--cluster", "eu"]);
  expect(first).toMatchObject({
    code: 0,
    err: "",
    out: "eu: 1 ingresses, 1 services, 1 endpoints; live as generation 1\n",
  });
  expect(kv.store.has(POINTER_KEY)).toBe(true);
  const second = await run(
    ["push", "-f", "-", "--control", url, "--cluster", "eu"],
    MANIFESTS.replace("10.0.0.5", "10.0.0.6"),
  );
  expect(second.out).toContain("live as generation 2");
  expect([...kv.store.values()].join()).toContain("10.0.0.6:8080");
});

test("an earlier generation comes back and goes again", async () => {
  expect((await run(["generations", "--control", url])).out).toMatch(/^2 {2}\S+ {2}live\n1 {2}\S+\n$/);
  expect((await run(["rollback", "1", "--control", url])).out).toContain(
    "generation 1 is live again, as generation 3",
  );
  expect((await run(["rollback", "--resume", "--control", url])).code).toBe(0);
  expect(await run(["rollback", "77", "--control", url])).toMatchObject({
    code: 1,
    err: expect.stringContaining("Generation 77 is not kept"),
  });
});

test.each([
  ["a file that is not there", ["push", "-f", "/no/such/file.yaml"], {}, 1, "no/such/file"],
  ["a broken manifest", ["push", "-f", "-"], {}, 1, "nothing was changed"],
  ["a wrong token", ["push", "-f", "-"], { FAIRLEAD_CONTROL_TOKEN: "wrong" }, 1, "401"],
  ["no files", ["push"], {}, 2, "-f PATH is missing"],
  ["a cluster that is no label", ["push", "-f", "-", "--cluster", "../x"], {}, 2, "DNS label"],
  ["neither a generation nor --resume", ["rollback"], {}, 2, "--resume"],
] as const)("%s is one sentence", async (_, words, changes, code, sentence) => {
  const result = await run([...words, "--control", url], "a: [", changes);
  expect(result).toMatchObject({ code, out: "" });
  expect(result.err).toContain(sentence);
});

test.each([
  ["no namespace", [], { FAIRLEAD_KV_NAMESPACE: "" }, "--kv-namespace"],
  ["no account", [], { FAIRLEAD_KV_API: "" }, "--account"],
  ["a KV API that is no URL", ["--kv-api", "nowhere"], {}, "--kv-api takes a URL"],
  ["a token over plain HTTP", ["--kv-api", "http://kv.example"], {}, "must be https"],
  ["a short operator token", [], { FAIRLEAD_CONTROL_TOKEN: "short" }, "at least 16"],
  ["no token on an open address", ["--listen", ":0"], { FAIRLEAD_CONTROL_TOKEN: "" }, "loopback only"],
  ["a wrong cluster token", [], { FAIRLEAD_PUSH_TOKENS: "eu" }, "cluster=token"],
  ["a debounce that is no number", ["--debounce", "soon"], {}, "number"],
] as const)("control with %s says so as wrong usage", async (_, words, changes, sentence) => {
  // In this process: these end before anything is started.
  for (const [name, value] of Object.entries({ ...environment(), ...changes })) vi.stubEnv(name, value);
  const { buildProgram } = await import("../../cli/main.ts");
  const error = await buildProgram()
    .parseAsync(["control", "--listen", "127.0.0.1:0", ...words], { from: "user" })
    .catch((reason: unknown) => reason);
  vi.unstubAllEnvs();
  expect(error).toBeInstanceOf(UsageError);
  expect((error as UsageError).message).toContain(sentence);
});

test("a short FAIRLEAD_CONFIG_KEY ends the service with a sentence", async () => {
  const result = await run(["control", "--listen", "127.0.0.1:0"], "", { FAIRLEAD_CONFIG_KEY: "short" });
  expect(result.code).not.toBe(0);
  expect(result.err).toContain("at least 32 are needed");
});

test("SIGTERM ends the service, and its history is saved", async () => {
  control.kill("SIGTERM");
  const [code] = (await once(control, "exit")) as [number];
  expect(code).toBe(0);
  expect(kv.store.has("history")).toBe(true);
});
