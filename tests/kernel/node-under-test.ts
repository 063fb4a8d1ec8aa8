/**
 * A lab with an agent for one test file: built before its tests, removed after them; and waiting for what comes soon.
 */
import { afterAll, afterEach, beforeAll } from "vitest";
import { CLUSTER_CIDRS, type Family, type HostName, hostPort } from "./addresses.ts";
import { AgentRunner, type Programmer, type RunningAgent } from "./agent.ts";
import { type Destination, readDestination, serviceNamed } from "./destinations.ts";
import { Lab, type PodNetwork } from "./lab.ts";
import { NODES, objectsOf, writeObjects } from "./manifest.ts";
import { PATIENCE } from "./netns.ts";
import type { Outcome } from "./prober.ts";
import { describeKernel } from "./requirements.ts";
import { type EndpointText, SERVICES, type TestService } from "./services.ts";

export const WITH_DETECTOR = ["--cluster-cidr", `${CLUSTER_CIDRS.ipv4},${CLUSTER_CIDRS.ipv6}`] as const;

/** The three backends, iptables over both of its kernel interfaces. */
export const PROGRAMMERS = {
  nftables: { backend: "nftables" },
  "iptables-nft": { backend: "iptables", variant: "nft" },
  "iptables-legacy": { backend: "iptables", variant: "legacy" },
  /** Only where the kernel has it. */
  ipvs: { backend: "ipvs" },
} as const satisfies Record<string, Programmer>;
export type ProgrammerName = keyof typeof PROGRAMMERS;
/** What every kernel has. IPVS has tests of its own, which run in a virtual machine where it is missing. */
export const ALWAYS_THERE = [
  "nftables",
  "iptables-nft",
  "iptables-legacy",
] as const satisfies readonly ProgrammerName[];
/** Pods hang on their node by a link each. */
const ROUTED: readonly ProgrammerName[] = ["iptables-legacy", "ipvs"];

export class NodeUnderTest {
  readonly lab: Lab;
  readonly agent: AgentRunner;
  readonly #running: RunningAgent[] = [];

  constructor(lab: Lab, agent: AgentRunner) {
    this.lab = lab;
    this.agent = agent;
  }

  get manifest(): string {
    return this.agent.file("cluster.json");
  }

  /** What the agent is to see: these Services, with the Nodes. */
  async write(services: readonly TestService[]): Promise<void> {
    await writeObjects(this.manifest, [...NODES, ...services.flatMap(objectsOf)]);
  }

  /** Programs these Services once. */
  async program(services: readonly TestService[], ...flags: readonly string[]): Promise<void> {
    await this.write(services);
    await this.agent.program(this.manifest, ...WITH_DETECTOR, ...flags);
  }

  /** Starts the agent as it runs on a node; it is ended after the test at the latest. */
  start(...flags: readonly string[]): RunningAgent {
    return this.startWith(...WITH_DETECTOR, ...flags);
  }

  /** The same with these flags alone. */
  startWith(...flags: readonly string[]): RunningAgent {
    const running = this.agent.start("-f", this.manifest, ...flags);
    this.#running.push(running);
    return running;
  }

  async endAgents(): Promise<void> {
    await Promise.all(this.#running.splice(0).map((agent) => agent.end("SIGKILL")));
  }

  /** One probe of a destination as the tables write it. */
  async ask(
    from: HostName,
    destination: string,
    family: Family = "ipv4",
    timeoutMs = 3_000 * PATIENCE,
  ): Promise<string> {
    const { protocol, address, port } = readDestination(destination);
    const outcome = await this.lab.probe(from, protocol, address[family], port, timeoutMs);
    return describe(outcome, { address: address[family], port });
  }

  /** A connection, or a UDP socket with a port of its own, that stays. */
  hold(from: HostName, destination: string, family: Family = "ipv4", sourcePort?: number) {
    const { protocol, address, port } = readDestination(destination);
    return this.lab.hold(from, protocol, address[family], port, sourcePort);
  }

  load(
    from: HostName,
    destination: string,
    how: { concurrency: number; pauseMs?: number; count?: number; family?: Family; timeoutMs?: number },
  ) {
    const { protocol, address, port }: Destination = readDestination(destination);
    const { concurrency, pauseMs = 0, count = 0, family = "ipv4", timeoutMs = 3_000 } = how;
    return this.lab.load(from, protocol, address[family], port, { concurrency, pauseMs, count, timeoutMs });
  }

  /** Asks until the answer is as wanted. */
  async until(want: string, from: HostName, destination: string, family: Family = "ipv4"): Promise<void> {
    await eventually(
      () => this.ask(from, destination, family, 500 * PATIENCE),
      (answer) => answer === want,
      `${from} → ${destination} to be ${want}`,
    );
  }
}

/** `10.180.0.11:8080`, `untouched`, `reset`, `reject`, `silent`, … Masquerade is the vectors' matter. */
export function describe(
  outcome: Outcome,
  asked: { readonly address: string; readonly port: number },
): string {
  switch (outcome.kind) {
    case "answered":
      return outcome.endpoint === asked.address && outcome.endpointPort === asked.port
        ? "untouched"
        : hostPort(outcome.endpoint, outcome.endpointPort);
    case "icmp":
      return "reject";
    case "reset":
    case "silent":
    case "closed":
      return outcome.kind;
    case "error":
      return `error: ${outcome.reason}`;
    default:
      return outcome satisfies never;
  }
}

/** A Service of the list, with these endpoints. */
export function serviceWith(name: string, endpoints: readonly EndpointText[]): TestService {
  return { ...serviceNamed(name), endpoints };
}

/** Tries until `isGood`; what was seen last is part of the complaint when it never is. */
export async function eventually<T>(
  look: () => Promise<T>,
  isGood: (seen: T) => boolean,
  what: string,
  seconds = 15,
): Promise<T> {
  const deadline = performance.now() + seconds * PATIENCE * 1000;
  for (;;) {
    const seen = await look();
    if (isGood(seen)) return seen;
    if (performance.now() > deadline) {
      throw new Error(`waited ${seconds * PATIENCE} s for ${what}; at last: ${JSON.stringify(seen)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** A `describe` with a node for each way of programming it. */
export function describeNode(
  name: string,
  programmers: readonly ProgrammerName[],
  body: (node: () => NodeUnderTest, programmer: Programmer) => void,
): void {
  for (const programmerName of programmers) {
    const programmer: Programmer = PROGRAMMERS[programmerName];
    const podNetwork: PodNetwork = ROUTED.includes(programmerName) ? "routed" : "bridged";
    describeKernel(`${name}, ${programmerName}`, () => {
      let node: NodeUnderTest | undefined;
      beforeAll(async () => {
        const lab = await Lab.build({ label: `n-${programmerName.slice(-6)}`, podNetwork });
        node = new NodeUnderTest(lab, new AgentRunner(lab, programmer));
        await serveWorld(lab);
      });
      afterEach(() => node?.endAgents());
      afterAll(async () => {
        await node?.endAgents();
        await node?.lab.remove();
        node?.agent.remove();
      });
      body(() => {
        if (node === undefined) throw new Error("the lab is not built yet");
        return node;
      }, programmer);
    });
  }
}

/** Whoever asks for a Service's port at an address that no rule knows is answered by the world. */
async function serveWorld(lab: Lab): Promise<void> {
  const ports = SERVICES.flatMap((service) => service.ports.map((text) => text.split(" ")));
  await Promise.all(
    ports.map(([, protocol, port]) => lab.serve("world", protocol as "tcp" | "udp" | "sctp", Number(port))),
  );
}
