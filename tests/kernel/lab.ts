/**
 * The network that the packets run through: a node under test with pods, a second node with pods, callers on the wire,
 * and a gateway to the rest of the world, each in a network namespace of its own.
 *
 * ```text
 *   a1  a2  pod                          b1  b2
 *     \  |  /                              \  /
 *     node-a ─── lan (one wire) ────────── node-b
 *                 │         │
 *              client     world
 * ```
 *
 * Everybody's way to everybody leads through node-a, there and back, so that its connection tracking sees both
 * directions even of flows that it does not masquerade. `world` is node-a's default gateway and answers at every address
 * that nobody else has: a packet that node-a leaves untouched is answered with its own destination, which is
 * positive proof, where silence would not be.
 */
import { existsSync } from "node:fs";
import {
  type DualAddress,
  FAMILIES,
  type Family,
  HOSTS,
  type HostName,
  type NamespaceName,
  namespaceOf,
  type Protocol,
} from "./addresses.ts";
import { Namespaces, PATIENCE, removeAbandoned } from "./netns.ts";
import { type Held, type Load, type Outcome, Prober, type RunningLoad } from "./prober.ts";

const NAMES: readonly NamespaceName[] = [
  "lan",
  "node-a",
  "a1",
  "a2",
  "pod",
  "node-b",
  "b1",
  "b2",
  "client",
  "world",
];
const ON_THE_WIRE = ["node-a", "node-b", "client", "world"] as const;
const PODS = { "node-a": ["a1", "a2", "pod"], "node-b": ["b1", "b2"] } as const;
const POD_GATEWAY = { "node-a": HOSTS["node-a-pods"], "node-b": HOSTS["node-b-pods"] } as const;

const HOST_PREFIX: Readonly<Record<Family, number>> = { ipv4: 32, ipv6: 128 };
const SUBNET_PREFIX: Readonly<Record<Family, number>> = { ipv4: 24, ipv6: 64 };

/** Ports on which pods and node-a itself answer; every SCTP port is answered wherever there is a server at all. */
export const POD_TCP_PORTS = [8080, 8443] as const;
export const POD_UDP_PORTS = [5353] as const;
export const HOST_PORT = 7070;

/**
 * How pods hang on their node. `bridged`: one bridge with hairpin ports, which needs the kernel's `br_netfilter` for
 * answers between two pods of the node. `routed`: a link and a host route each.
 */
export type PodNetwork = "bridged" | "routed";

export function canBridge(): boolean {
  return existsSync("/proc/sys/net/bridge/bridge-nf-call-iptables");
}

export interface LabOptions {
  /** Part of the namespaces' names: tells the labs of one process apart. */
  readonly label: string;
  readonly podNetwork?: PodNetwork;
}

export class Lab {
  readonly namespaces: Namespaces;
  readonly prober: Prober;
  readonly #served = new Set<string>();

  private constructor(namespaces: Namespaces, prober: Prober) {
    this.namespaces = namespaces;
    this.prober = prober;
  }

  static async build({ label, podNetwork = "bridged" }: LabOptions): Promise<Lab> {
    await removeAbandoned();
    const namespaces = new Namespaces(label);
    const prober = await Prober.start();
    const lab = new Lab(namespaces, prober);
    try {
      await namespaces.create(NAMES);
      await Promise.all(NAMES.map((name) => namespaces.sysctl(name, SETTINGS)));
      await layWires(namespaces);
      await Promise.all([
        configureNode(namespaces, "node-a", canBridge() ? podNetwork : "routed"),
        configureNode(namespaces, "node-b", "routed"),
        configureClient(namespaces),
        configureWorld(namespaces),
        ...Object.entries(PODS).flatMap(([node, pods]) =>
          pods.map((pod) => configurePod(namespaces, pod, POD_GATEWAY[node as keyof typeof PODS])),
        ),
      ]);
      await lab.#servePods();
      return lab;
    } catch (error) {
      await lab.remove();
      throw error;
    }
  }

  async remove(): Promise<void> {
    this.prober.stop();
    await this.namespaces.remove();
  }

  /** The real name of the namespace that a host is in. */
  netns(host: HostName): string {
    return this.namespaces.real(namespaceOf(host));
  }

  /** Sends one probe between named ends. */
  probe(
    from: HostName,
    protocol: Protocol,
    address: string,
    port: number,
    timeoutMs = 5_000,
    sourcePort = 0,
  ): Promise<Outcome> {
    return this.prober.probe({ ...this.#ends(from, protocol, address, port), sourcePort, timeoutMs });
  }

  /** As `probe`, and the socket stays. */
  hold(
    from: HostName,
    protocol: Protocol,
    address: string,
    port: number,
    sourcePort = 0,
    timeoutMs = 3_000,
  ): Promise<Held> {
    return this.prober.hold({ ...this.#ends(from, protocol, address, port), sourcePort, timeoutMs });
  }

  load(
    from: HostName,
    protocol: Protocol,
    address: string,
    port: number,
    how: Pick<Load, "concurrency" | "pauseMs" | "count" | "timeoutMs">,
  ): RunningLoad {
    return this.prober.load({ ...this.#ends(from, protocol, address, port), ...how });
  }

  #ends(from: HostName, protocol: Protocol, address: string, port: number) {
    const family = address.includes(":") ? "ipv6" : "ipv4";
    return { netns: this.netns(from), protocol, source: HOSTS[from][family], address, port };
  }

  /** Lets a namespace answer on a port in both families; asking twice is asking once. */
  async serve(name: NamespaceName, protocol: "tcp" | "udp" | "sctp", port: number): Promise<void> {
    // One raw socket answers all SCTP ports.
    const key = `${name} ${protocol} ${protocol === "sctp" ? "" : port}`;
    if (this.#served.has(key)) return;
    this.#served.add(key);
    const netns = this.namespaces.real(name);
    await Promise.all(["0.0.0.0", "::"].map((any) => this.prober.serve(netns, protocol, any, port)));
  }

  /** Connections of earlier tests must not decide about later ones. */
  async forgetConnections(): Promise<void> {
    await this.namespaces.run("node-a", "conntrack", ["-F"]);
  }

  /**
   * The same for the table that IPVS has of its own. It cannot be emptied: flows of UDP, which have no end, end two seconds
   * after their last packet from the first call on, and are waited for; TCP's end when somebody dials from the same port.
   */
  async forgetFlowsOfIpvs(): Promise<void> {
    await this.namespaces.must("node-a", "ipvsadm", ["--set", "0", "0", "2"]);
    const deadline = performance.now() + 60_000 * PATIENCE;
    for (;;) {
      const flows = await this.namespaces.must("node-a", "ipvsadm", ["-L", "-n", "-c"]);
      // With port 0 they are what session affinity remembers, for hours.
      if (!/^UDP +\S+ +\S+ +\S+:(?!0 )\d+ /m.test(flows)) return;
      if (performance.now() > deadline)
        throw new Error(`flows of UDP stay in IPVS: ${flows.slice(0, 1_000)}`);
    }
  }

  async #servePods(): Promise<void> {
    const endpoints = (["a1", "a2", "b1", "b2"] as const).flatMap((pod) => [
      ...POD_TCP_PORTS.map((port) => this.serve(pod, "tcp", port)),
      ...POD_UDP_PORTS.map((port) => this.serve(pod, "udp", port)),
      this.serve(pod, "sctp", 9000),
    ]);
    const hosts = (["node-a", "node-b"] as const).map((node) => this.serve(node, "tcp", HOST_PORT));
    await Promise.all([...endpoints, ...hosts]);
  }
}

/** For every namespace: forwarding where asked, answers without rate limits, no redirects, no waiting for addresses. */
const SETTINGS = {
  "ipv4/conf/all/rp_filter": "0",
  "ipv4/conf/default/rp_filter": "0",
  "ipv4/conf/all/send_redirects": "0",
  "ipv4/conf/default/send_redirects": "0",
  "ipv4/conf/all/accept_redirects": "0",
  "ipv4/conf/default/accept_redirects": "0",
  "ipv6/conf/all/accept_redirects": "0",
  "ipv6/conf/default/accept_redirects": "0",
  "ipv6/conf/all/accept_dad": "0",
  "ipv6/conf/default/accept_dad": "0",
  // Hundreds of rejected probes a second to one client: the kernel would fall silent after six.
  "ipv4/icmp_ratemask": "0",
  "ipv4/icmp_ratelimit": "0",
  "ipv6/icmp/ratelimit": "0",
  "?ipv4/icmp_msgs_per_sec": "100000",
  "?ipv4/icmp_msgs_burst": "100000",
} as const;

const FORWARDING = { "ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1" } as const;

async function layWires(namespaces: Namespaces): Promise<void> {
  const pods = Object.entries(PODS).flatMap(([node, names]) =>
    names.map((pod) => [pod, "eth0", node, `veth-${pod}`] as const),
  );
  const wire = ON_THE_WIRE.map((name) => [name, "eth0", "lan", `to-${name}`] as const);
  await namespaces.connect([...wire, ["node-a", "eth1", "lan", "to-node-a-2"], ...pods]);
  await namespaces.ip("lan", [
    "link add lan0 type bridge stp_state 0 mcast_snooping 0",
    "link set lan0 up",
    ...[...ON_THE_WIRE.map((name) => `to-${name}`), "to-node-a-2"].flatMap((link) => [
      `link set ${link} master lan0`,
      `link set ${link} up`,
    ]),
  ]);
}

async function configureNode(
  namespaces: Namespaces,
  node: "node-a" | "node-b",
  podNetwork: PodNetwork,
): Promise<void> {
  await namespaces.sysctl(node, FORWARDING);
  const gateway = POD_GATEWAY[node];
  const pods: readonly HostName[] = PODS[node];
  const lines = ["link set lo up", "link set eth0 up", ...addresses("eth0", HOSTS[node], SUBNET_PREFIX)];
  if (podNetwork === "bridged") {
    lines.push("link add cni0 type bridge stp_state 0 mcast_snooping 0", "link set cni0 up");
    lines.push(...addresses("cni0", gateway, SUBNET_PREFIX));
    for (const pod of pods) {
      lines.push(`link set veth-${pod} master cni0`, `link set veth-${pod} up`);
      // A pod that reaches itself through its Service comes back through the port that it left by.
      lines.push(`link set veth-${pod} type bridge_slave hairpin on`);
    }
  } else {
    for (const pod of pods) {
      lines.push(`link set veth-${pod} up`, ...addresses(`veth-${pod}`, gateway, HOST_PREFIX));
      lines.push(...routes(HOSTS[pod], HOST_PREFIX, `dev veth-${pod}`));
    }
  }
  if (node === "node-a") {
    lines.push("link set eth1 up", ...addresses("eth1", HOSTS["node-a-second"], SUBNET_PREFIX));
    for (const host of ["client", "far", "peer"] as const) {
      lines.push(...routes(HOSTS[host], HOST_PREFIX, "dev eth0"));
    }
    for (const family of FAMILIES) {
      lines.push(
        `route add ${network(POD_GATEWAY["node-b"], family)} via ${HOSTS["node-b"][family]}`,
        `route add default via ${HOSTS.world[family]}`,
      );
    }
  } else {
    for (const family of FAMILIES) {
      const through = `via ${HOSTS["node-a"][family]}`;
      lines.push(`route add default ${through}`);
      lines.push(`route add ${HOSTS["node-c"][family]}/${HOST_PREFIX[family]} ${through}`);
    }
  }
  await namespaces.ip(node, lines);
}

async function configurePod(
  namespaces: Namespaces,
  pod: HostName & NamespaceName,
  gateway: DualAddress,
): Promise<void> {
  await namespaces.ip(pod, [
    "link set lo up",
    "link set eth0 up",
    ...addresses("eth0", HOSTS[pod], HOST_PREFIX),
    ...FAMILIES.map((family) => `route add default via ${gateway[family]} dev eth0 onlink`),
  ]);
}

/** Several callers at once, told apart by the source that a probe is bound to. */
async function configureClient(namespaces: Namespaces): Promise<void> {
  const callers = (["client", "far", "peer", "node-c"] as const).flatMap((host) =>
    addresses("eth0", HOSTS[host], HOST_PREFIX),
  );
  await namespaces.ip("client", [
    "link set lo up",
    "link set eth0 up",
    ...callers,
    ...FAMILIES.map((family) => `route add default via ${HOSTS["node-a"][family]} dev eth0 onlink`),
  ]);
}

async function configureWorld(namespaces: Namespaces): Promise<void> {
  // IPv6 lets datagrams be sent only from addresses that an interface has, unless told so.
  await namespaces.sysctl("world", { "ipv6/ip_nonlocal_bind": "1" });
  const lines = ["link set lo up", "link set eth0 up", ...addresses("eth0", HOSTS.world, SUBNET_PREFIX)];
  for (const family of FAMILIES) {
    const through = `via ${HOSTS["node-a"][family]}`;
    for (const host of ["client", "far", "peer", "node-c", "b1", "b2", "node-a-second"] as const) {
      lines.push(`route add ${HOSTS[host][family]}/${HOST_PREFIX[family]} ${through}`);
    }
    lines.push(`route add ${network(POD_GATEWAY["node-a"], family)} ${through}`);
    // In the main table, where longer prefixes come first; in the table "local" it would swallow the answers too.
    lines.push(`route add local ${family === "ipv4" ? "0.0.0.0/0" : "::/0"} dev lo table main`);
  }
  await namespaces.ip("world", lines);
}

function addresses(
  link: string,
  address: DualAddress,
  prefix: Readonly<Record<Family, number>>,
): readonly string[] {
  return FAMILIES.map(
    (family) =>
      `address add ${address[family]}/${prefix[family]} dev ${link}${family === "ipv6" ? " nodad" : ""}`,
  );
}

function routes(
  address: DualAddress,
  prefix: Readonly<Record<Family, number>>,
  way: string,
): readonly string[] {
  return FAMILIES.map((family) => `route add ${address[family]}/${prefix[family]} ${way}`);
}

/** The subnet of an address, as `ip route` takes it. */
function network(address: DualAddress, family: Family): string {
  const cut = address[family].lastIndexOf(family === "ipv4" ? "." : ":");
  return family === "ipv4" ? `${address.ipv4.slice(0, cut)}.0/24` : `${address.ipv6.slice(0, cut)}:/64`;
}
