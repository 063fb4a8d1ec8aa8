/** `fairlead dev` as a program: how it starts, what it refuses, how it ends. */

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ingress } from "./support/edge.ts";
import { FairleadDev } from "./support/fairlead-dev.ts";

let folder: string;
let dev: FairleadDev | undefined;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "fairlead-program-"));
  writeFileSync(join(folder, "a.yaml"), ingress("a", { host: "a.example.com" }));
});

afterEach(async () => {
  await dev?.end();
  dev = undefined;
  rmSync(folder, { recursive: true, force: true });
});

function start(...args: readonly string[]): FairleadDev {
  dev = new FairleadDev(args);
  return dev;
}

function processTree(pid: number): readonly number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
  return [
    pid,
    ...(children === "" ? [] : children.split(" ").flatMap((child) => processTree(Number(child)))),
  ];
}

function isAlive(pid: number): boolean {
  try {
    // A process that has ended and was not waited for yet is no more.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

describe("the end", () => {
  test.each(["SIGINT", "SIGTERM"] as const)("%s ends all of it, with exit code 0", async (signal) => {
    const program = start("-f", folder, "--port", "0", "--control-port", "0");
    await program.ready();
    const processes = processTree(program.pid);
    expect(processes.length).toBeGreaterThan(1);
    expect(await program.end(signal)).toBe(0);
    expect(processes.filter(isAlive)).toEqual([]);
    expect(program.stdout.filter((line) => line !== "")).toEqual([
      expect.stringMatching(/^ready http:\/\/127\.0\.0\.1:\d+$/),
    ]);
  });

  test("SIGKILL, which nobody can catch, leaves no workerd behind", async () => {
    const program = start("-f", folder, "--port", "0", "--control-port", "0");
    await program.ready();
    const processes = processTree(program.pid);
    expect(processes.length).toBeGreaterThan(1);
    expect(await program.end("SIGKILL")).toBe("SIGKILL");
    // The system ends them, and nobody is told; without it the test would wait until its time is over.
    while (processes.some(isAlive)) await new Promise((resolve) => setTimeout(resolve, 10));
  });

  test("a signal while it starts ends it too", async () => {
    const program = start("-f", join(folder, "a.yaml"), "--port", "0", "--control-port", "0");
    await program.waitFor(program.stderr, /a\.example\.com|default\/a/);
    expect(await program.end("SIGTERM")).toBe(0);
    expect(program.stdout).toEqual([]);
  });
});

describe("what is refused", () => {
  test.each([
    ["--port", 8787],
    ["--control-port", 8788],
  ])("%s that is taken: one sentence, exit code 1", async (flag) => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const { port } = other.address() as AddressInfo;
    const ports = { "--port": "0", "--control-port": "0", [flag]: String(port) };
    const program = start("-f", folder, ...Object.entries(ports).flat());
    expect(await program.exit()).toBe(1);
    other.close();
    expect(program.stderr.filter((line) => line !== "")).toEqual([
      `fairlead: Port ${port} of 127.0.0.1 is taken by another program; choose another one with ${flag}.`,
    ]);
  });

  test("a path that does not exist: one sentence, exit code 1", async () => {
    const program = start("-f", join(folder, "nothing.yaml"), "--port", "0", "--control-port", "0");
    expect(await program.exit()).toBe(1);
    expect(program.stderr.filter((line) => line !== "")).toEqual([
      `fairlead: ${join(folder, "nothing.yaml")} cannot be followed: it does not exist.`,
    ]);
  });

  test.each<[string, readonly string[], RegExp]>([
    ["no path", [], /-f PATH is missing/],
    ["standard input", ["-f", "-"], /-f - cannot be followed/],
    ["a port that is none", ["-f", ".", "--port", "http"], /A port from 0 to 65535 is expected/],
    ["a port beyond all", ["-f", ".", "--port", "65536"], /A port from 0 to 65535 is expected/],
    ["a protocol that is none", ["-f", ".", "--protocol", "ftp"], /Allowed choices are http, https/],
    [
      "a ConfigMap without namespace",
      ["-f", ".", "--configmap", "settings"],
      /--configmap takes namespace\/name/,
    ],
    ["a flag that is none", ["-f", ".", "--prot", "80"], /--prot/],
  ])("%s: one sentence, exit code 2", async (_name, args, want) => {
    const program = start(...args);
    expect(await program.exit()).toBe(2);
    expect(program.stdout).toEqual([]);
    expect(program.stderr.filter((line) => line !== "")).toEqual([expect.stringMatching(want)]);
  });
});

describe("https", () => {
  function makeCertificate(names: readonly string[]): { readonly cert: string; readonly key: string } {
    const [first = ""] = names;
    execFileSync(
      "openssl",
      [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-keyout",
        join(folder, `${first}.key`),
        "-out",
        join(folder, `${first}.crt`),
        "-subj",
        `/CN=${first}`,
        "-addext",
        `subjectAltName=${names.map((name) => `DNS:${name}`).join(",")}`,
      ],
      { stdio: "ignore" },
    );
    return {
      cert: readFileSync(join(folder, `${first}.crt`), "utf8"),
      key: readFileSync(join(folder, `${first}.key`), "utf8"),
    };
  }

  test("serves the certificate of the Ingress' Secret by the name asked for, and its own to everybody else", async () => {
    const shop = makeCertificate(["shop.example.com"]);
    const wild = makeCertificate(["wild.example.com", "*.wild.example.com"]);
    const secret = (name: string, { cert, key }: typeof shop): string =>
      `---\n${JSON.stringify({ apiVersion: "v1", kind: "Secret", type: "kubernetes.io/tls", metadata: { name }, stringData: { "tls.crt": cert, "tls.key": key } })}\n`;
    writeFileSync(
      join(folder, "tls.yaml"),
      [
        secret("shop", shop),
        secret("wild", wild),
        ingress("a", {
          name: "shop",
          host: "shop.example.com",
          tls: [{ hosts: ["shop.example.com"], secretName: "shop" }],
        }),
        ingress("a", {
          name: "wild",
          host: "*.wild.example.com",
          tls: [{ hosts: ["*.wild.example.com"], secretName: "wild" }],
        }),
        ingress("a", {
          name: "unlisted",
          host: "wild.example.com",
          tls: [{ hosts: [], secretName: "wild" }],
        }),
        ingress("a", {
          name: "gone",
          host: "gone.example.com",
          tls: [{ hosts: ["gone.example.com"], secretName: "gone" }],
        }),
      ].join(""),
    );
    const program = start("-f", folder, "--port", "0", "--control-port", "0", "--protocol", "https");
    const url = await program.ready();
    expect(url.protocol).toBe("https:");
    const subject = await subjects(Number(url.port));
    expect(await subject("shop.example.com")).toBe("shop.example.com");
    expect(await subject("SHOP.example.com")).toBe("shop.example.com");
    expect(await subject("x.wild.example.com")).toBe("wild.example.com");
    expect(await subject("wild.example.com")).toBe("wild.example.com");
    for (const name of ["gone.example.com", "a.example.com", "nobody.example.org", undefined]) {
      expect(await subject(name)).toBe("localhost");
    }
    await vi.waitFor(
      () =>
        expect(program.stderr).toContainEqual(
          "warning: Ingress default/gone spec.tls[0].secretName: there is no Secret default/gone; clients get the self-signed certificate",
        ),
      { timeout: 10_000 },
    );
  });

  async function subjects(port: number): Promise<(name: string | undefined) => Promise<string>> {
    const { connect } = await import("node:tls");
    return (name) =>
      new Promise((resolve, reject) => {
        const socket = connect(
          {
            host: "127.0.0.1",
            port,
            rejectUnauthorized: false,
            ...(name === undefined ? {} : { servername: name }),
          },
          () => {
            resolve(String(socket.getPeerCertificate().subject.CN));
            socket.destroy();
          },
        );
        socket.on("error", reject);
      });
  }
});
