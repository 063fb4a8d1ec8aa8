/**
 * The NAT compiler as the agent, `nat render`, `nat trace` and `explain` use it: fed with states of the cluster.
 *
 * In: settings and states. Out: a `Nat` that has been told what differs, and what that was. Changes are gathered until
 * `handOver`, because a plan of the compiler must not see changes that came while it is carried out.
 */

import { BlockList } from "node:net";
import type { Diagnostic } from "../cluster/diagnostic.ts";
import { type ExposedService, missingConfigMap } from "../cluster/exposed-services.ts";
import type { ClusterModel, ConfigMap, IpFamily, Node, ObjectName } from "../cluster/model.ts";
import { type NatSettings as CompilerSettings, createNat, type Nat } from "../wasm-nat/nat.ts";
import { findUntranslated, type OwnPorts, readTranslatedServices } from "./exposed-services.ts";
import { resolveLocalDetector } from "./local-detector.ts";
import { type NodeAddresses, namesLoopback, nodeAddresses } from "./node-addresses.ts";
import { isEmptyChange, ModelDifference, type ObjectChanges } from "./object-changes.ts";
import type { NatSettings } from "./settings.ts";

/** Label of a Node that says where it stands. */
const ZONE = "topology.kubernetes.io/zone";

export interface ClusterCompilerOptions {
  readonly nat: Nat;
  readonly settings: NatSettings;
  readonly families: readonly IpFamily[];
  /** For a family without addresses in the Node object; default: those of this machine's interfaces. */
  readonly interfaces?: () => readonly string[];
  /**
   * Also this node's, after those of the Node object. IPVS has to know every address that has node ports, and a trace
   * every address; rules of the other backends let the kernel's routing table tell.
   */
  readonly furtherAddresses?: () => readonly string[];
  /** Where the agent itself answers. */
  readonly ownPorts?: OwnPorts;
}

/** What one ConfigMap of exposed ports comes to. */
interface ExposedPorts {
  readonly configMap: ObjectName;
  readonly exposed: readonly ExposedService[];
  /** About the ConfigMap alone. */
  readonly diagnostics: readonly Diagnostic[];
}

export class ClusterCompiler {
  readonly nat: Nat;
  readonly #options: ClusterCompilerOptions;
  readonly #difference: ModelDifference;
  readonly #waiting: ObjectChanges[] = [];
  readonly #configMaps = new Map<ObjectName, ConfigMap>();
  #node: Node | undefined;
  #exposedPorts: readonly ExposedPorts[] = [];
  #exposed: readonly ExposedService[] = [];
  /** About the ConfigMaps of exposed ports, and the Services that they name. */
  #diagnostics: readonly Diagnostic[] = [];
  /** As it was handed to the compiler last, so that a Node whose status ticks changes nothing. */
  #configured = "";

  constructor(options: ClusterCompilerOptions) {
    const { settings } = options;
    this.nat = options.nat;
    this.#options = options;
    this.#difference = new ModelDifference(settings.node, configMapNames(settings));
  }

  /** Notes what differs from the state before; `undefined`: nothing that matters here. */
  note(model: ClusterModel): ObjectChanges | undefined {
    const changes = this.#difference.take(model);
    if (isEmptyChange(changes)) return undefined;
    if (changes.node !== undefined) this.#node = changes.node ?? undefined;
    for (const [name, configMap] of changes.configMaps) {
      if (configMap === null) this.#configMaps.delete(name);
      else this.#configMaps.set(name, configMap);
    }
    if (changes.configMaps.size > 0) this.#readExposed();
    if (changes.configMaps.size > 0 || this.#exposed.some(({ service }) => changes.touched.has(service)))
      this.#diagnostics = this.#exposedPorts.flatMap(({ configMap, exposed, diagnostics }) => [
        ...diagnostics,
        ...findUntranslated(configMap, exposed, model),
      ]);
    this.#waiting.push(changes);
    return changes;
  }

  /** Tells the compiler everything that was noted. Throws where it does not take the settings. */
  handOver(): void {
    this.#configure();
    for (const changes of this.#waiting.splice(0)) this.nat.apply(changes);
  }

  /** This node's object, as noted last. */
  node(): Node | undefined {
    return this.#node;
  }

  exposed(): readonly ExposedService[] {
    return this.#exposed;
  }

  /**
   * Where node ports are: this node's addresses as the settings choose among them; `undefined` for all of them. Ranges choose
   * among those of the interfaces, too, as the rules do.
   */
  nodePortAddresses(): readonly string[] | undefined {
    const { settings, interfaces } = this.#options;
    return nodePortAddresses(settings, this.#addresses(), () => nodeAddresses(undefined, interfaces));
  }

  /** About ConfigMaps and the Node, then about everything that was handed over. */
  diagnostics(): readonly Diagnostic[] {
    const { settings, families } = this.#options;
    const { diagnostics } = resolveLocalDetector(settings, families, this.#node);
    return [...this.#diagnostics, ...diagnostics, ...this.nat.diagnostics()];
  }

  /** The node has other addresses than were handed over last. */
  isOutdated(): boolean {
    return JSON.stringify(this.#wantedSettings()) !== this.#configured;
  }

  #configure(): void {
    const wanted = this.#wantedSettings();
    const text = JSON.stringify(wanted);
    if (text === this.#configured) return;
    this.nat.configure(wanted);
    this.#configured = text;
  }

  #wantedSettings(): CompilerSettings {
    const { settings, families } = this.#options;
    return compilerSettings(settings, families, this.#node, this.#exposed, this.#addresses());
  }

  #addresses(): NodeAddresses {
    const { interfaces, furtherAddresses } = this.#options;
    const own = nodeAddresses(this.#node, interfaces);
    if (furtherAddresses === undefined) return own;
    const further = nodeAddresses(undefined, furtherAddresses);
    return {
      IPv4: [...new Set([...own.IPv4, ...further.IPv4])],
      IPv6: [...new Set([...own.IPv6, ...further.IPv6])],
    };
  }

  #readExposed(): void {
    const { settings, ownPorts = new Map() } = this.#options;
    const { tcpServices, udpServices } = settings;
    this.#exposedPorts = [[tcpServices, "TCP"] as const, [udpServices, "UDP"] as const].flatMap(
      ([name, protocol]): readonly ExposedPorts[] => {
        if (name === undefined) return [];
        const configMap = this.#configMaps.get(name);
        return configMap === undefined
          ? [{ configMap: name, exposed: [], diagnostics: [missingConfigMap(name, protocol)] }]
          : [{ configMap: name, ...readTranslatedServices(configMap, protocol, ownPorts) }];
      },
    );
    this.#exposed = this.#exposedPorts.flatMap(({ exposed }) => exposed);
  }
}

export async function createClusterCompiler(
  settings: NatSettings,
  families: readonly IpFamily[],
  furtherAddresses: () => readonly string[] = () => [],
): Promise<ClusterCompiler> {
  return new ClusterCompiler({ nat: await createNat(), settings, families, furtherAddresses });
}

export function configMapNames({ tcpServices, udpServices }: NatSettings): readonly ObjectName[] {
  return [...new Set([tcpServices, udpServices])].filter((name) => name !== undefined);
}

function compilerSettings(
  settings: NatSettings,
  families: readonly IpFamily[],
  node: Node | undefined,
  exposed: readonly ExposedService[],
  addresses: NodeAddresses,
): CompilerSettings {
  const zone = node?.meta.labels[ZONE];
  return {
    backend: settings.backend,
    node: { name: settings.node, ...(zone === undefined ? {} : { zone }), addresses },
    families,
    localDetector: resolveLocalDetector(settings, families, node).detector,
    masqueradeAll: settings.masqueradeAll,
    dropInvalid: settings.dropInvalid,
    masqueradeBit: settings.masqueradeBit,
    nodePortAddresses: settings.nodePortAddresses.map((which) =>
      typeof which === "string" ? which : which.cidr,
    ),
    serviceCidrs: settings.serviceCidrs,
    exposed,
    ...(settings.ipvs?.scheduler === undefined ? {} : { ipvsScheduler: settings.ipvs.scheduler }),
    ipvsExcluded: settings.ipvs?.excludedCidrs ?? [],
  };
}

/** Of its range the one address that programs use. */
const LOOPBACK = "127.0.0.1";

function nodePortAddresses(
  settings: NatSettings,
  addresses: NodeAddresses,
  ofInterfaces: () => NodeAddresses,
): readonly string[] | undefined {
  const chosen = new Set<string>();
  const hasLoopback = settings.backend !== "ipvs" && namesLoopback(settings.nodePortAddresses);
  const loopback = hasLoopback ? [LOOPBACK] : [];
  for (const which of settings.nodePortAddresses) {
    if (which === "all") return undefined;
    const among = which === "primary" ? [addresses] : [addresses, ofInterfaces()];
    const own = among.flatMap(({ IPv4, IPv6 }) => [IPv4, IPv6]);
    const found =
      which === "primary"
        ? own.flatMap((all) => all.slice(0, 1))
        : [...own.flat(), ...loopback].filter((address) => rangeHolds(which.cidr, address));
    for (const address of found) chosen.add(address);
  }
  return [...chosen];
}

function rangeHolds(cidr: string, address: string): boolean {
  const [base = "", bits = ""] = cidr.split("/");
  const kind = (text: string): "ipv4" | "ipv6" => (text.includes(":") ? "ipv6" : "ipv4");
  const range = new BlockList();
  range.addSubnet(base, Number(bits), kind(base));
  return kind(base) === kind(address) && range.check(address, kind(address));
}
