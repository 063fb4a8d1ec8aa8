/**
 * HAProxy as the gateway, beside the same HAProxy that passes every request to the pod without a look at it; and what a
 * token costs the Worker to sign, in workerd.
 *
 * The gateway has the very configuration that `fairlead gateway render` writes; the plain one has its global section,
 * time-outs and reuse of connections. Both have one thread, and the pod is a third HAProxy that answers by itself. Counted
 * is the processor's time of the proxy for each request: it decides how many a second there can be, and other programs of
 * the machine change it little.
 */

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createTokenSigner, parseTokenKeys, TOKEN_HEADER } from "../../edge-config/gateway-token.ts";
import { renderHaproxy } from "../../gateway/haproxy/render.ts";
import { writeFiles } from "../../gateway/haproxy/write.ts";
import { bundleModule, WorkerdProcess, workerdVersion } from "../../tests/edge/workerd-process.ts";
import { freePorts } from "../../tests/free-ports.ts";
import type { Bench, BenchOutcome } from "../bench.ts";
import { cpuMicroseconds, ScriptProcess } from "../edge/processes.ts";
import { interleave, median, medianRatio } from "../statistics.ts";

const KEYS = parseTokenKeys(`bench:${Buffer.alloc(32, 7).toString("base64")}`);
const REQUESTS = 8_000;
const CONNECTIONS = 16;
const SIGNATURES = 10_000;

export const bench: Bench = {
  title: "requests through the HAProxy gateway beside a plain HAProxy, and the cost of a token",
  goals: [
    {
      what: "requests for the same processor's time, beside plain",
      measure: "gateway beside plain",
      bound: { atLeast: 0.7 },
    },
    { what: "signing a token (µs of CPU)", measure: "signing", bound: { atMost: 40 } },
    { what: "a token at hand (µs of CPU)", measure: "reusing", bound: { atMost: 4 } },
  ],
  run: async ({ rounds, note }) => {
    const folder = mkdtempSync(join(tmpdir(), "fairlead-bench-gateway-"));
    const children: ChildProcess[] = [];
    const load = new ScriptProcess(join(import.meta.dirname, "..", "edge", "load.ts"));
    try {
      const [pod = 0, plain = 0, gateway = 0, health = 0] = await freePorts(4);
      const start = async (name: string, port: number): Promise<number> => {
        const child = spawn("haproxy", ["-db", "-f", join(folder, name, "haproxy.cfg")], { stdio: "ignore" });
        children.push(child);
        await reachable(port);
        return child.pid ?? -1;
      };
      const rendered = await renderAll(folder, { pod, plain, gateway, health });
      await start("pod", pod);
      const pids = { plain: await start("plain", plain), gateway: await start("gateway", gateway) };
      const ports = { plain, gateway };
      const token = await createTokenSigner(KEYS, 3_600).sign(
        { address: "127.0.0.1", port: pod, scheme: "http", host: "shop.example.com" },
        Date.now(),
      );
      const order = {
        connections: CONNECTIONS,
        hosts: 50,
        paths: ["/", "/cart?n=1"],
        headers: [`${TOKEN_HEADER}: ${token}`],
      };
      for (const port of Object.values(ports)) await load.ask({ ...order, port, requests: 1_000 });
      const costs = await interleave(["plain", "gateway"] as const, rounds, async (subject, round) => {
        note(`round ${round + 1} of ${rounds}: ${subject}`);
        const before = cpuMicroseconds(pids[subject]);
        const { requests, failed } = await load.ask({ ...order, port: ports[subject], requests: REQUESTS });
        if (failed > 0) throw new Error(`${failed} requests failed at the ${subject} HAProxy`);
        return (cpuMicroseconds(pids[subject]) - before) / requests;
      });
      const workerd = await WorkerdProcess.start({
        module: await bundleModule(join(import.meta.dirname, "signing-worker.ts"), { minify: true }),
      });
      const worker = async (path: string): Promise<number> => {
        const before = cpuMicroseconds(workerd.pid);
        const url = `http://127.0.0.1:${workerd.port}${path}&count=${SIGNATURES}`;
        if ((await fetch(url)).status !== 200) throw new Error(`workerd failed at ${path}: ${workerd.log}`);
        return (cpuMicroseconds(workerd.pid) - before) / SIGNATURES;
      };
      const signing: number[] = [];
      const reusing: number[] = [];
      try {
        // First once each, so that the compiler has done its part.
        for (let round = 0; round <= rounds; round++) {
          const [sign, reuse] = [await worker(`/sign?round=${round}`), await worker(`/reuse?round=${round}`)];
          if (round === 0) continue;
          note(`round ${round} of ${rounds}: signing`);
          signing.push(sign);
          reusing.push(reuse);
        }
      } finally {
        await workerd.stop();
      }
      return outcome(costs, signing, reusing, rendered);
    } finally {
      load.stop();
      for (const child of children) child.kill();
      rmSync(folder, { recursive: true, force: true });
    }
  },
};

interface Ports {
  readonly pod: number;
  readonly plain: number;
  readonly gateway: number;
  readonly health: number;
}

/** Writes the three configurations; returns HAProxy's version. */
async function renderAll(folder: string, { pod, plain, gateway, health }: Ports): Promise<string> {
  const files = renderHaproxy({
    keys: KEYS,
    allowedCidrs: ["10.0.0.0/8"],
    allowLoopback: true,
    listen: `127.0.0.1:${gateway}`,
    healthListen: `127.0.0.1:${health}`,
    tlsSecrets: new Map(),
    nameservers: ["127.0.0.1:9"],
    connectTimeoutMs: 5_000,
    drainSeconds: 1,
    maxHeadKibibytes: 32,
    maxConnections: 500,
    folder: join(folder, "gateway"),
    tcpServices: [],
  });
  const whole = files.find(({ name }) => name === "haproxy.cfg")?.text ?? "";
  const oneThread = whole.replace("global\n", "global\n    nbthread 1\n");
  await writeFiles(
    join(folder, "gateway"),
    files.map((file) => (file.name === "haproxy.cfg" ? { ...file, text: oneThread } : file)),
  );
  const common = oneThread
    .slice(0, oneThread.indexOf("resolvers cluster"))
    .split("\n")
    .filter((line) => !/lua-load|errorfile/.test(line))
    .join("\n");
  const write = async (name: string, sections: string): Promise<void> => {
    await writeFiles(join(folder, name), [{ name: "haproxy.cfg", text: "", secret: false }]);
    writeFileSync(join(folder, name, "haproxy.cfg"), `${common}\n${sections}\n`);
  };
  await write(
    "pod",
    `frontend pod\n    bind 127.0.0.1:${pod}\n    http-request return status 200 content-type text/plain string "hello"`,
  );
  await write(
    "plain",
    `frontend plain\n    bind 127.0.0.1:${plain}\n    http-request set-header host shop.example.com\n    default_backend pods\nbackend pods\n    http-reuse always\n    retries 3\n    retry-on empty-response\n    server pod 127.0.0.1:${pod}`,
  );
  return execFileSync("haproxy", ["-v"], { encoding: "utf8" }).split("\n")[0] ?? "";
}

function outcome(
  costs: Readonly<Record<"plain" | "gateway", readonly number[]>>,
  signing: readonly number[],
  reusing: readonly number[],
  haproxy: string,
): BenchOutcome {
  const ratio = medianRatio(costs.plain, costs.gateway);
  const shown = (value: number): string => value.toFixed(1);
  return {
    table: [
      ["", "µs of CPU"],
      ["plain HAProxy, a request", shown(median(costs.plain))],
      ["gateway, a request", shown(median(costs.gateway))],
      ["signing a token", shown(median(signing))],
      ["a token at hand", shown(median(reusing))],
    ],
    measures: {
      "gateway beside plain": ratio,
      signing: median(signing),
      reusing: median(reusing),
    },
    versions: { haproxy, workerd: workerdVersion() },
  };
}

/** Resolves once somebody takes connections there. */
async function reachable(port: number): Promise<void> {
  for (;;) {
    const taken = await new Promise<boolean>((resolve) => {
      const socket = connect(port, "127.0.0.1");
      socket.once("connect", () => {
        socket.destroy();
        resolve(true);
      });
      socket.once("error", () => setTimeout(() => resolve(false), 20));
    });
    if (taken) return;
  }
}
