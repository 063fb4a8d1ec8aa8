/**
 * One endpoint changed, at sizes: for Fairlead from the event that the API server sends to the first packet that meets the
 * new endpoint; for the peers the program alone that puts the change into the kernel, without whatever calls it.
 */
import type { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { parse } from "yaml";
import { AgentRunner, type Programmer, type RunningAgent } from "../../tests/kernel/agent.ts";
import { Lab } from "../../tests/kernel/lab.ts";
import { must } from "../../tests/kernel/netns.ts";
import { eventually, WITH_DETECTOR } from "../../tests/kernel/node-under-test.ts";
import {
  type BulkService,
  bulkServices,
  OTHER_REAL_ENDPOINT,
  REAL_ENDPOINT,
  SERVICE_PORT,
} from "./cluster.ts";
import { iptablesLeast, iptablesPartial, nftablesChange } from "./kube-proxy-shape.ts";
import { load, type Subject } from "./subjects.ts";

/** A node that is loaded and stays so, and whose last Service's one endpoint can be changed. */
export interface Changeable {
  /** Milliseconds that a change takes. */
  readonly change: () => Promise<number>;
  readonly stop: () => Promise<void>;
}

/** What one transaction has to say is said within this time. */
const SETTLED_MS = 200;

/** `{"add": {"element": {"elem": {"set": […]}}}}` and its like; what is no element counts as one operation. */
function elementsOf(line: string): number {
  const [operation] = Object.values(JSON.parse(line) as Readonly<Record<string, NftOperation>>);
  return operation?.element?.elem?.set?.length ?? 1;
}

interface NftOperation {
  readonly element?: { readonly elem?: { readonly set?: readonly unknown[] } };
}

const DAEMON_SET = join(import.meta.dirname, "../../deploy/kubernetes/agent/daemon-set.yaml");

/** Of the environment that the DaemonSet gives the agent, what is written there. */
function deployedVariables(): NodeJS.ProcessEnv {
  const daemonSet = parse(readFileSync(DAEMON_SET, "utf8")) as DaemonSet;
  const env = daemonSet.spec.template.spec.containers[0]?.env ?? [];
  const variables = env.flatMap(({ name, value }) => (value === undefined ? [] : [[name, value] as const]));
  if (variables.length === 0) throw new Error(`${DAEMON_SET} gives the agent no environment`);
  return Object.fromEntries(variables);
}

interface DaemonSet {
  readonly spec: {
    readonly template: {
      readonly spec: {
        readonly containers: readonly {
          readonly env?: readonly { readonly name: string; readonly value?: string }[];
        }[];
      };
    };
  };
}

/** The endpoint that is not `current`. */
function other(current: string): string {
  return current === REAL_ENDPOINT ? OTHER_REAL_ENDPOINT : REAL_ENDPOINT;
}

export class ChangingAgent implements Changeable {
  readonly #lab: Lab;
  readonly #runner: AgentRunner;
  readonly #api: ApiServer;
  readonly #agent: RunningAgent;
  readonly #clusterIP: string;
  #endpoint = REAL_ENDPOINT;

  private constructor(lab: Lab, runner: AgentRunner, api: ApiServer, agent: RunningAgent, clusterIP: string) {
    this.#lab = lab;
    this.#runner = runner;
    this.#api = api;
    this.#agent = agent;
    this.#clusterIP = clusterIP;
  }

  static async start(programmer: Programmer, count: number, endpointsEach: number): Promise<ChangingAgent> {
    const lab = await Lab.build({
      label: `bench-${count}-${programmer.variant ?? "n"}`,
      podNetwork: "routed",
    });
    const runner = new AgentRunner(lab, programmer, deployedVariables());
    const api = await ApiServer.start(lab, count, endpointsEach);
    const agent = runner.start("--kubeconfig", api.kubeconfig, ...WITH_DETECTOR);
    const clusterIP = bulkServices(count, endpointsEach).at(-1)?.clusterIP ?? "";
    const changing = new ChangingAgent(lab, runner, api, agent, clusterIP);
    await eventually(
      () => changing.#answer(),
      (answer) => answer === REAL_ENDPOINT,
      `the agent to program ${count} Services; it said: ${agent.output}`,
      120,
    );
    return changing;
  }

  async change(): Promise<number> {
    this.#endpoint = other(this.#endpoint);
    const sentAt = await this.#api.change(this.#endpoint);
    // One probe after the other, each well under a millisecond: nothing else would see when the kernel has the change.
    while ((await this.#answer()) !== this.#endpoint) {
      if (process.hrtime.bigint() - sentAt > 30_000_000_000n)
        throw new Error(`a change did not arrive: ${this.#agent.output}`);
    }
    return Number(process.hrtime.bigint() - sentAt) / 1e6;
  }

  /** Resident memory of the agent, in MiB. */
  residentMiB(): number {
    return residentKiB(this.#agent.pid) / 1024;
  }

  /** Elements that the kernel reports as added or deleted by one change. */
  async elementsOfOneChange(): Promise<number> {
    const monitor = this.#lab.namespaces.spawn("node-a", "nft", ["-j", "monitor"], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    if (monitor.stdout === null) throw new Error("no output of nft monitor");
    const lines: string[] = [];
    createInterface({ input: monitor.stdout }).on("line", (line) => lines.push(line));
    // Until the monitor listens it misses changes.
    await eventually(
      () => this.change(),
      () => lines.length > 0,
      "nft monitor to listen",
    );
    const seen = async (what: string) => {
      const before = lines.length;
      await this.change();
      await eventually(async () => lines.length > before, Boolean, what);
      await new Promise((resolve) => setTimeout(resolve, SETTLED_MS));
    };
    await seen("the change before");
    lines.length = 0;
    await seen("the change");
    monitor.kill("SIGTERM");
    return lines.map(elementsOf).reduce((sum, count) => sum + count, 0);
  }

  async #answer(): Promise<string> {
    const outcome = await this.#lab.probe("pod", "tcp", this.#clusterIP, SERVICE_PORT, 200);
    return outcome.kind === "answered" ? outcome.endpoint : outcome.kind;
  }

  async stop(): Promise<void> {
    await this.#agent.end("SIGTERM");
    await this.#api.stop();
    await this.#lab.remove();
    this.#runner.remove();
  }
}

/** The process that the agent is, below the launchers in between. */
function residentKiB(pid: number): number {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8")
    .trim()
    .split(" ")
    .filter(Boolean)
    .map(Number);
  const own = Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0);
  return Math.max(own, ...children.map(residentKiB));
}

class ApiServer {
  readonly kubeconfig: string;
  readonly #process: ReturnType<typeof spawn>;
  readonly #lines: AsyncIterator<string>;

  private constructor(process: ReturnType<typeof spawn>, lines: AsyncIterator<string>, kubeconfig: string) {
    this.#process = process;
    this.#lines = lines;
    this.kubeconfig = kubeconfig;
  }

  static async start(lab: Lab, count: number, endpointsEach: number): Promise<ApiServer> {
    const script = join(import.meta.dirname, "api-server.ts");
    const words = [count, endpointsEach, count - 1].map(String);
    const child = lab.namespaces.spawn("node-a", process.execPath, [script, ...words], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    if (child.stdout === null) throw new Error("no standard output");
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const { value } = await lines.next();
    return new ApiServer(child, lines, String(value));
  }

  async change(endpoint: string): Promise<bigint> {
    this.#process.stdin?.write(`${endpoint}\n`);
    const { value } = await this.#lines.next();
    return BigInt(value);
  }

  async stop(): Promise<void> {
    const ended = once(this.#process, "exit");
    this.#process.stdin?.end();
    await ended;
  }
}

const PEERS = {
  "kube-proxy's shape, nftables": {
    command: ["nft", "-f", "-"],
    text: (_: readonly BulkService[], changed: BulkService, gone: readonly string[]) =>
      nftablesChange(changed, gone),
  },
  "kube-proxy's shape, iptables-nft": {
    command: ["iptables-nft-restore", "--noflush"],
    text: iptablesPartial,
  },
  "kube-proxy's shape, iptables-legacy": {
    command: ["iptables-legacy-restore", "--noflush"],
    text: iptablesPartial,
  },
  "least possible, iptables-nft": { command: ["iptables-nft-restore", "--noflush"], text: least },
  "least possible, iptables-legacy": { command: ["iptables-legacy-restore", "--noflush"], text: least },
} as const;
export type Peer = keyof typeof PEERS;

function least(_: readonly BulkService[], changed: BulkService, gone: readonly string[]): string {
  return iptablesLeast(changed, gone);
}

/** A node that holds a peer's rules, changed by the peer's program. */
export async function startPeer(peer: Peer, count: number, endpointsEach: number): Promise<Changeable> {
  const { command, text } = PEERS[peer];
  const loaded = peer.replace("least possible", "kube-proxy's shape") as Subject;
  const lab = await Lab.build({
    label: `bench-peer-${Object.keys(PEERS).indexOf(peer)}`,
    podNetwork: "routed",
  });
  const services = bulkServices(count, endpointsEach);
  await load(lab, loaded, services);
  let endpoint = REAL_ENDPOINT;
  return {
    change: async () => {
      const gone = endpoint;
      endpoint = other(endpoint);
      const last = services.at(-1);
      if (last === undefined) throw new Error("no Services");
      const input = text(services, { ...last, endpoints: [endpoint] }, [gone]);
      const [program, ...args] = command;
      const started = performance.now();
      await must("ip", ["netns", "exec", lab.namespaces.real("node-a"), program, ...args], { input });
      return performance.now() - started;
    },
    stop: () => lab.remove(),
  };
}
