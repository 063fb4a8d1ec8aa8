/** The commands as a person runs them: `bin/fairlead.mjs` in a process of its own. */

import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";

const program = join(import.meta.dirname, "../../bin/fairlead.mjs");
const folder = mkdtempSync(join(tmpdir(), "fairlead-compile-"));
afterAll(() => rmSync(folder, { recursive: true }));

interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

function run(arguments_: readonly string[], input = ""): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [program, ...arguments_], (error, out, err) => {
      resolve({ code: typeof error?.code === "number" ? error.code : error === null ? 0 : -1, out, err });
    });
    child.stdin?.end(input);
  });
}

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

const ingress = (annotations = "") => `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { namespace: shop, name: web, annotations: { ${annotations} } }
spec:
  rules: [{ host: shop.example.com, http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: web, port: { number: 80 } } } }] } }]
`;
const service = `
apiVersion: v1
kind: Service
metadata: { namespace: shop, name: web }
spec: { clusterIP: 172.30.0.41, ports: [{ port: 80, targetPort: 8080 }] }
---
apiVersion: v1
kind: Endpoints
metadata: { namespace: shop, name: web }
subsets: [{ addresses: [{ ip: 10.180.0.1 }], ports: [{ port: 8080 }] }]
`;
const good = file("ingress.yaml", ingress());
const pods = file("service.yaml", service);
const bad = file("bad.yaml", ingress("nginx.ingress.kubernetes.io/enable-cors: maybe"));

describe("fairlead compile", () => {
  test("JSON on stdout with sorted keys, the same bytes whatever the order of files, nothing on stderr", async () => {
    const [one, other, piped] = await Promise.all([
      run(["compile", "-f", good, "-f", pods]),
      run(["compile", "-f", pods, good]),
      run(["compile", "-f", "-"], `${ingress()}---${service}`),
    ]);
    expect(one).toMatchObject({ code: 0, err: "" });
    expect(JSON.parse(one.out)).toEqual({
      version: 1,
      hosts: {
        "shop.example.com": {
          matching: "kubernetes",
          routes: [{ path: "/", pathType: "Prefix", ingress: "shop/web", backend: "shop/web:80" }],
        },
      },
      backends: {
        "shop/web:80": { namespace: "shop", service: "web", port: "80", endpoints: ["10.180.0.1:8080"] },
      },
    });
    expect(Object.keys(JSON.parse(one.out))).toEqual(["backends", "hosts", "version"]);
    expect([other.out, piped.out]).toEqual([one.out, one.out]);
  });

  test("an error among the diagnostics is exit code 1, and the good is printed all the same", async () => {
    const { code, out, err } = await run(["compile", "-f", bad, "-f", pods, "-f", join(folder, "missing")]);
    expect(code).toBe(1);
    expect(Object.keys(JSON.parse(out).hosts)).toEqual(["shop.example.com"]);
    expect(err).toContain('enable-cors: "maybe" was given');
    expect(err).toMatch(/^error: File .*missing/m);
  });

  test("-o writes the shards and the pointer under their keys", async () => {
    const target = join(folder, "out");
    await run(["compile", "-f", good, "-f", pods, "-o", target]);
    const pointer = JSON.parse(readFileSync(join(target, "pointer"), "utf8"));
    const [shard = ""] = readdirSync(join(target, "s"));
    expect(JSON.stringify(pointer)).toContain(`s/${shard}`);
    expect(readFileSync(join(target, "s", shard), "utf8")).toContain("10.180.0.1:8080");
  });

  test.each([
    [["compile"]],
    [["compile", "-f", good, "--compat", "apache"]],
    [["compile", "-f", good, "--configmap", "x"]],
    [["compile", "-f", good, "--nonsense"]],
    [["explain", "-f", good]],
    [["explain", "-f", good, "/path-only"]],
    [["explain", "-f", good, "http://x/", "-H", "no-colon"]],
    [["lint"]],
  ])("wrong usage is one sentence and exit code 2: %j", async (words) => {
    const { code, out, err } = await run(words);
    expect({ code, out }).toEqual({ code: 2, out: "" });
    expect(err.trim().split("\n")).toHaveLength(1);
  });
});

describe("fairlead explain and lint", () => {
  test("the URL is told from the files, whatever their order", async () => {
    const outcomes = await Promise.all([
      run(["explain", "-f", good, pods, "http://shop.example.com/x/../y", "--json"]),
      run(["explain", "-f", good, "-f", pods, "shop.example.com/x/../y", "--json"]),
      run([
        "explain",
        "http://10.0.0.1/x/../y",
        "-f",
        good,
        "-f",
        pods,
        "-H",
        "Host: shop.example.com",
        "--json",
      ]),
    ]);
    for (const { code, out } of outcomes) {
      expect(code).toBe(0);
      expect(JSON.parse(out)).toMatchObject({
        request: { normalisedPath: "/y" },
        route: { path: "/", ingress: "shop/web" },
        backend: { endpoints: ["10.180.0.1:8080"] },
      });
    }
  });

  test("a control service that is not there is a failure, in one sentence", async () => {
    const { code, err } = await run([
      "explain",
      "--control",
      "http://127.0.0.1:9",
      "http://shop.example.com/",
    ]);
    expect(code).toBe(1);
    expect(err.trim().split("\n")).toHaveLength(1);
  });

  test("lint ends in its summary; --strict fails where work is left", async () => {
    const [plain, json, strict] = await Promise.all([
      run(["lint", "-f", bad, pods]),
      run(["lint", "-f", bad, pods, "--json"]),
      run(["lint", "-f", bad, pods, "--strict"]),
    ]);
    const { summary, ingresses } = JSON.parse(json.out);
    expect(plain.out.trimEnd().endsWith(summary)).toBe(true);
    expect(ingresses[0]).toMatchObject({ ingress: "shop/web", outcome: "needs work" });
    expect([plain.code, json.code, strict.code]).toEqual([0, 0, 1]);
  });
});
