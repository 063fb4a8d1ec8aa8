/**
 * What the source of packets that leave the cluster shall be, in the manner of ip-masq-agent.
 *
 * In: its configuration file, or flags. Out: an `OutboundPolicy`, or sentences about what is wrong; a file with one mistake
 * is refused as a whole, since half a policy may send Pods' addresses where nobody can answer them.
 *
 * The file has ip-masq-agent's keys (`nonMasqueradeCIDRs`, `masqLinkLocal`, `masqLinkLocalIPv6`, `resyncInterval`), and
 * beside them `egress`: a list of `namespace`, `podLabels`, `sourceIPs`.
 */

import { isMap, parseDocument } from "yaml";
import { parseIpAddress, parseIpRange } from "../../cluster/ip-address.ts";
import type { IpFamily } from "../../cluster/model.ts";

export interface OutboundPolicy {
  /** Packets there keep their source; all others get one of the node. A family without any is left alone. */
  readonly nonMasqueradeCidrs: readonly string[];
  /** Masquerade packets to link-local addresses too. */
  readonly masqueradeLinkLocal: Readonly<Record<IpFamily, boolean>>;
  /** The first that fits a Pod decides. */
  readonly egress: readonly EgressRule[];
  /** Ports of masqueraded connections are chosen at random. */
  readonly randomFully: boolean;
}

/** Pods that have a fixed source address where the node owns it. */
export interface EgressRule {
  /** Absent: of every namespace. */
  readonly namespace?: string;
  /** All of them have to be there. */
  readonly podLabels: Readonly<Record<string, string>>;
  /** At most one of a family. */
  readonly sourceIps: Readonly<Partial<Record<IpFamily, string>>>;
}

export type PolicyReading =
  | { readonly kind: "policy"; readonly policy: OutboundPolicy }
  | { readonly kind: "wrong"; readonly problems: readonly string[] };

export const LINK_LOCAL: Readonly<Record<IpFamily, string>> = { IPv4: "169.254.0.0/16", IPv6: "fe80::/10" };

/** ip-masq-agent's own, for a file that names none: private and special ranges (RFC 1918, 6598, 5735, 2544, 5771, 1112). */
const DEFAULT_CIDRS = [
  "10.0.0.0/8",
  "172.16.0.0/12",
  "192.168.0.0/16",
  "100.64.0.0/10",
  "192.0.0.0/24",
  "192.0.2.0/24",
  "192.88.99.0/24",
  "198.18.0.0/15",
  "198.51.100.0/24",
  "203.0.113.0/24",
  "240.0.0.0/4",
];

export function policyFromCidrs(cidrs: readonly string[], randomFully: boolean): OutboundPolicy {
  return {
    nonMasqueradeCidrs: cidrs,
    masqueradeLinkLocal: { IPv4: false, IPv6: false },
    egress: [],
    randomFully,
  };
}

export function readPolicy(text: string, randomFully: boolean): PolicyReading {
  const document = parseDocument(text, { prettyErrors: false });
  const [error] = document.errors;
  if (error !== undefined) return { kind: "wrong", problems: [`it is no YAML: ${error.message}`] };
  if (document.contents !== null && !isMap(document.contents))
    return { kind: "wrong", problems: ["a map of keys is expected, such as nonMasqueradeCIDRs"] };
  const content = (document.toJS() ?? {}) as Readonly<Record<string, unknown>>;
  const problems: string[] = [];
  const complain = (field: string, value: unknown, expected: string): undefined => {
    problems.push(`${field}: ${JSON.stringify(value)} came where ${expected} is expected`);
    return undefined;
  };
  const flag = (field: string): boolean => {
    const value = content[field] ?? false;
    return typeof value === "boolean" ? value : (complain(field, value, "true or false") ?? false);
  };
  const known = new Set([
    "nonMasqueradeCIDRs",
    "masqLinkLocal",
    "masqLinkLocalIPv6",
    "resyncInterval",
    "egress",
  ]);
  for (const key of Object.keys(content)) if (!known.has(key)) problems.push(`${key}: no such key is known`);

  const cidrs = list(content.nonMasqueradeCIDRs ?? DEFAULT_CIDRS, "nonMasqueradeCIDRs", complain).flatMap(
    (value, index) => {
      const range = typeof value === "string" ? parseIpRange(value.trim()) : undefined;
      if (range === undefined) complain(`nonMasqueradeCIDRs[${index}]`, value, "a range such as 10.0.0.0/8");
      return range === undefined ? [] : [range.text];
    },
  );
  const egress = list(content.egress ?? [], "egress", complain).flatMap((value, index) => {
    const rule = readEgress(value, `egress[${index}]`, complain);
    return rule === undefined ? [] : [rule];
  });
  const policy: OutboundPolicy = {
    nonMasqueradeCidrs: cidrs,
    masqueradeLinkLocal: { IPv4: flag("masqLinkLocal"), IPv6: flag("masqLinkLocalIPv6") },
    egress,
    randomFully,
  };
  return problems.length > 0 ? { kind: "wrong", problems } : { kind: "policy", policy };
}

type Complain = (field: string, value: unknown, expected: string) => undefined;

function list(value: unknown, field: string, complain: Complain): readonly unknown[] {
  return Array.isArray(value) ? value : (complain(field, value, "a list") ?? []);
}

function readEgress(value: unknown, field: string, complain: Complain): EgressRule | undefined {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    return complain(field, value, "a map of namespace, podLabels and sourceIPs");
  const { namespace, podLabels = {}, sourceIPs, ...rest } = value as Readonly<Record<string, unknown>>;
  for (const key of Object.keys(rest))
    complain(`${field}.${key}`, rest[key], "namespace, podLabels or sourceIPs");
  if (namespace !== undefined && typeof namespace !== "string")
    return complain(`${field}.namespace`, namespace, "the name of a namespace");
  if (
    typeof podLabels !== "object" ||
    podLabels === null ||
    Object.values(podLabels).some((text) => typeof text !== "string")
  )
    return complain(`${field}.podLabels`, podLabels, "a map of labels");
  if (namespace === undefined && Object.keys(podLabels).length === 0)
    return complain(field, value, "a namespace or podLabels");
  const addresses: Partial<Record<IpFamily, string>> = {};
  for (const [index, text] of list(sourceIPs, `${field}.sourceIPs`, complain).entries()) {
    const address = typeof text === "string" ? parseIpAddress(text) : undefined;
    if (address === undefined || addresses[address.family] !== undefined)
      return complain(`${field}.sourceIPs[${index}]`, text, "one address of each family at most");
    addresses[address.family] = address.text;
  }
  return {
    ...(namespace === undefined ? {} : { namespace }),
    podLabels: podLabels as Readonly<Record<string, string>>,
    sourceIps: addresses,
  };
}
